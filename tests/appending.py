"""Group commit with its writer held where a test wants it; appending as another process does."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from types import MappingProxyType

from service.config import Limits
from service.domain.events import BEFORE_FIRST, Event, NewEvent, Position
from service.eventlog.group_commit import GroupCommit
from service.eventlog.log import LogWriter
from service.eventlog.underway import Taker, nobody
from tests.logs import LogUnderTest

PATIENCE_S = 30
PLENTY = 1_000_000_000


class Gate:
    """Opens writers whose every transaction says that it begins, and waits to be let through."""

    def __init__(self, log: LogUnderTest) -> None:
        self._log = log
        self._begun = threading.Semaphore(0)
        self._let = threading.Semaphore(0)
        self.batches: list[list[bytes]] = []
        self.writers = 0

    def open_writer(self) -> LogWriter:
        writer = held(self._log.open_writer(), self.hold)
        self.writers += 1
        return writer

    def recorded(self) -> list[Event]:
        """On any thread."""
        with closing(self._log.open_reader()) as reader:
            return reader.read(BEFORE_FIRST, 10_000, PLENTY)

    async def begun(self) -> None:
        """Wait until a further transaction has begun."""
        assert await asyncio.to_thread(self._begun.acquire, timeout=PATIENCE_S)

    def let(self, transactions: int = 1) -> None:
        """Let so many transactions through."""
        self._let.release(transactions)

    def hold(self, events: Sequence[NewEvent]) -> None:
        """Called before each append, on the writer's thread."""
        self.batches.append([event.content for event in events])
        self._begun.release()
        assert self._let.acquire(timeout=PATIENCE_S)


def held(writer: LogWriter, hold: Callable[[Sequence[NewEvent]], None]) -> LogWriter:
    """The writer, but that each append first says so and waits."""
    append = writer.append

    def held(events: Sequence[NewEvent]) -> Position:
        hold(events)
        return append(events)

    writer.append = held  # type: ignore[method-assign]
    return writer


@asynccontextmanager
async def appending(
    gate: Gate,
    bounds: Mapping[str, int] = MappingProxyType({}),
    on_commit: Callable[[], None] = lambda: None,
    taker: Callable[[], Taker | None] = nobody,
    *,
    alone: bool = False,
) -> AsyncIterator[GroupCommit]:
    """A started appender that is let through and closed at the end."""
    limits = replace(Limits(batch_events_max=100, waiting_events_max=1_000), **bounds)
    appender = GroupCommit(
        gate.open_writer, on_commit, lambda _: None, taker=taker, limits=limits, alone=alone
    )
    appender.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield appender
    finally:
        gate.let(1_000)
        await appender.close()


def all_appended(
    appender: GroupCommit, callbacks: Sequence[NewEvent]
) -> "asyncio.Future[Position | None]":
    """A future of what is told."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Position | None] = loop.create_future()

    def told(first: Position | None) -> None:
        with suppress(RuntimeError):
            # The loop may be gone.
            loop.call_soon_threadsafe(outcome.set_result, first)

    appender.append_all(callbacks, told)
    return outcome
