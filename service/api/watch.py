"""One watcher, from Opened to Closing.

    phase         does                                               leads to
    OPENING       sends Opened                                       SNAPSHOT or CATCHING_UP
    SNAPSHOT      reads messages by key, a page at a time, once      CATCHING_UP, with SnapshotEnd
                  the views stand where the snapshot is as of
    CATCHING_UP   reads the feed, a page at a time; waits where      LIVE, with CaughtUp, once it
                  the views are behind the cursor                    stands where the hub does
    LIVE          sends what the hub queues                          BEHIND, when it overflowed
    BEHIND        sends FellBehind                                   CATCHING_UP
    CLOSING       sends Closing; every phase leads there             CLOSED

Progress goes out in every phase as soon as it is due, at the point up to which everything was
considered. That point only ever moves forward, and each frame names where it stands, so whatever
frame a client saw last, its cursor resumes behind exactly what was sent. Why nothing is lost or
repeated: `snapshot` holds the argument for SNAPSHOT, `hub` the one for the switch between
CATCHING_UP and LIVE.

A watcher awaits its own transport and nobody else's: the hub only ever puts into its queue.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from service import errors
from service.api.calls import Call, Write
from service.api.deadlines import Deadlines
from service.api.hub import Ending, Hub
from service.api.live import LiveQueue
from service.api.packing import frame_bounds
from service.api.plan import Plan, Start
from service.api.snapshot import Snapshot
from service.api.starts import Starts
from service.clock import Clock
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.events import END_OF_CALLBACK, Mark, Place, Point, Position, end_of
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.views.feed import PackedPage
from service.views.store import ViewsReader
from service.wire import frames
from service.wire.cursor import BEFORE_ALL_MESSAGES, CursorCodec, InSnapshot

ResultT = TypeVar("ResultT")

_CLOSING = {
    Ending.SHUTTING_DOWN: pb.CLOSING_REASON_SHUTTING_DOWN,
    Ending.VIEWS_REBUILT: pb.CLOSING_REASON_VIEWS_REBUILT,
}


class Phase(enum.Enum):
    OPENING = enum.auto()
    SNAPSHOT = enum.auto()
    CATCHING_UP = enum.auto()
    LIVE = enum.auto()
    BEHIND = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What every watcher uses."""

    hub: Hub
    views: ReaderPool[ViewsReader]
    starts: Starts
    cursors: CursorCodec
    clock: Clock
    limits: Limits
    stalls: Deadlines
    """How long a transport may accept nothing."""


