"""The projector's thread: follow the log, fold, write, tell; and between batches, long tasks."""

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple

import structlog

from service import errors
from service.clock import US_PER_S, Clock
from service.config import Limits
from service.database.database import Fence
from service.domain.events import Event, Position, QuarantineReason
from service.domain.progress import Progress
from service.eventlog.log import LogReader
from service.eventlog.underway import Taker, Underway
from service.projector.follower import Follower
from service.projector.leadership import Leadership
from service.projector.rebuild import tidied
from service.projector.task import Hands, Run, Task
from service.telemetry import Metrics
from service.views.store import ViewsBatch, ViewsWriter, always
from service.wire.cursor import CursorCodec

_log = structlog.get_logger(__name__)


class _Open(NamedTuple):
    """Both stores, and what follows one with the other."""

    log: LogReader
    views: ViewsWriter
    live: Follower

    @property
    def hands(self) -> Hands:
        return Hands(self.log, self.views)

    def close(self) -> None:
        self.log.close()
        self.views.close()


class Projector:
    """Owns a reading connection of the log and the writing one of the views."""

    def __init__(
        self,
        *,
        open_log: Callable[[], LogReader],
        open_views: Callable[[Fence], ViewsWriter],
        leadership: Leadership,
        eager: bool,
        cursors: CursorCodec,
        on_advance: Callable[[ViewsBatch | None], None],
        clock: Clock,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        """`on_advance` is called after every commit, on the projector's thread: keep it short. It
        is told what was committed if that continues the live views, None otherwise.

        One that is not eager leads only while it has a task to do.
        """
        self._open_log = open_log
        self._open_views = open_views
        self._leadership = leadership
        self._eager = eager
        self._cursors = cursors
        self._on_advance = on_advance
        self._limits = limits
        self._metrics = metrics
        self._work = threading.Event()
        self._hinted = False
        self._waits = False
        self._taken: Underway | None = None
        self._called = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._asked: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._run_under_way: Run | None = None
        self._oldest_unfolded_us = 0
        self._folded = threading.Event()
        self._failing = False
        self._clock = clock
        metrics.unprojected_seconds.set_function(self._behind_s)

    def start(self) -> None:
        """Open both stores and begin; or stand by while another process leads.

        Raises StoreUnusable if one cannot be opened, or if the views do not belong to the log:
        they hold an event that the log does not, or lack some that retention removed.
        """
        assert self._thread is None
        fence = self._leadership.lead() if self._eager else None
        stores = self._open(fence) if fence else None
        self._thread = threading.Thread(target=self._run, args=(stores,), name="projector")
        self._thread.start()

    def wake(self) -> None:
        """There are new events. Only a hint, from any thread: polling finds them as well."""
        self._hinted = True
        self._work.set()

    def taker(self) -> Taker | None:
        """Who begins to fold the next batch now: nobody, unless it is waited for."""
        return self._take if self._waits else None

    def _take(self, underway: Underway) -> None:
        self._waits = False
        self._taken = underway
        self._work.set()

    def make_way(self) -> None:
        """Wait for a batch to be folded if the views have fallen behind what is being appended.

        For the thread that appends. Both share a processor, and appending takes less of it: under
        callbacks that never pause the views would fall behind further and further.
        """
        limits = self._limits
        if limits.make_way_from_s <= self._behind_s() < limits.make_way_until_s:
            self._folded.clear()
            if not self._failing and not self._stopping.is_set():
                self._folded.wait(limits.make_way_s)

    def perform(self, task: Task, on_progress: Callable[[Progress], None]) -> "Future[None]":
        """Do a task in steps, between batches; one at a time, in the order asked.

        The future raises what the task raises, and ShuttingDown if the projector stops first.
        Cancelling it stops the task after the step under way.
        """
        run = Run(task, on_progress)
        self._asked.put(run)
        if self._stopping.is_set():
            run.refuse(errors.ShuttingDown())
        self._work.set()
        self._called.set()
        return run.ended

    async def stop(self) -> None:
        """Finish the step under way and close both connections. Idempotent."""
        self._stopping.set()
        self._work.set()
        self._called.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    @property
    def failing(self) -> bool:
        """The last batch could not be folded or written, and is being tried again."""
        return self._failing

    @property
    def leads(self) -> bool:
        """It is this process that folds."""
        return self._leadership.leads

    def _open(self, fence: Fence) -> _Open:
        log = self._open_log()
        try:
            views = self._open_views(fence)
        except Exception:
            log.close()
            raise
        stores = _Open(
            log,
            views,
            Follower(log, views, self._cursors, self._limits, self._limits.fold_events_max),
        )
        try:
            self._reconcile(stores)
        except Exception:
            stores.close()
            raise
        if self._eager:
            self._asked.put(Run(self._tidied, lambda _: None))
        return stores

    def _reconcile(self, stores: _Open) -> None:
        """Hold the views against the log, and finish what a kill may have cut short."""
        log, views, live = stores
        mark = views.checkpoint().mark
        cut = log.last_removed()
        there = cut if mark.position == cut.position else log.mark(mark.position)
        if mark.position >= cut.position and there != mark:
            raise errors.StoreUnusable(
                f"the views hold position {mark.position}, and this event log does not: move the "
                "views away, and they are built again from the log"
            )
        live.begin()
        if views.kept_from() <= cut.position:
            views.prune(Position(cut.position + 1))

    def _run(self, opened: _Open | None) -> None:
        stores = opened
        while not self._stopping.is_set():
            try:
                stores = self._led(stores)
                events = self._advance(stores) if stores else 0
            except Exception as error:  # noqa: BLE001
                # The checkpoint did not move, so the same events are read again. A defect of ours
                # is no reason to end either: nobody would hear of it.
                self._tell(error)
                self._failed()
                self._fail_tasks(error)
                if stores is not None:
                    stores.close()
                    stores = None
                self._leadership.step_down()
                self._stopping.wait(self._limits.retry_s)
            else:
                self._failing = False
                if stores is None:
                    self._stand_by()
                elif not self._step(stores):
                    self._wait_for_work(events)
        self._fail_tasks(errors.ShuttingDown())
        if stores is not None:
            stores.close()
        self._leadership.step_down()

    def _led(self, stores: _Open | None) -> _Open | None:
        """The stores while this process leads, opened when it begins to; None while another does.

        Raises CheckpointMoved when another one has taken over.
        """
        busy = self._run_under_way is not None or not self._asked.empty()
        if stores is not None:
            if not self._leadership.leads:
                raise errors.CheckpointMoved("another process projects by now")
            if busy or (self._eager and not self._leadership.wanted):
                return stores
            stores.close()
            self._leadership.step_down()
            return None
        if not busy and not self._eager:
            return None
        fence = self._leadership.lead()
        if fence is None and busy:
            self._leadership.want()
        return self._open(fence) if fence else None

    def _stand_by(self) -> None:
        # What waits is another one's to fold.
        self._oldest_unfolded_us = 0
        self._called.wait(self._limits.stand_by_s)
        self._called.clear()

    def _tidied(self, hands: Hands) -> Iterator[Progress]:
        return tidied(hands, self._limits.clear_rows_max)

    def _step(self, stores: _Open) -> bool:
        """One step of the task under way, or of the next one; False if there is none."""
        if self._run_under_way is None:
            if self._asked.empty():
                return False
            self._run_under_way = self._asked.get()
        if not self._run_under_way.step(stores.hands):
            self._run_under_way = None
        # It may have switched the views.
        stores.live.moved()
        self._on_advance(None)
        return True

    def _fail_tasks(self, error: Exception) -> None:
        if self._run_under_way is not None:
            self._run_under_way.fail(error)
            self._run_under_way = None
        while not self._asked.empty():
            self._asked.get().fail(error)

    def _behind_s(self) -> float:
        oldest_us = self._oldest_unfolded_us
        return max(0, self._clock.now_us() - oldest_us) / US_PER_S if oldest_us else 0.0

    def _tell(self, error: Exception) -> None:
        """Log a fault: once, as long as it lasts, if it is a store's; others with all there is."""
        if not isinstance(error, errors.PlugstatusError):
            _log.exception("folding failed, trying again", retry_s=self._limits.retry_s)
        elif not self._failing:
            _log.warning("folding has to wait, trying again", reason=str(error))

    def _failed(self) -> None:
        self._metrics.projector_failures.inc()
        self._failing = True
        if not self._oldest_unfolded_us:
            # What waits is not known while the log cannot be read: at least as old as the fault.
            self._oldest_unfolded_us = self._clock.now_us()

    def _wait_for_work(self, events: int) -> None:
        """`events`: so many have just come."""
        if not events:
            self._waits = True
            self._work.wait(self._limits.poll_s)
            self._waits = False
            # Cleared before anything is looked at, so no hint given after that look is lost.
            self._work.clear()
        elif self._limits.gather_events_min <= events < self._limits.gather_events_max:
            # They come fast: a transaction of many costs half as much for each of them.
            self._stopping.wait(self._limits.gather_s)

    def _advance(self, stores: _Open) -> int:
        """Fold one batch of what waits; how many events were there, 0 once none is left."""
        hinted, self._hinted = self._hinted, False
        taken, self._taken = self._taken, None
        if taken is not None:
            first = stores.live.next_position()
            if first is not None and taken.may_begin_at(first):
                events = taken.events(first)
                batch = self._fold(stores, events, lambda: taken.begin_at(first))
                if batch is not None and batch.until.position == events[-1].position:
                    self._oldest_unfolded_us = 0
                    # Nobody has told of more, so nobody has to look for it.
                    many = len(events) >= self._limits.gather_events_min
                    return len(events) if hinted or many else 0
            # Only now it can be read.
            taken.wait()
        waiting = stores.live.waiting()
        if not waiting:
            self._oldest_unfolded_us = 0
            return 0
        self._fold(stores, waiting)
        return len(waiting)

    def _fold(
        self, stores: _Open, events: Sequence[Event], recorded: Callable[[], bool] = always
    ) -> ViewsBatch | None:
        self._oldest_unfolded_us = events[0].receive_time_us
        # A task may write the views before the next batch.
        alone = self._run_under_way is None and self._asked.empty()
        batch = stores.live.advance(events, recorded, ahead=alone)
        self._folded.set()
        if batch is not None:
            self._on_advance(batch)
            self._metrics.views_position.set(batch.until.position)
            self._count(batch)
        return batch

    def _count(self, batch: ViewsBatch) -> None:
        if not batch.refolded:
            self._metrics.reports_folded.inc(len(batch.feed))
        for row in batch.quarantine:
            self._metrics.quarantined.labels(QuarantineReason(row.reason).name).inc()
