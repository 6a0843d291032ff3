"""A log writer that keeps callbacks on this machine's disk while the database is away.

`append` never waits for a database that is known to be away: while the spool is in use it writes
there, and a thread of its own brings the spool to the log. What is not a callback (a webhook's
attempt must be in the log before anything is sent) is refused meanwhile.
"""

import threading
from collections.abc import Callable, Sequence
from uuid import uuid4

import structlog

from service import errors
from service.database.database import Fence, unfenced
from service.domain.events import SPOOLED, EventKind, Mark, NewEvent, Position
from service.eventlog.log import BaselineChange
from service.eventlog.postgres import Batch, PostgresLogWriter
from service.eventlog.spool import Spool, Spooled

_log = structlog.get_logger(__name__)
_WAITING = "callbacks that were kept on disk are still being recorded: try again"


class SpoolingLogWriter:
    """What PostgresLogWriter does, and the spool in front of it."""

    mends_itself = True

    def __init__(
        self,
        open_writer: Callable[[], PostgresLogWriter],
        spool: Spool,
        *,
        retry_s: float,
        events_max: int,
        bytes_max: int,
    ) -> None:
        """Owns the spool. `events_max` and `bytes_max` bound what is recorded from it at once."""
        self._open_writer = open_writer
        self._spool = spool
        self._retry_s = retry_s
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._writer: PostgresLogWriter | None = None
        self._appender = uuid4().hex
        self._settled = 0
        self._number = 0
        # Guards the step from "nothing is spooled" to "append directly", and back.
        self._mode = threading.Lock()
        self._spooling = bool(spool.filling().event_count)
        self._stopping = threading.Event()
        self._work = threading.Event()
        self._thread = threading.Thread(target=self._record, name="spool")
        self._thread.start()
        if self._spooling:
            self._work.set()

    @property
    def holding(self) -> bool:
        return self._writer is not None and self._writer.holding

    def append(self, events: Sequence[NewEvent]) -> Position:
        """As LogWriter; SPOOLED if the callbacks among them are spooled, and the others refused."""
        self._number += 1
        if not self._spooling:
            try:
                return self._appended(self._number, events)
            except (errors.LogUnavailable, errors.StoreUnusable) as error:
                _log.warning("the event log cannot be written: spooling", reason=str(error))
                self._close_writer()
        callbacks = [event for event in events if event.kind is EventKind.CALLBACK]
        if callbacks:
            with self._mode:
                self._spool.add(self._appender, self._number, callbacks)
                self._spooling = True
            self._work.set()
        return SPOOLED

    def cut(self, until: Mark, baseline: BaselineChange, fence: Fence = unfenced) -> None:
        self._direct().cut(until, baseline, fence)

    def erase(
        self,
        tombstones: Sequence[tuple[Position, bytes]],
        erasure: NewEvent,
        baseline: BaselineChange,
        fence: Fence = unfenced,
    ) -> Position:
        return self._direct().erase(tombstones, erasure, baseline, fence)

    def purge(self, span_us: int) -> bool:
        return self._direct().purge(span_us)

    def hold(self) -> None:
        self._direct().hold()

    def release(self) -> None:
        self._direct().release()

    def rewrite(self) -> None:
        self._direct().rewrite()

    def wipe(self) -> bool:
        return self._direct().wipe()

    def hint(self) -> None:
        if self._writer is not None:
            self._writer.hint()

    def close(self) -> None:
        self._stopping.set()
        self._work.set()
        self._thread.join()
        self._close_writer()
        left = self._spool.filling()
        if left.event_count:
            _log.warning(
                "callbacks stay in the spool, to be recorded after the next start",
                count=left.event_count,
                path=str(self._spool.path),
            )
        self._spool.close()

    def _appended(self, number: int, events: Sequence[NewEvent]) -> Position:
        writer = self._opened()
        batch = Batch(self._appender, self._settled, number)
        settled = writer.settle(batch, events)
        if settled.number != number:
            # An earlier one that held no callback was in doubt: now it is known what became of it.
            self._settled = settled.number
            settled = writer.settle(batch._replace(since=settled.number), events)
        if settled.number != number:
            raise errors.LogUnavailable("another process appends under this one's name")
        self._settled = number
        return settled.first

    def _opened(self) -> PostgresLogWriter:
        if self._writer is None:
            self._writer = self._open_writer()
        return self._writer

    def _direct(self) -> PostgresLogWriter:
        """Raises LogUnavailable while anything is spooled: it belongs before what is to be done."""
        if self._spooling:
            raise errors.LogUnavailable(_WAITING)
        try:
            return self._opened()
        except errors.StoreUnusable as error:
            raise errors.LogUnavailable(str(error)) from error

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _record(self) -> None:
        """The spool's thread: bring what is spooled to the log, until it is all there."""
        while True:
            self._work.wait()
            self._work.clear()
            if self._stopping.is_set():
                return
            while self._spooling and not self._stopping.is_set():
                try:
                    self._record_all()
                except (errors.LogUnavailable, errors.StoreUnusable) as error:
                    _log.info("the spool cannot be recorded yet", reason=str(error))
                except Exception:  # noqa: BLE001
                    # A defect too must not end it: nothing would be recorded any more.
                    _log.exception("recording the spool failed, trying again")
                if self._spooling:
                    self._stopping.wait(self._retry_s)

    def _record_all(self) -> None:
        writer = self._open_writer()
        try:
            while not self._stopping.is_set():
                spooled = self._spool.first(self._events_max, self._bytes_max)
                if spooled is not None:
                    self._record_some(writer, spooled)
                    writer.hint()
                    continue
                with self._mode:
                    # Nothing can come in between: who spools holds this lock as well.
                    self._spooling = bool(self._spool.filling().event_count)
                if not self._spooling:
                    _log.info("the spool is recorded: appending directly again")
                    return
        finally:
            writer.close()

    def _record_some(self, writer: PostgresLogWriter, spooled: Spooled) -> None:
        """Record the batches, or find out that the first of them are in already."""
        since = spooled.first_number - 1
        batch = Batch(spooled.appender, since, spooled.last_number)
        settled = writer.settle(batch, spooled.events)
        if settled.number < spooled.first_number and settled.number != since:
            # None of them is in, and the one before is not the number just below.
            settled = writer.settle(batch._replace(since=settled.number), spooled.events)
        if settled.number >= spooled.first_number:
            self._spool.remove(spooled.appender, settled.number)
        if spooled.appender == self._appender:
            self._settled = max(self._settled, settled.number)
