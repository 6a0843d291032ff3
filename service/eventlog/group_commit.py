"""Group commit: many appends share one transaction, one at a time.

While a transaction runs, appends collect; when it is done they leave together as the next one.
So a lone append waits for one fsync, and under load thousands share it: an append waits for the
transaction under way and for its own, as long as no more wait than one transaction takes.

    loop     append ── collects ──▶ batch ──┐ one hand-over a batch       ┌─▶ settle every waiter
    thread                                  └─▶ LogWriter.append ─▶ tell ─┘

1. A batch leaves at the end of the turn of the loop in which its first append came, with all of
   that turn: requests come in bursts, and the first of one alone would cost a transaction.
2. Only the loop touches the collecting batch, only the thread touches the writer.
3. A waiter is settled after COMMIT, from the transaction's own outcome: a failed transaction
   fails every waiter of its batch, and none of the batch's events is visible.
4. The next batch leaves before the last one's waiters are settled, so the disk never waits for
   the loop to write answers.
5. What else needs the writer, a removal, has its turn between two batches; while someone holds
   the log, batches wait too, and the log stands still but for what the holder does.
6. Each waiter has a future of its own: cancelling one (a client that left) leaves the others,
   and its event is recorded all the same.
7. Another process of ours is told by the thread itself, as soon as it knows: one that waits for
   nothing but the disk should not wait for the loop as well.
8. Whoever follows the log and has read all of it may take a batch along with the writer, and
   begin with it; he hears of its outcome as soon as the writer does (`underway`).
"""

import asyncio
import enum
import queue
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog

from service import errors
from service.config import Limits
from service.database.database import Fence, unfenced
from service.domain.events import SPOOLED, NewEvent, Position
from service.eventlog.batches import Batch, Batches, Told
from service.eventlog.log import BaselineChange, LogWriter
from service.eventlog.underway import Taker, Underway, nobody

_log = structlog.get_logger(__name__)

ResultT = TypeVar("ResultT")


HINT_PAUSE_S = 0.005


def _no_hint(_writer: LogWriter) -> None:
    """Nobody else wants to know."""


def _no_way() -> None:
    """Nobody else is in a hurry."""


