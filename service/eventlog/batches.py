"""Events that wait to be recorded, collected into batches, within bounds.

A batch is recorded as a whole or not at all, and takes consecutive positions. One is under way at a
time; what comes meanwhile collects behind it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from service import errors
from service.config import Limits
from service.domain.events import SPOOLED, EventKind, NewEvent, Position
from service.eventlog.underway import Underway

Told = Callable[[Position | None], None]
"""Hears the first one's position, SPOOLED, or None if it is not known that they are recorded.
Called once, on the thread that recorded them: it is short, and raises nothing."""

_AWAY = "the event log's database is away: only callbacks are kept meanwhile"


class Batch:
    """Events in order, and who waits for which of them."""

    __slots__ = ("contents_bytes", "events", "over", "since_s", "taken", "told", "waiters")

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.events: list[NewEvent] = []
        self.waiters: list[tuple[asyncio.Future[Position], int]] = []
        """With the place of their event in the batch."""
        self.told: list[tuple[Told, int]] = []
        """With the place of the first of their events."""
        self.over = False
        """It is known whether they are recorded, if not by all who wait."""
        self.contents_bytes = 0
        self.taken: Underway | None = None
        """As somebody has it who folds meanwhile."""

    def tell(self, first: Position | None) -> None:
        """The same as `settle` and `fail`, for those who are told at once."""
        self.over = True
        for told, place in self.told:
            told(first if first is None or first == SPOOLED else Position(first + place))

    def settle(self, first: Position) -> None:
        """Recorded: the first one there, or SPOOLED."""
        for waiter, place in self.waiters:
            if not waiter.done():
                if first != SPOOLED:
                    waiter.set_result(Position(first + place))
                elif self.events[place].kind is EventKind.CALLBACK:
                    waiter.set_result(SPOOLED)
                else:
                    waiter.set_exception(errors.LogUnavailable(_AWAY))

    def fail(self, reason: str) -> None:
        """None of it is recorded, or that is not known."""
        for waiter, _ in self.waiters:
            if not waiter.done():
                waiter.set_exception(errors.LogUnavailable(reason))


class Batches:
    """Bound to one loop, the running one whenever it is used."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._collected: deque[Batch] = deque()
        self._waiting_events = 0
        self._waiting_bytes = 0
        self.under_way: Batch | None = None
        """Taken, and not returned yet."""

    def __bool__(self) -> bool:
        """Is there one to take?"""
        return bool(self._collected)

    def add(self, loop: asyncio.AbstractEventLoop, event: NewEvent) -> "asyncio.Future[Position]":
        """A future of its position, or SPOOLED; it raises LogUnavailable.

        Raises LogUnavailable when too much is waiting already, or for too long: then nothing was
        added.
        """
        batch, place = self._added(loop, (event,))
        waiter: asyncio.Future[Position] = loop.create_future()
        batch.waiters.append((waiter, place))
        return waiter

    def add_told(
        self, loop: asyncio.AbstractEventLoop, callbacks: Sequence[NewEvent], told: Told
    ) -> None:
        """The same for callbacks of somebody who is told, before those who wait. All of them go
        into one batch.
        """
        batch, place = self._added(loop, callbacks)
        batch.told.append((told, place))

    def _added(
        self, loop: asyncio.AbstractEventLoop, events: Sequence[NewEvent]
    ) -> tuple[Batch, int]:
        """The batch they are in, and from which place on."""
        limits = self._limits
        count, size = len(events), 0
        for event in events:
            size += len(event.content)
        waiting_events = self._waiting_events + count
        waiting_bytes = self._waiting_bytes + size
        if waiting_events > limits.waiting_events_max or waiting_bytes > limits.waiting_bytes_max:
            raise errors.LogUnavailable("too much is waiting to be recorded: try again")
        now_s = loop.time()
        if now_s - self._waits_since_s(now_s) > limits.waiting_s_max:
            raise errors.LogUnavailable("recording takes too long: try again")
        batch = self._batch_for(count, size, now_s)
        place = len(batch.events)
        batch.events += events
        batch.contents_bytes += size
        self._waiting_events = waiting_events
        self._waiting_bytes = waiting_bytes
        return batch, place

    def take(self) -> Batch:
        """The oldest, which is under way from now on."""
        assert self.under_way is None
        self.under_way = self._collected.popleft()
        return self.under_way

    def returned(self, batch: Batch) -> None:
        """It is not under way any more, and about to be settled."""
        assert batch is self.under_way
        self.under_way = None
        self._waiting_events -= len(batch.events)
        self._waiting_bytes -= batch.contents_bytes

    def _waits_since_s(self, now_s: float) -> float:
        """Since when the one does that has waited longest; now if nobody waits."""
        if self.under_way is not None and not self.under_way.over:
            return self.under_way.since_s
        return self._collected[0].since_s if self._collected else now_s

    def _batch_for(self, events: int, size: int, now_s: float) -> Batch:
        if self._collected:
            batch = self._collected[-1]
            if (
                len(batch.events) + events <= self._limits.batch_events_max
                and batch.contents_bytes + size <= self._limits.batch_bytes_max
            ):
                return batch
        batch = Batch(now_s)
        self._collected.append(batch)
        return batch
