"""What all watchers share: one tailer of the feed a process, and the live watchers it feeds.

The hub reads each new stretch of the feed once and hands it to the live watchers; whoever is
not live reads the store at its own pace (`watch`). Why the switch loses and repeats nothing:

1. `place` is how far the hub has come: every row up to it was handed to all who were live then,
   every row behind it was handed to nobody.
2. A stretch is handed over and `place` moved to its end in one step of the loop, without an
   await between: nobody sees one without the other.
3. A watcher that has sent everything up to its own place, and finds it equal to the hub's, joins
   in that same step of the loop. So it gets exactly the stretches that follow.
4. A watcher whose queue is full leaves in the step that would have overfilled it. What stands in
   its queue ends at a known place, and from there it reads the store again: back to 3.

`waits` are woken in the same step. Whoever waits for a message stands in that index before it
looks at the store, so what is folded behind that look wakes it.

What the projector of this process has just committed is handed out from memory, if it begins
where the hub stands: it is what reading would give. All other wake-ups are hints. The store is
asked again at least every `poll_s`, and what it answers decides.
"""

import asyncio
import enum
import heapq
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count

import structlog

from service import errors
from service.api.live import Audience, LiveQueue
from service.api.packing import frame_bounds, packed
from service.api.waits import Waits
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.events import BEFORE_FIRST, Place, Point, Position, end_of
from service.telemetry import Metrics
from service.views.feed import FeedFilter, FeedPage
from service.views.store import Checkpoint, ViewsBatch, ViewsReader
from service.wire.cursor import CursorCodec

_log = structlog.get_logger(__name__)
_EVERYTHING = FeedFilter(unchanged=True)


class Ending(enum.Enum):
    """Why the hub ends its watchers."""

    SHUTTING_DOWN = enum.auto()
    VIEWS_REBUILT = enum.auto()