class _Removal:
    """Something else that is done with the writer."""

    __slots__ = ("remove", "waiter")

    def __init__(self, remove: Callable[[LogWriter], Any], waiter: "asyncio.Future[Any]") -> None:
        self.remove = remove
        self.waiter = waiter


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
        hint: Callable[[LogWriter], None] = _no_hint,
        make_way: Callable[[], None] = _no_way,
        taker: Callable[[], Taker | None] = nobody,
        *,
        alone: bool = False,
        limits: Limits,
    ) -> None:
        """`on_commit` is called after every commit, on the writer's thread: keep it short.

        `hint` is called after it too, but not more often than every `HINT_PAUSE_S`: it may ask the
        database. `make_way` is called before a batch is written: it may wait, for moments.

        `taker` is asked who takes a batch, on the loop before it is recorded if this process is
        `alone` in appending, on the writer's thread after it otherwise. If it is somebody,
        `on_commit` is not called for it.
        """
        self._hint = hint
        self._make_way = make_way
        self._taker = taker
        self._alone = alone
        self._open_writer = open_writer
        self._on_commit = on_commit
        self._failing_s = limits.append_failing_s
        self._failing_until_s = 0.0
        self._batches = Batches(limits)
        self._removals: deque[_Removal] = deque()
        self._held = False
        self._writing = False
        self._leaving = False
        self._state = _State.NEW
        self._handed_over: queue.SimpleQueue[Batch | _Removal | None] = queue.SimpleQueue()
        self.last_position = Position(0)
        """Of the last event appended here; 0 before the first. Only the thread sets it."""
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

        Of SPOOLED for a callback that is on this machine's disk, and in the log only later.
        The future raises LogUnavailable if the transaction failed. Raises LogUnavailable at once
        when too much is waiting already, or for too long, or after `close`: then nothing was
        recorded.
        """
        self._check_open()
        waiter = self._batches.add(self._loop, event)
        self._idle.clear()
        if not self._writing and not self._leaving:
            # With all that come in this turn of the loop: alone it would cost a transaction.
            self._leaving = True
            self._loop.call_soon(self._leave)
        return waiter

    def append_all(self, callbacks: Sequence[NewEvent], told: Told) -> None:
        """The same for several in one transaction, in this order and with nothing between them.

        No more than `batch_events_max` and `batch_bytes_max` hold. They wait for no others. `told`
        is called unless this raises.
        """
        self._check_open()
        self._batches.add_told(self._loop, callbacks, told)
        self._idle.clear()
        if not self._writing:
            self._leaving = False
            self._hand_over()

    def _check_open(self) -> None:
        if self._state is not _State.OPEN:
            raise errors.LogUnavailable("the event log is closed")

    async def remove(self, remove: Callable[[LogWriter], ResultT]) -> ResultT:
        """Do something with the writer between two batches; what it returns.

        Raises what it raises, LogUnavailable after `close`. A caller that leaves does not undo it.
        """
        self._check_open()
        # What was appended before goes before it.
        self._leave()
        waiter: asyncio.Future[Any] = self._loop.create_future()
        self._removals.append(_Removal(remove, waiter))
        if not self._writing:
            self._hand_over()
        result: ResultT = await waiter
        return result

    def remove_and_wait(self, remove: Callable[[LogWriter], ResultT]) -> ResultT:
        """The same, from a thread that is not the loop's."""
        return asyncio.run_coroutine_threadsafe(self.remove(remove), self._loop).result()

    async def erase(
        self,
        tombstones: Sequence[tuple[Position, bytes]],
        erasure: NewEvent,
        baseline: BaselineChange,
        fence: Fence = unfenced,
    ) -> Position:
        """`LogWriter.erase`, between two batches.

        Raises LogUnavailable too, and erases nothing, if a hold under way was lost meanwhile.
        """
        held = self._held

        def erased(log: LogWriter) -> Position:
            if held and not log.holding:
                raise errors.LogUnavailable("the hold on the event log was lost")
            self.last_position = log.erase(tombstones, erasure, baseline, fence)
            return self.last_position

        return await self.remove(erased)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Inside, the log stands still: what is appended waits, and only `erase` adds to it.

        For one holder at a time, and for moments. Raises LogUnavailable after `close`.
        """
        assert not self._held
        self._leave()
        self._held = True
        try:
            # Behind the batch under way.
            await self.remove(lambda log: log.hold())
            try:
                yield
            finally:
                # A writer that is lost or closed holds nothing any more.
                with suppress(errors.LogUnavailable):
                    await asyncio.shield(self.remove(lambda log: log.release()))
        finally:
            self._held = False
            if not self._writing:
                self._hand_over()

    async def close(self) -> None:
        """Finish what was appended, then close the writer. Idempotent."""
        if self._state is _State.OPEN:
            self._state = _State.CLOSING
            await self._idle.wait()
            self._handed_over.put(None)
            await asyncio.to_thread(self._thread.join)
            self._state = _State.CLOSED

    def _leave(self) -> None:
        """Have go what was appended in this turn of the loop, if it has not gone yet."""
        if self._leaving:
            self._leaving = False
            if not self._writing:
                self._hand_over()

    def _hand_over(self) -> None:
        work: Batch | _Removal | None = None
        if self._removals:
            work = self._removals.popleft()
        elif self._batches and not self._held:
            work = self._batches.take()
        self._writing = work is not None
        if isinstance(work, Batch):
            take = self._taker() if self._alone else None
            work.taken = Underway(work.events) if take else None
            self._handed_over.put(work)
            if take and work.taken:
                take(work.taken)
        elif work is not None:
            self._handed_over.put(work)
        if self._writing or self._batches:
            self._idle.clear()
        else:
            self._idle.set()

    def _settle(self, batch: Batch, first: Position, failure: str) -> None:
        self._batches.returned(batch)
        self._hand_over()
        if failure:
            batch.fail(failure)
        else:
            batch.settle(first)

    def _settle_removal(self, removal: _Removal, result: Any, error: Exception | None) -> None:
        self._hand_over()
        if not removal.waiter.done():
            if error is None:
                removal.waiter.set_result(result)
            else:
                removal.waiter.set_exception(error)

    def _write_batches(self, writer: LogWriter) -> None:
        """The writer's thread, until None is handed over."""
        usable: LogWriter | None = writer
        hinted_s = 0.0
        owed = False
        while True:
            pause_s = hinted_s + HINT_PAUSE_S - time.monotonic()
            if owed and pause_s <= 0:
                usable = self._hinted(usable)
                owed, hinted_s = False, time.monotonic()
            try:
                work = self._handed_over.get(timeout=pause_s if owed else None)
            except queue.Empty:
                continue
            if work is None:
                break
            result: Any = None
            failure: Exception | None = None
            try:
                usable = usable or self._open_writer()
                if isinstance(work, Batch):
                    if work.taken is None:
                        self._make_way()
                    result = usable.append(work.events)
                else:
                    result = work.remove(usable)
            except Exception as error:  # noqa: BLE001
                # Whatever it was, the waiters get an answer, and what follows a new connection.
                failure = error
                if isinstance(error, errors.PlugstatusError):
                    _log.warning("the event log cannot be written", reason=str(error))
                else:
                    _log.exception("writing the event log failed")
                if usable is not None and not usable.mends_itself:
                    usable.close()
                    usable = None
            else:
                owed = True
            if isinstance(work, _Removal):
                if failure is None:
                    self._on_commit()
                self._loop.call_soon_threadsafe(self._settle_removal, work, result, failure)
            else:
                # What the database says of itself is for the log, not for those who asked.
                told = "the event log cannot be written now: try again later" if failure else ""
                first = Position(result or 0)
                self._failing_until_s = self._loop.time() + self._failing_s if failure else 0.0
                if failure is None and first != SPOOLED:
                    self.last_position = Position(first + len(work.events) - 1)
                # Who folds it first: that takes longest.
                self._tell(work, None if failure or first == SPOOLED else first)
                work.tell(None if failure else first)
                self._loop.call_soon_threadsafe(self._settle, work, first, told)
        if usable is not None:
            usable.close()

    def _tell(self, batch: Batch, first: Position | None) -> None:
        """Who follows the log hears where the batch begins, or that it is not there."""
        if batch.taken is not None:
            batch.taken.settle(first)
            return
        take = self._taker() if first is not None else None
        if take is not None:
            # It need not be read.
            recorded = Underway(batch.events)
            recorded.settle(first)
            take(recorded)
        elif first is not None:
            self._on_commit()

    def _hinted(self, writer: LogWriter | None) -> LogWriter | None:
        """The writer, unless its connection turns out to be lost."""
        if writer is None:
            return None
        try:
            self._hint(writer)
        except errors.LogUnavailable:
            # Nothing was to be written: whoever appends next tells of it, or finds it mended.
            if not writer.mends_itself:
                writer.close()
                return None
        return writer
