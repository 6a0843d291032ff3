"""Group commit: many appends share one transaction, one at a time.

While a transaction runs, appends collect; when it is done they leave together as the next one.
So a lone append waits for one fsync, and under load thousands share it: an append waits for the
transaction under way and for its own, as long as no more wait than one transaction takes.

    loop     append ── collects ──▶ batch ──┐ one hand-over a batch    ┌─▶ settle every waiter
    thread                                  └─▶ LogWriter.append ──────┘

1. Only the loop touches the collecting batch, only the thread touches the writer.
2. A waiter is settled after COMMIT, from the transaction's own outcome: a failed transaction
   fails every waiter of its batch, and none of the batch's events is visible.
3. The next batch leaves before the last one's waiters are settled, so the disk never waits for
   the loop to write answers.
4. Each waiter has a future of its own: cancelling one (a client that left) leaves the others,
   and its event is recorded all the same.
"""

import asyncio
import enum
import queue
import threading
from collections import deque
from collections.abc import Callable

import structlog

from service import errors
from service.domain.events import NewEvent, Position
from service.eventlog.log import LogWriter

_log = structlog.get_logger(__name__)


class _Batch:
    __slots__ = ("contents_bytes", "events", "waiters")

    def __init__(self) -> None:
        self.events: list[NewEvent] = []
        self.waiters: list[asyncio.Future[Position]] = []
        self.contents_bytes = 0


class _State(enum.Enum):
    NEW = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


class GroupCommit:
    """The process's one appender. Bound to the loop that starts it."""

    def __init__(
        self,
        open_writer: Callable[[], LogWriter],
        on_commit: Callable[[], None],
        *,
        batch_events_max: int,
        batch_bytes_max: int,
        waiting_events_max: int,
        waiting_bytes_max: int,
        failing_s: float = 10.0,
    ) -> None:
        """`on_commit` is called after every commit, on the writer's thread: keep it short."""
        self._open_writer = open_writer
        self._on_commit = on_commit
        self._batch_events_max = batch_events_max
        self._batch_bytes_max = batch_bytes_max
        self._waiting_events_max = waiting_events_max
        self._waiting_bytes_max = waiting_bytes_max
        self._failing_s = failing_s
        self._failing_until_s = 0.0
        self._collected: deque[_Batch] = deque()
        self._waiting_events = 0
        self._waiting_bytes = 0
        self._writing = False
        self._state = _State.NEW
        self._handed_over: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self.last_position = Position(0)
        """Of the last event appended here; 0 before the first."""
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def failing(self) -> bool:
        """The last transaction failed, and not long ago."""
        return self._loop.time() < self._failing_until_s

    def start(self) -> None:
        """Open the writer and begin. Raises StoreUnusable or LogUnavailable if that fails."""
        assert self._state is _State.NEW
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._write_batches, args=(self._open_writer(),), name="eventlog-writer"
        )
        self._thread.start()
        self._state = _State.OPEN

    def append(self, event: NewEvent) -> asyncio.Future[Position]:
        """A future of the event's position, resolved once the event is on disk.

        The future raises LogUnavailable if the transaction failed. Raises LogUnavailable at once
        when too much is waiting already, or after `close`: then nothing was recorded.
        """
        if self._state is not _State.OPEN:
            raise errors.LogUnavailable("the event log is closed")
        size = len(event.content)
        if (
            self._waiting_events >= self._waiting_events_max
            or self._waiting_bytes + size > self._waiting_bytes_max
        ):
            raise errors.LogUnavailable("too much is waiting to be recorded: try again")
        waiter: asyncio.Future[Position] = self._loop.create_future()
        batch = self._batch_for(size)
        batch.events.append(event)
        batch.waiters.append(waiter)
        batch.contents_bytes += size
        self._waiting_events += 1
        self._waiting_bytes += size
        if not self._writing:
            self._hand_over()
        return waiter

    async def close(self) -> None:
        """Finish what was appended, then close the writer. Idempotent."""
        if self._state is _State.OPEN:
            self._state = _State.CLOSING
            await self._idle.wait()
            self._handed_over.put(None)
            await asyncio.to_thread(self._thread.join)
            self._state = _State.CLOSED

    def _batch_for(self, size: int) -> _Batch:
        if self._collected:
            batch = self._collected[-1]
            if (
                len(batch.events) < self._batch_events_max
                and batch.contents_bytes + size <= self._batch_bytes_max
            ):
                return batch
        batch = _Batch()
        self._collected.append(batch)
        return batch

    def _hand_over(self) -> None:
        self._writing = bool(self._collected)
        if self._writing:
            self._idle.clear()
            self._handed_over.put(self._collected.popleft())
        else:
            self._idle.set()

    def _settle(self, batch: _Batch, first: Position, failure: str) -> None:
        self._waiting_events -= len(batch.events)
        self._waiting_bytes -= batch.contents_bytes
        self._hand_over()
        self._failing_until_s = self._loop.time() + self._failing_s if failure else 0.0
        if not failure:
            self.last_position = Position(first + len(batch.events) - 1)
        position = first
        for waiter in batch.waiters:
            if not waiter.done():
                if failure:
                    waiter.set_exception(errors.LogUnavailable(failure))
                else:
                    waiter.set_result(position)
            position = Position(position + 1)

    def _write_batches(self, writer: LogWriter) -> None:
        """The writer's thread, until None is handed over."""
        usable: LogWriter | None = writer
        while (batch := self._handed_over.get()) is not None:
            first = Position(0)
            failure = ""
            try:
                usable = usable or self._open_writer()
                first = usable.append(batch.events)
            except Exception as error:  # noqa: BLE001
                # Whatever it was, the waiters get an answer, and the next batch a new connection.
                failure = f"the event log cannot be written: {error}"
                _log.exception("append failed", events=len(batch.events))
                if usable is not None:
                    usable.close()
                    usable = None
            if not failure:
                self._on_commit()
            self._loop.call_soon_threadsafe(self._settle, batch, first, failure)
        if usable is not None:
            usable.close()
