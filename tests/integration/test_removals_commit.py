"""What else the log's one writer does, between batches: removals, erasures, holding the log."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import pytest

from service import errors
from service.config import Limits
from service.domain.events import BEFORE_FIRST, Event, EventKind, NewEvent, Position
from service.eventlog.group_commit import GroupCommit
from service.eventlog.log import BaselineChange, LogReader, LogWriter
from tests.appending import PATIENCE_S, PLENTY, Gate, appending
from tests.logs import LogUnderTest, new_event

NO_CHANGE = BaselineChange()
ERASURE = new_event(b'{"positions":[1]}', instance="", kind=EventKind.ERASURE)


class RemovalsGate(Gate):
    """Sees removals and commits as well."""

    def __init__(self, log: LogUnderTest) -> None:
        super().__init__(log)
        self.done: list[str] = []
        """What the writers did, in order."""
        self.commits = 0

    def committed(self) -> None:
        self.commits += 1

    def doing(self, name: str) -> Callable[[LogWriter], str]:
        """A removal that only says that it had its turn."""

        def remove(_log: LogWriter) -> str:
            self.done.append(name)
            return name

        return remove

    def hold(self, events: Sequence[NewEvent]) -> None:
        super().hold(events)
        self.done.append(b"".join(event.content for event in events).decode())


@pytest.fixture
def gate(log: LogUnderTest) -> RemovalsGate:
    return RemovalsGate(log)


def _appender(gate: RemovalsGate) -> AbstractAsyncContextManager[GroupCommit]:
    return appending(gate, {"waiting_events_max": 10}, gate.committed)


def _events(reader: LogReader) -> list[Event]:
    return reader.read(BEFORE_FIRST, 1_000, PLENTY)


async def test_a_removal_has_its_turn_before_what_collects(gate: RemovalsGate) -> None:
    """Removals go behind the batch under way, in their order, and before the next batch."""
    async with _appender(gate) as appender:
        waiters = [appender.append(new_event(b"a"))]
        await gate.begun()
        removals = [asyncio.create_task(appender.remove(gate.doing(f"-{n}-"))) for n in range(2)]
        await asyncio.sleep(0)  # lets them be asked
        waiters += [appender.append(new_event(b"b")), appender.append(new_event(b"c"))]
        gate.let(2)
        results = await asyncio.gather(*removals)
        positions = await asyncio.gather(*waiters)

    assert results == ["-0-", "-1-"]
    assert positions == [1, 2, 3]
    assert gate.done == ["a", "-0-", "-1-", "bc"]


async def test_what_was_appended_just_before_goes_before(gate: RemovalsGate) -> None:
    """A removal does not overtake it, and a log is not held before it."""
    gate.let(10)
    async with _appender(gate) as appender:
        waiters = [appender.append(new_event(b"a"))]
        removed = await appender.remove(gate.doing("-"))
        waiters.append(appender.append(new_event(b"b")))
        async with appender.held():
            settled = [waiter.done() for waiter in waiters]

    assert removed == "-"
    assert gate.done == ["a", "-", "b"]
    assert settled == [True, True]


async def test_a_removal_of_an_idle_log(gate: RemovalsGate) -> None:
    """With nothing else to do it is done at once, readers are told, and it can be closed."""
    async with _appender(gate) as appender:
        assert await appender.remove(gate.doing("-")) == "-"
        assert gate.commits == 1


async def test_an_erasure_replaces_and_appends(gate: RemovalsGate, reader: LogReader) -> None:
    """Its event gets the next position, and what is appended after it the one behind that."""
    gate.let(10)
    async with _appender(gate) as appender:
        first = await appender.append(new_event(b"body"))
        erased = await appender.erase([(first, b"{}")], ERASURE, NO_CHANGE)
        told = appender.last_position
        behind = await appender.append(new_event(b"more"))

    assert (first, erased, told, behind) == (1, 2, 2, 3)
    assert [(event.kind, event.content) for event in _events(reader)] == [
        (EventKind.TOMBSTONE, b"{}"),
        (EventKind.ERASURE, ERASURE.content),
        (EventKind.CALLBACK, b"more"),
    ]
    assert reader.removals().erased_event_count == 1


async def test_a_failed_erasure_leaves_everything(
    gate: RemovalsGate, log: LogUnderTest, reader: LogReader
) -> None:
    """Its caller hears of it, nothing is erased or appended, and what waited goes on."""
    log.refuse("refused")
    async with _appender(gate) as appender:
        gate.let()
        await appender.append(new_event(b"a"))
        await gate.begun()
        refused = new_event(b"{}", instance="refused", kind=EventKind.ERASURE)
        erasing = asyncio.create_task(appender.erase([(Position(1), b"{}")], refused, NO_CHANGE))
        await asyncio.sleep(0)  # lets it be asked
        waiting = appender.append(new_event(b"b"))
        with pytest.raises(errors.LogUnavailable):
            await erasing
        failing = appender.failing
        gate.let()
        position = await waiting

    assert position == 2
    assert not failing
    assert [(event.kind, event.content) for event in _events(reader)] == [
        (EventKind.CALLBACK, b"a"),
        (EventKind.CALLBACK, b"b"),
    ]
    assert reader.removals().erased_event_count == 0


async def test_a_removal_s_own_fault_is_its_caller_s(gate: RemovalsGate) -> None:
    """Whatever a removal raises its caller gets, and the writer that follows works."""

    def faulty(_log: LogWriter) -> None:
        raise ZeroDivisionError

    async with _appender(gate) as appender:
        with pytest.raises(ZeroDivisionError):
            await appender.remove(faulty)
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(appender.remove_and_wait, faulty)
        gate.let()
        assert await appender.append(new_event(b"a")) == 1
        assert await asyncio.to_thread(appender.remove_and_wait, gate.doing("-")) == "-"


async def test_a_caller_that_leaves_undoes_nothing(gate: RemovalsGate, reader: LogReader) -> None:
    """An erasure whose caller left before its turn is done all the same, and blocks nobody."""
    async with _appender(gate) as appender:
        waiting = appender.append(new_event(b"a"))
        await gate.begun()
        erasing = asyncio.create_task(appender.erase([(Position(1), b"{}")], ERASURE, NO_CHANGE))
        await asyncio.sleep(0)  # lets it be asked
        erasing.cancel()
        gate.let(2)
        await waiting
        behind = await appender.append(new_event(b"b"))

    assert behind == 3
    assert _events(reader)[0].kind is EventKind.TOMBSTONE


async def test_appends_wait_while_the_log_is_held(gate: RemovalsGate, reader: LogReader) -> None:
    """Inside, the head stands still but for what the holder erases; then all goes on in order."""
    gate.let(10)
    async with _appender(gate) as appender:
        await appender.append(new_event(b"a"))
        async with appender.held():
            waiters = [appender.append(new_event(b"b"))]
            heads = [reader.head().position]
            erased = await appender.erase([(Position(1), b"{}")], ERASURE, NO_CHANGE)
            waiters.append(appender.append(new_event(b"c")))
            await appender.remove(gate.doing("-"))
            heads.append(reader.head().position)
            done = [waiter.done() for waiter in waiters]
        positions = await asyncio.gather(*waiters)

    assert (heads, done, erased) == ([1, 2], [False, False], 2)
    assert positions == [3, 4]
    assert gate.done == ["a", "-", "bc"]


async def test_holding_waits_for_the_batch_under_way(gate: RemovalsGate, reader: LogReader) -> None:
    """The holder begins once what was handed over before is committed."""
    async with _appender(gate) as appender:
        under_way = appender.append(new_event(b"a"))
        await gate.begun()
        collected = appender.append(new_event(b"b"))
        entered = asyncio.Event()

        async def hold() -> int:
            async with appender.held():
                entered.set()
                return reader.head().position

        holding = asyncio.create_task(hold())
        await asyncio.sleep(0)  # lets it ask
        early = entered.is_set()
        gate.let(2)
        seen = await holding
        positions = [await under_way, await collected]

    assert not early
    assert seen == 1
    assert positions == [1, 2]


async def test_too_much_waits_at_a_hold_as_anywhere(gate: RemovalsGate) -> None:
    """What waits for a hold is bounded, and refused beyond; room comes after it."""
    gate.let(100)
    async with _appender(gate) as appender:
        async with appender.held():
            waiters = [appender.append(new_event(b"x")) for _ in range(10)]
            with pytest.raises(errors.LogUnavailable):
                appender.append(new_event(b"refused"))
        await asyncio.gather(*waiters)
        await appender.append(new_event(b"y"))

    assert gate.done == ["x" * 10, "y"]


@pytest.mark.parametrize("fault", [RuntimeError, asyncio.CancelledError])
async def test_a_holder_that_fails_lets_go(gate: RemovalsGate, fault: type[BaseException]) -> None:
    """However the holder ends, what waited is appended, and the log can be held again."""
    gate.let(10)
    async with _appender(gate) as appender:
        waiters: list[asyncio.Future[Position]] = []

        async def hold() -> None:
            async with appender.held():
                waiters.append(appender.append(new_event(b"a")))
                raise fault

        with pytest.raises(fault):
            await hold()
        async with appender.held():
            pass
        positions = await asyncio.gather(*waiters)

    assert positions == [1]


async def test_a_holder_that_leaves_before_its_turn(gate: RemovalsGate) -> None:
    """Cancelled while it waits for the batch under way, it holds up nobody."""
    async with _appender(gate) as appender:
        under_way = appender.append(new_event(b"a"))
        await gate.begun()

        async def hold() -> None:
            async with appender.held():
                raise AssertionError("it never got there")

        holding = asyncio.create_task(hold())
        await asyncio.sleep(0)  # lets it ask
        collected = appender.append(new_event(b"b"))
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        gate.let(2)
        positions = [await under_way, await collected]

    assert positions == [1, 2]


async def test_closing_while_the_log_is_held(gate: RemovalsGate, reader: LogReader) -> None:
    """Close waits for the holder, then records what waited; the holder's next step is refused."""
    gate.let(10)
    async with _appender(gate) as appender:
        async with appender.held():
            waiting = appender.append(new_event(b"a"))
            closing_up = asyncio.create_task(appender.close())
            await asyncio.sleep(0)  # lets close begin
            with pytest.raises(errors.LogUnavailable):
                await appender.erase([], ERASURE, NO_CHANGE)
            with pytest.raises(errors.LogUnavailable):
                await appender.remove(gate.doing("-"))
            early = (waiting.done(), closing_up.done())
        await closing_up

    assert early == (False, False)
    assert waiting.result() == 1
    assert [event.content for event in _events(reader)] == [b"a"]