class Hub:
    """One a process. All of it belongs to the loop it runs on."""

    def __init__(
        self,
        views: ReaderPool[ViewsReader],
        cursors: CursorCodec,
        limits: Limits,
        metrics: Metrics,
        holds: Callable[[Point], Awaitable[bool]],
    ) -> None:
        """`holds` says whether the log still has the event at a point it once had."""
        self._holds = holds
        self._opened_count = 0
        self._views = views
        self._cursors = cursors
        self._limits = limits
        self._metrics = metrics
        self._hinted = asyncio.Event()
        self._live = Audience()
        self.waits = Waits()
        self._waiters: list[tuple[Position, int, asyncio.Future[None]]] = []
        self._waiter_numbers = count()
        self._cancelled = 0
        self._draining = False
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self.generation = 0
        self.point = Point(Place(BEFORE_FIRST), 0)

    @property
    def place(self) -> Place:
        """How far the views are, as the hub has handed it out."""
        return self.point.place

    @property
    def ending(self) -> "asyncio.Future[Ending]":
        """Resolved when the watchers of this generation have to end."""
        return self._ending

    async def start(self) -> None:
        """Stand at the views' checkpoint. Raises ViewsUnavailable."""
        checkpoint = await self._views.run(lambda views: views.checkpoint())
        self.generation = checkpoint.generation
        self._opened_count = self._views.opened_count
        self._move(end_of(checkpoint.mark))

    async def run(self) -> None:
        """Follow the views until cancelled; whatever else happens is logged and tried again."""
        failing = False
        while True:
            self._hinted.clear()
            try:
                await self._follow()
            except errors.RetryLater as error:
                if not failing:
                    _log.warning("the views cannot be followed, trying again", reason=str(error))
                failing = True
                await asyncio.sleep(self._limits.retry_s)
                continue
            except Exception:  # noqa: BLE001
                # Even a defect must not end it: every watcher would hang without a word.
                _log.exception("following the views failed, trying again")
                await asyncio.sleep(self._limits.retry_s)
                continue
            if failing:
                _log.info("the views are followed again")
            failing = False
            try:
                async with asyncio.timeout(self._limits.poll_s):
                    await self._hinted.wait()
            except TimeoutError:
                pass

    def hint(self) -> None:
        """The views may have moved on."""
        self._hinted.set()

    def advanced(self, batch: ViewsBatch | None) -> None:
        """They have: the projector of this process has committed that, or something else.

        What continues where the hub stands is handed out as it is. To be woken and to read it again
        would take a fifth of the way from a callback to a watcher.
        """
        if batch is None or not self._continued_by(batch):
            self.hint()
            return
        rows = [entry.row for entry in batch.feed]
        page = FeedPage(self.generation, rows, end_of(batch.until))
        self._hand_out_page(page, self.place)

    async def reached(self, position: Position, timeout_s: float) -> None:
        """Wait until the views have folded that event in, all of it.

        Raises ViewsBehind after the timeout, ShuttingDown in a drain.
        """
        if self.place >= Place(position):
            return
        if self._draining:
            raise errors.ShuttingDown
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (position, next(self._waiter_numbers), waiter))
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            raise errors.ViewsBehind(
                f"the views stand at position {self.place.position} and did not reach "
                f"{position} in time: try again"
            ) from None
        finally:
            if waiter.cancelled():
                self._forget_cancelled()

    def join(self, queue: LiveQueue) -> None:
        """From now on `queue` gets what follows `place`."""
        self._live.add(queue)

    def leave(self, queue: LiveQueue) -> None:
        """Idempotent."""
        self._live.discard(queue)

    def drain(self) -> None:
        """End every watcher, and everybody who waits for the views. Idempotent."""
        self._draining = True
        self._end_watchers(Ending.SHUTTING_DOWN)
        for _, _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(errors.ShuttingDown())
        self._waiters.clear()
        self._cancelled = 0
        self.waits.end(errors.ShuttingDown)

    def _end_watchers(self, ending: Ending) -> None:
        if not self.ending.done():
            self.ending.set_result(ending)
        for queue in self._live:
            queue.interrupt()
        self._live.clear()

    def _continued_by(self, batch: ViewsBatch) -> bool:
        """Not by reports that stand further back, and no more than a frame's worth at once."""
        return (
            batch.since.generation == self.generation
            and Place(batch.since.mark.position) == self.place
            and not batch.refolded
            and len(batch.feed) <= self._limits.frame_changes_max
        )

    async def _follow(self) -> None:
        after, generation = self.place, self.generation
        wanted = bool(self._live or self.waits)

        def next_few(views: ViewsReader) -> tuple[Checkpoint, FeedPage | None]:
            # A frame's worth, with the checkpoint: nearly always all there is. On SQLite it is read
            # on the loop, for a millisecond at most: two reads on a thread were a third of what a
            # change took from its commit to a watcher.
            checkpoint = views.checkpoint()
            if not wanted or checkpoint.generation != generation or after >= _until(checkpoint):
                return checkpoint, None
            return checkpoint, self._read(views, after, checkpoint, self._limits.frame_changes_max)

        try:
            checkpoint, page = await self._views.run_short(next_few)
        except errors.CursorExpired:
            page, checkpoint = None, await self._views.run(lambda views: views.checkpoint())
        if checkpoint.generation != self.generation or await self._replaced():
            self._end_watchers(Ending.VIEWS_REBUILT)
            self._ending = asyncio.get_running_loop().create_future()
            self.generation = checkpoint.generation
            self._move(end_of(checkpoint.mark))
            self.waits.wake_all()
            return
        if page is not None and not self._hand_out_page(page, after):
            return
        until = end_of(checkpoint.mark)
        while self.place < until.place:
            if not self._live and not self.waits:
                self._move(until)
                return
            after = self.place
            try:
                page = await self._views.run(partial(self._read_page, after, checkpoint))
            except errors.CursorExpired:
                self._leave_behind(until)
                continue
            if not self._hand_out_page(page, after):
                return

    def _read_page(self, after: Place, checkpoint: Checkpoint, views: ViewsReader) -> FeedPage:
        return self._read(views, after, checkpoint, self._limits.catch_up_rows_max)

    def _read(
        self, views: ViewsReader, after: Place, checkpoint: Checkpoint, rows_max: int
    ) -> FeedPage:
        bytes_max = self._limits.frame_bytes_max
        return views.feed(after, checkpoint.mark, _EVERYTHING, rows_max, bytes_max)

    async def _replaced(self) -> bool:
        """A database that was lost and came back may lack the last events, and hold others there.

        Then nobody can go on from what he has heard: the streams end, and each client's cursor is
        held against the log when it comes again.
        """
        if self._views.opened_count == self._opened_count:
            return False
        held = await self._holds(self.point)
        self._opened_count = self._views.opened_count
        if not held:
            _log.error("the log has lost events that were handed out: the watchers start anew")
        return not held

    def _hand_out_page(self, page: FeedPage, after: Place) -> bool:
        """False if the views may be others by now, or the hub stands elsewhere than where the page
        begins; then nothing was handed out."""
        if (
            page.generation != self.generation
            or self._views.opened_count != self._opened_count
            or self.place != after
        ):
            self._hinted.set()
            return False
        # No await from here on: steps 2 and 3 above.
        self._hand_out(page)
        self._move(page.end)
        return True

    def _leave_behind(self, until: Point) -> None:
        """Retention, in another process, has removed what was to be handed out next.

        The live watchers are told by the store, as everybody who reads there.
        """
        for queue in self._live:
            queue.leave_behind()
        self._live.clear()
        if self.place < until.place:
            self._move(until)
        self.waits.wake_all()

    def _hand_out(self, page: FeedPage) -> None:
        self.waits.hear(page.rows)
        for group in self._live.of(page.rows):
            # One encoding for a group, however many they are.
            rows = list(filter(group.wanted.matches, page.rows))
            ready = packed(rows, page.end, self._cursors, frame_bounds(self._limits))
            if not ready:
                continue
            size = sum(len(frame.encoded) for frame in ready)
            full = [queue for queue in group.queues if not queue.offer(ready, size)]
            for queue in full:
                self._live.discard(queue)
                self._metrics.watchers_behind.inc()

    def _forget_cancelled(self) -> None:
        """Keep at most as many waiters that gave up as there are others."""
        self._cancelled += 1
        if 2 * self._cancelled > len(self._waiters):
            self._waiters = [entry for entry in self._waiters if not entry[2].cancelled()]
            heapq.heapify(self._waiters)
            self._cancelled = 0

    def _move(self, point: Point) -> None:
        self.point = point
        while self._waiters and Place(self._waiters[0][0]) <= point.place:
            waiter = heapq.heappop(self._waiters)[2]
            if waiter.cancelled():
                self._cancelled -= 1
            else:
                waiter.set_result(None)


def _until(checkpoint: Checkpoint) -> Place:
    return end_of(checkpoint.mark).place
