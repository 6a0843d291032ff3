"""The projector's thread: follow the log, fold, write, tell."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import structlog

from service import errors
from service.clock import US_PER_S, Clock
from service.config import Limits
from service.domain.events import Event, QuarantineReason
from service.eventlog.log import LogReader
from service.projector.batch import fold_events, quarantined
from service.telemetry import Metrics
from service.views.store import Checkpoint, ViewsBatch, ViewsWriter
from service.wire.cursor import CursorCodec

_log = structlog.get_logger(__name__)


class Projector:
    """Owns a reading connection of the log and the writing one of the views."""

    def __init__(
        self,
        *,
        open_log: Callable[[], LogReader],
        open_views: Callable[[], ViewsWriter],
        cursors: CursorCodec,
        on_advance: Callable[[], None],
        clock: Clock,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        """`on_advance` is called after every commit, on the projector's thread: keep it short."""
        self._open_log = open_log
        self._open_views = open_views
        self._cursors = cursors
        self._on_advance = on_advance
        self._limits = limits
        self._metrics = metrics
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._oldest_unfolded_us = 0
        self._failing = False
        self._clock = clock
        self._events_max = limits.fold_events_max
        metrics.unprojected_seconds.set_function(
            lambda: (
                max(0, clock.now_us() - self._oldest_unfolded_us) / US_PER_S
                if self._oldest_unfolded_us
                else 0.0
            )
        )

    def start(self) -> None:
        """Open both stores and begin.

        Raises StoreUnusable if one cannot be opened, or if the views do not belong to the log:
        they hold an event that the log does not.
        """
        assert self._thread is None
        log, views = self._open()
        self._thread = threading.Thread(target=self._run, args=(log, views), name="projector")
        self._thread.start()

    def wake(self) -> None:
        """There are new events. Only a hint, from any thread: polling finds them as well."""
        self._work.set()

    async def stop(self) -> None:
        """Finish the batch under way and close both connections. Idempotent."""
        self._stopping.set()
        self._work.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _open(self) -> tuple[LogReader, ViewsWriter]:
        log = self._open_log()
        try:
            views = self._open_views()
        except Exception:
            log.close()
            raise
        mark = views.checkpoint().mark
        if mark.position >= log.kept_from() and log.mark(mark.position) != mark:
            log.close()
            views.close()
            raise errors.StoreUnusable(
                f"the views hold position {mark.position}, and this event log does not: move the "
                "views away, and they are built again from the log"
            )
        return log, views

    @property
    def failing(self) -> bool:
        """The last batch could not be folded or written, and is being tried again."""
        return self._failing

    def _run(self, log: LogReader, views: ViewsWriter) -> None:
        stores: tuple[LogReader, ViewsWriter] | None = (log, views)
        while not self._stopping.is_set():
            try:
                stores = stores or self._open()
                advanced = self._advance(*stores)
            except Exception:  # noqa: BLE001
                # The checkpoint did not move, so the same events are read again. A defect of ours
                # is no reason to end either: nobody would hear of it.
                _log.exception("folding failed, trying again", retry_s=self._limits.retry_s)
                self._failed()
                _close(stores)
                stores = None
                self._stopping.wait(self._limits.retry_s)
            else:
                self._failing = False
                if not advanced:
                    self._wait_for_work()
        _close(stores)

    def _failed(self) -> None:
        self._metrics.projector_failures.inc()
        self._failing = True
        if not self._oldest_unfolded_us:
            # What waits is not known while the log cannot be read: at least as old as the fault.
            self._oldest_unfolded_us = self._clock.now_us()

    def _wait_for_work(self) -> None:
        self._work.wait(self._limits.poll_s)
        # Cleared before the log is looked at again, so no hint given after that look is lost.
        self._work.clear()

    def _advance(self, log: LogReader, views: ViewsWriter) -> bool:
        """Fold one batch; False if there was nothing to fold."""
        since = views.checkpoint()
        events = log.read(since.mark.position, self._events_max, self._limits.fold_bytes_max)
        if not events:
            self._oldest_unfolded_us = 0
            return False
        self._oldest_unfolded_us = events[0].receive_time_us
        batch = self._folded(events, since, views)
        if batch is not None:
            self._metrics.views_position.set(batch.until.position)
            self._count(batch)
            self._on_advance()
        return True

    def _folded(
        self, events: Sequence[Event], since: Checkpoint, views: ViewsWriter
    ) -> ViewsBatch | None:
        """What was written; None if the events are to be tried again, fewer at a time.

        A defect of ours in decoding or folding must not hold up what stands behind it. Halving
        the batches finds the one event at fault; it is stepped over, and stays in the log, and in
        quarantine by name.
        """
        try:
            batch = fold_events(events, since, views, self._cursors, self._limits.fold_reports_max)
            views.apply(batch)
        except errors.PlugstatusError:
            raise
        except Exception:  # noqa: BLE001
            if len(events) > 1:
                self._events_max = len(events) // 2
                return None
            _log.exception("event put in quarantine", position=events[0].position)
            batch = quarantined(events[0], since)
            views.apply(batch)
        self._events_max = min(2 * self._events_max, self._limits.fold_events_max)
        return batch

    def _count(self, batch: ViewsBatch) -> None:
        self._metrics.reports_folded.inc(len(batch.feed))
        for row in batch.quarantine:
            self._metrics.quarantined.labels(QuarantineReason(row.reason).name).inc()


def _close(stores: tuple[LogReader, ViewsWriter] | None) -> None:
    for store in stores or ():
        store.close()