async def test_closing_does_the_removals_asked_before(
    gate: RemovalsGate, reader: LogReader
) -> None:
    """What was asked before the close is done, in its turn; what comes later is refused."""
    async with _appender(gate) as appender:
        waiting = appender.append(new_event(b"a"))
        await gate.begun()
        erasing = asyncio.create_task(appender.erase([(Position(1), b"{}")], ERASURE, NO_CHANGE))
        await asyncio.sleep(0)  # lets it be asked
        closing_up = asyncio.create_task(appender.close())
        await asyncio.sleep(0)  # lets close begin
        gate.let()
        await closing_up
        positions = [await waiting, await erasing]
        for refused in (appender.remove(gate.doing("-")), appender.held().__aenter__()):
            with pytest.raises(errors.LogUnavailable):
                await refused

    assert positions == [1, 2]
    assert [event.kind for event in _events(reader)] == [EventKind.TOMBSTONE, EventKind.ERASURE]


async def test_only_what_is_appended_makes_way(gate: RemovalsGate) -> None:
    """What is to go first is asked before each transaction of events, and before no other."""
    gate.let(2)
    appender = GroupCommit(
        gate.open_writer, gate.committed, make_way=lambda: gate.done.append("way"), limits=Limits()
    )
    appender.start()
    async with asyncio.timeout(PATIENCE_S):
        await appender.append(new_event(b"a"))
        await appender.remove(gate.doing("-"))
        await appender.append(new_event(b"b"))
        await appender.close()

    assert gate.done == ["way", "a", "-", "way", "b"]