class Watcher:
    def __init__(self, shared: Shared, plan: Plan, call: Call, write: Write) -> None:
        self.plan = plan
        self.call = call
        self.start_time_us = shared.clock.now_us()
        self.phase = Phase.OPENING
        self.point = Point(Place(Position(0)), 0)
        """Everything up to here was sent or passed over; in a snapshot: what it is as of."""
        self._shared = shared
        self._hub = shared.hub
        self._limits = shared.limits
        self._write = write
        self._ending = shared.hub.ending
        self._generation = shared.hub.generation
        self._queue = self._new_queue()
        self._due_s = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        """Ends a wait when progress may be due."""
        self._ahead: asyncio.Future[Any] | None = None
        """The page behind the one that is being sent."""
        self._snapshot: Snapshot | None = None
        self._caught_up_at = Place(Position(0))
        """CaughtUp goes out once everything up to here was sent."""

    @property
    def queued_bytes(self) -> int:
        return self._queue.bytes

    async def run(self) -> None:
        while self.phase is not Phase.CLOSED:
            step = STEPS[self.phase]
            phase = await step.take(self)
            if self._ending.done() and phase is not Phase.CLOSED:
                phase = Phase.CLOSING
            assert phase in step.leads_to, (self.phase, phase)
            self.phase = phase

    def leave(self) -> None:
        self._hub.leave(self._queue)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._ahead is not None:
            self._ahead.cancel()
            # Nobody asks any more what became of it.
            self._ahead.add_done_callback(lambda page: page.cancelled() or page.exception())
            self._ahead = None

    async def open(self) -> Phase:
        starts = self._shared.starts
        head = await starts.head()
        self._caught_up_at = Place(head.position)
        self.point = end_of(head)
        match self.plan.start:
            case Start.CURSOR:
                self.point, inside = await starts.resumed(self.plan.cursor)
                if inside is not None:
                    self._snapshot = self._new_snapshot(inside)
            case Start.TIME:
                self.point = await starts.at_time(self.plan.from_time_us) or self.point
            case Start.SNAPSHOT:
                self._snapshot = self._new_snapshot(BEFORE_ALL_MESSAGES)
            case Start.NOW:
                pass
        await self._send(frames.opened(self._cursor(), self._generation))
        self._postpone_progress()
        return Phase.SNAPSHOT if self._snapshot else Phase.CATCHING_UP

    async def send_snapshot(self) -> Phase:
        """One page, one wait, or the end of it."""
        assert self._snapshot is not None
        snapshot, wanted, limits = self._snapshot, self.plan.wanted, self._limits
        if self._hub.place < self.point.place:
            await self._wait_for_views(self.point.place.position)
            return Phase.SNAPSHOT
        page = await self._page(lambda views: snapshot.read(views, wanted, limits))
        if page is None:
            return Phase.SNAPSHOT
        if page.generation != self._generation:
            return await self._ended_by_a_switch(Phase.SNAPSHOT)
        if page.end is not None:
            self._read_ahead(lambda views: snapshot.read(views, wanted, limits))
        for frame in page.frames:
            await self._send(frame.encoded)
            snapshot.behind = frame.behind
            await self._report_progress()
        if page.end is not None:
            snapshot.behind = page.end
            await self._report_progress()
            return Phase.SNAPSHOT
        self._snapshot = None
        await self._send(frames.snapshot_end(self._cursor()))
        return Phase.CATCHING_UP

    async def catch_up(self) -> Phase:
        """One page, one wait, or the switch to live."""
        place, hub_place = self.point.place, self._hub.place
        if place < hub_place:
            return await self._send_page()
        if place > hub_place or place < self._caught_up_at:
            await self._wait_for_views(max(place, self._caught_up_at).position)
            return Phase.CATCHING_UP
        # The hub's step 3: no await between the comparison above and this.
        self._hub.join(self._queue)
        await self._send(frames.caught_up(self._cursor()))
        return Phase.LIVE

    async def go_live(self) -> Phase:
        """One frame, waited for if need be."""
        queue = self._queue
        if not len(queue):
            if queue.overflowed:
                return Phase.BEHIND
            if self._alarm is None:
                # One for as long as nothing is due, and not one a wait.
                loop = asyncio.get_running_loop()
                self._alarm = loop.call_later(self._due_in_s(), self._ring)
            await queue.filled()
        if len(queue):
            frame = queue.take()
            await self._send(frame.encoded)
            self.point = frame.through
            await self._report_progress()
        elif not queue.overflowed and not self._ending.done():
            # All the hub has handed out was considered. After an ending its point may already be
            # another generation's.
            self.point = self._hub.point
            await self._report_progress()
        return Phase.LIVE

    async def fall_behind(self) -> Phase:
        self._queue = self._new_queue()
        self._caught_up_at = self._hub.place
        await self._send(frames.fell_behind(self._cursor()))
        return Phase.CATCHING_UP

    async def close(self) -> Phase:
        self.leave()
        await self._send(frames.closing(self._cursor(), _CLOSING[self._ending.result()]))
        return Phase.CLOSED

    async def _send_page(self) -> Phase:
        page = await self._page(self._changes(self.point.place))
        if page is None:
            return Phase.CATCHING_UP
        if page.generation != self._generation:
            return await self._ended_by_a_switch(Phase.CATCHING_UP)
        if page.end.place < self._hub.place:
            self._read_ahead(self._changes(page.end.place))
        for pack in page.packs:
            await self._send(frames.of_changes(pack.changes, self._shared.cursors.at(pack.last)))
            # The last one of a page is over where the page is.
            self.point = page.end if pack is page.packs[-1] else pack.last
            await self._report_progress()
        self.point = page.end
        await self._report_progress()
        return Phase.CATCHING_UP

    def _changes(self, after: Place) -> Callable[[ViewsReader], PackedPage]:
        """Reads those behind it, as far as the hub is now."""
        limits, wanted = self._limits, self.plan.wanted
        until = Mark(self._hub.place.position, self._hub.point.receive_time_us)
        return lambda views: views.changes(
            after, until, wanted, limits.catch_up_rows_max, frame_bounds(limits)
        )

    async def _ended_by_a_switch(self, phase: Phase) -> Phase:
        # A stream ends with the generation it opened on; the hub is about to say so.
        await asyncio.wait({self._ending})
        return phase

    async def _wait_for_views(self, position: Position) -> None:
        """Until they get there, or the server drains, which ends the stream."""
        with suppress(errors.ShuttingDown):
            await self._awaited(self._hub.reached(position, float("inf")))

    async def _page(self, read: Callable[[ViewsReader], ResultT]) -> ResultT | None:
        """A page of the views, read ahead or now; None, after a pause, if that cannot be done."""
        ahead, self._ahead = self._ahead, None
        try:
            return await self._awaited(ahead or self._shared.views.run(read))
        except errors.ViewsUnavailable:
            await self._awaited(asyncio.sleep(self._limits.retry_s))
            return None

    def _read_ahead(self, read: Callable[[ViewsReader], Any]) -> None:
        """Begin with the next page while this one is sent: half of catching up is reading."""
        self._ahead = asyncio.ensure_future(self._shared.views.run(read))

    async def _awaited(self, work: Awaitable[ResultT]) -> ResultT:
        """What it returns. Progress goes out as long as it takes."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=self._due_in_s())
                await self._report_progress()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def _cursor(self) -> str:
        """Of everything that was sent or passed over."""
        return self._snapshot.cursor() if self._snapshot else self._shared.cursors.at(self.point)

    async def _report_progress(self) -> None:
        # Progress names the end of a callback, so in its second half the interval takes the first
        # one that comes. Only inside a callback that takes longer to send does it name a report.
        at_an_end = self._snapshot is None and self.point.place.index == END_OF_CALLBACK
        due_in_s = self._due_in_s()
        if due_in_s <= 0 or (at_an_end and due_in_s <= self.plan.progress_interval_s / 2):
            await self._send(frames.progress(self._cursor()))
            self._postpone_progress()

    def _ring(self) -> None:
        self._alarm = None
        self._queue.interrupt()

    def _postpone_progress(self) -> None:
        self._due_s = self._shared.clock.monotonic_s() + self.plan.progress_interval_s

    def _due_in_s(self) -> float:
        return max(0.0, self._due_s - self._shared.clock.monotonic_s())

    async def _send(self, encoded: bytes) -> None:
        with self._shared.stalls:
            await self._write(encoded)

    def _new_snapshot(self, behind: InSnapshot) -> Snapshot:
        return Snapshot(self.point, behind, self._shared.cursors, self.call.caller.instances)

    def _new_queue(self) -> LiveQueue:
        return LiveQueue(
            self.plan.wanted,
            self._limits.watcher_queue_frames_max,
            self._limits.watcher_queue_bytes_max,
        )


class Step(NamedTuple):
    """What a watcher does in a phase."""

    take: Callable[[Watcher], Awaitable[Phase]]
    """One frame, page or wait; the phase that follows."""
    leads_to: frozenset[Phase]
    shown: pb.WatcherPhase.ValueType


def _step(
    take: Callable[[Watcher], Awaitable[Phase]],
    shown: pb.WatcherPhase.ValueType,
    *leads_to: Phase,
) -> Step:
    return Step(take, frozenset({*leads_to, Phase.CLOSING}), shown)


STEPS = {
    Phase.OPENING: _step(
        Watcher.open, pb.WATCHER_PHASE_UNSPECIFIED, Phase.SNAPSHOT, Phase.CATCHING_UP
    ),
    Phase.SNAPSHOT: _step(
        Watcher.send_snapshot, pb.WATCHER_PHASE_SNAPSHOT, Phase.SNAPSHOT, Phase.CATCHING_UP
    ),
    Phase.CATCHING_UP: _step(
        Watcher.catch_up, pb.WATCHER_PHASE_CATCHING_UP, Phase.CATCHING_UP, Phase.LIVE
    ),
    Phase.LIVE: _step(Watcher.go_live, pb.WATCHER_PHASE_LIVE, Phase.LIVE, Phase.BEHIND),
    Phase.BEHIND: _step(Watcher.fall_behind, pb.WATCHER_PHASE_BEHIND, Phase.CATCHING_UP),
    Phase.CLOSING: _step(Watcher.close, pb.WATCHER_PHASE_UNSPECIFIED, Phase.CLOSED),
}
"""Every phase but CLOSED, and every transition there is. CLOSING is reached from all of them."""
