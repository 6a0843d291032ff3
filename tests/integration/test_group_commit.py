"""Group commit over every implementation of the log, its writer held where a test wants it."""

import asyncio
import os
import signal
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from service import errors
from service.config import Limits
from service.domain.events import BEFORE_FIRST, NewEvent, Position
from service.eventlog.group_commit import GroupCommit
from service.eventlog.log import LogReader
from tests.appending import PATIENCE_S, PLENTY, Gate, all_appended, appending, held
from tests.logs import LOGS, LogUnderTest, new_event
from tests.processes import child, lines


@pytest.fixture
def gate(log: LogUnderTest) -> Gate:
    return Gate(log)


def _contents(reader: LogReader) -> list[bytes]:
    return [event.content for event in reader.read(BEFORE_FIRST, 10_000, PLENTY)]


async def test_a_waiter_waits_for_its_commit(gate: Gate, reader: LogReader) -> None:
    """A lone append leaves at once, and is resolved with its position once readers see it."""
    async with appending(gate) as appender:
        waiter = appender.append(new_event(b"a"))
        await gate.begun()
        early = (waiter.done(), _contents(reader))
        gate.let()
        position = await waiter

        assert (False, []) == early
        assert (1, [b"a"]) == (position, _contents(reader))


async def test_appends_collect_while_a_transaction_runs(gate: Gate, reader: LogReader) -> None:
    """What comes while a transaction runs leaves as the next one, together and in order."""
    async with appending(gate) as appender:
        waiters = [appender.append(new_event(b"0"))]
        await gate.begun()
        waiters += [appender.append(new_event(b"%d" % number)) for number in range(1, 50)]
        gate.let(2)
        positions = await asyncio.gather(*waiters)

    expected = [b"%d" % number for number in range(50)]

    assert [expected[:1], expected[1:]] == gate.batches
    assert list(range(1, 51)) == positions
    assert expected == _contents(reader)


async def test_transactions_follow_each_other_under_load(gate: Gate, reader: LogReader) -> None:
    """Positions are in the order of the appends, however many batches it takes."""
    gate.let(1_000)
    async with appending(gate, {"batch_events_max": 7}) as appender:
        waiters = []
        for number in range(300):
            waiters.append(appender.append(new_event(b"%d" % number)))
            if number % 10 == 9:
                await asyncio.sleep(0)
        positions = await asyncio.gather(*waiters)

    assert list(range(1, 301)) == positions
    assert [b"%d" % number for number in range(300)] == _contents(reader)


@pytest.mark.parametrize(
    ("bounds", "sizes"),
    [
        ({"batch_events_max": 2}, [[1], [1, 1], [1, 5], [1]]),
        ({"batch_bytes_max": 3}, [[1], [1, 1, 1], [5], [1]]),
        ({"batch_bytes_max": 6}, [[1], [1, 1, 1], [5, 1]]),
    ],
    ids=str,
)
async def test_batches_are_bounded(
    gate: Gate, bounds: dict[str, int], sizes: list[list[int]]
) -> None:
    """A batch ends at its number of events or bytes; an event larger than that goes alone."""
    gate_sizes = [1, 1, 1, 1, 5, 1]
    async with appending(gate, bounds) as appender:
        waiters = [appender.append(new_event(b"x" * gate_sizes[0]))]
        await gate.begun()
        waiters += [appender.append(new_event(b"x" * size)) for size in gate_sizes[1:]]
        gate.let(10)
        positions = await asyncio.gather(*waiters)

    assert sizes == [[len(content) for content in batch] for batch in gate.batches]
    assert [1, 2, 3, 4, 5, 6] == positions


async def test_a_cancelled_waiter_leaves_the_others(gate: Gate, reader: LogReader) -> None:
    """A waiter that is cancelled disturbs no other, and its event is recorded all the same."""
    async with appending(gate) as appender:
        waiters = [appender.append(new_event(b"%d" % number)) for number in range(4)]
        await gate.begun()
        waiters[0].cancel()
        waiters[2].cancel()
        gate.let(2)
        positions = [await waiters[1], await waiters[3]]

    assert [2, 4] == positions
    assert [b"0", b"1", b"2", b"3"] == _contents(reader)


async def test_a_failed_transaction_fails_its_whole_batch_only(
    gate: Gate, log: LogUnderTest, reader: LogReader
) -> None:
    """Each waiter of a failed batch hears of it, none of it is there, and the next batch works."""
    log.refuse("refused")
    async with appending(gate) as appender:
        first = appender.append(new_event(b"a"))
        await gate.begun()
        failing = [
            appender.append(new_event(b"b")),
            appender.append(new_event(b"c", instance="refused")),
            appender.append(new_event(b"d")),
        ]
        gate.let()
        await gate.begun()
        after = appender.append(new_event(b"e"))
        gate.let(2)
        outcomes = await asyncio.gather(*failing, return_exceptions=True)
        positions = [await first, await after]

    assert [errors.LogUnavailable] * 3 == [type(outcome) for outcome in outcomes]
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert [b"a", b"e"] == _contents(reader)
    assert [event.position for event in reader.read(BEFORE_FIRST, 9, PLENTY)] == positions
    assert gate.writers == 2


async def test_a_store_that_comes_back_is_used_again(gate: Gate, log: LogUnderTest) -> None:
    """While the store cannot be opened every batch fails; the first one after that succeeds."""
    log.refuse("refused")
    gate.let(1_000)
    async with appending(gate) as appender:
        with pytest.raises(errors.LogUnavailable):
            await appender.append(new_event(b"a", instance="refused"))
        log.take_away()
        for _ in range(2):
            with pytest.raises(errors.LogUnavailable):
                await appender.append(new_event(b"b"))
        log.bring_back()
        await appender.append(new_event(b"c"))

    with closing(log.open_reader()) as reader:
        assert [b"c"] == _contents(reader)


async def test_several_leave_at_once(gate: Gate, reader: LogReader) -> None:
    """They take along what was appended before them in the same turn, and wait for no more."""
    async with appending(gate) as appender:
        first = appender.append(new_event(b"a"))
        several = all_appended(appender, [new_event(b"b"), new_event(b"c")])
        last = appender.append(new_event(b"d"))
        gate.let()

        assert (await first, await several, last.done()) == (1, 2, False)
        assert _contents(reader) == [b"a", b"b", b"c"]
        gate.let()
        assert await last == 4


async def test_several_are_not_parted(gate: Gate, reader: LogReader) -> None:
    """What does not fit into a transaction as a whole goes with the next one."""
    async with appending(gate, {"batch_events_max": 3}) as appender:
        waiters = [
            all_appended(appender, [new_event(b"a"), new_event(b"b")]),
            all_appended(appender, [new_event(b"c"), new_event(b"d")]),
        ]
        gate.let()
        first = await waiters[0]

        assert (first, waiters[1].done()) == (1, False)
        assert _contents(reader) == [b"a", b"b"]
        gate.let()
        assert await waiters[1] == 3


async def test_another_process_is_told_by_the_thread(gate: Gate, reader: LogReader) -> None:
    """Without the loop having a turn: as soon as it is on disk, of the first of its own events."""
    told: list[tuple[Position | None, list[bytes]]] = []
    heard = threading.Event()

    def hear(first: Position | None) -> None:
        told.append((first, [one.content for one in gate.recorded()]))
        heard.set()

    async with appending(gate) as appender:
        waiter = appender.append(new_event(b"a"))
        appender.append_all([new_event(b"b"), new_event(b"c")], hear)
        await gate.begun()
        early = list(told)
        gate.let()
        # The loop does nothing meanwhile.
        assert heard.wait(PATIENCE_S)
        assert not waiter.done()
        assert await waiter == 1

    assert _contents(reader) == [b"a", b"b", b"c"]
    assert ([], [(2, [b"a", b"b", b"c"])]) == (early, told)


async def test_who_is_told_hears_of_a_failure(log: LogUnderTest) -> None:
    """Of a transaction that failed; of a log that is closed at once."""

    def failing(_events: Sequence[NewEvent]) -> None:
        raise errors.LogUnavailable("away")

    appender = GroupCommit(lambda: held(log.open_writer(), failing), lambda: None, limits=Limits())
    appender.start()
    async with asyncio.timeout(PATIENCE_S):
        outcome = await all_appended(appender, [new_event(b"a")])
        failing_now = appender.failing
        await appender.close()
        with pytest.raises(errors.LogUnavailable):
            all_appended(appender, [new_event(b"b")])

    assert (None, True) == (outcome, failing_now)


async def test_too_many_waiting_events_are_refused_at_once(gate: Gate, reader: LogReader) -> None:
    """Beyond the bound an append is refused without waiting; room comes with the next commit."""
    async with appending(gate, {"waiting_events_max": 3}) as appender:
        waiters = [appender.append(new_event(b"%d" % number)) for number in range(3)]
        await gate.begun()
        with pytest.raises(errors.LogUnavailable):
            appender.append(new_event(b"refused"))
        gate.let()
        await waiters[0]
        waiters.append(appender.append(new_event(b"3")))
        gate.let(2)
        await asyncio.gather(*waiters)

    assert [b"0", b"1", b"2", b"3"] == _contents(reader)


async def test_too_many_waiting_bytes_are_refused_at_once(gate: Gate, reader: LogReader) -> None:
    """Waiting contents are bounded together, whatever their number."""
    async with appending(gate, {"waiting_bytes_max": 10}) as appender:
        waiters = [appender.append(new_event(b"12345")), appender.append(new_event(b"6789"))]
        await gate.begun()
        with pytest.raises(errors.LogUnavailable):
            appender.append(new_event(b"xx"))
        waiters.append(appender.append(new_event(b"0")))
        gate.let(2)
        await asyncio.gather(*waiters)
        last = appender.append(new_event(b"1234567890"))
        gate.let()
        await last

    assert [b"12345", b"6789", b"0", b"1234567890"] == _contents(reader)


async def test_what_comes_in_one_turn_of_the_loop_leaves_together(gate: Gate) -> None:
    """The first of a burst does not cost a transaction of its own; `close` waits for it too."""
    async with appending(gate) as appender:
        waiters = [appender.append(new_event(b"%d" % number)) for number in range(20)]
        gate.let()
        await appender.close()

    assert [waiter.result() for waiter in waiters] == list(range(1, 21))
    assert [len(batch) for batch in gate.batches] == [20]


async def test_closing_finishes_what_was_appended(gate: Gate, reader: LogReader) -> None:
    """Close refuses what comes later, records what came before, and may be called again."""
    async with appending(gate, {"batch_events_max": 2}) as appender:
        waiters = [appender.append(new_event(b"%d" % number)) for number in range(5)]
        await gate.begun()
        closing_up = asyncio.create_task(appender.close())
        await asyncio.sleep(0)  # lets close begin
        with pytest.raises(errors.LogUnavailable):
            appender.append(new_event(b"late"))
        gate.let(10)
        await closing_up
        positions = [waiter.result() for waiter in waiters]
        await appender.close()
        with pytest.raises(errors.LogUnavailable):
            appender.append(new_event(b"later"))

    assert [1, 2, 3, 4, 5] == positions
    assert [b"0", b"1", b"2", b"3", b"4"] == _contents(reader)


async def test_every_commit_is_told_when_it_can_be_read(
    gate: Gate, log: LogUnderTest, reader: LogReader
) -> None:
    """After each commit, and no failure, the observer is called, and readers see the events."""
    log.refuse("refused")
    heads: list[int] = []
    gate.let(1_000)

    def told_head() -> None:
        heads.append(reader.head().position)

    async with appending(gate, on_commit=told_head) as appender:
        await appender.append(new_event(b"a"))
        with pytest.raises(errors.LogUnavailable):
            await appender.append(new_event(b"b", instance="refused"))
        told = [*heads]
        last = await appender.append(new_event(b"c"))

    assert [1] == told
    assert [1, last] == heads


async def test_a_missing_store_stops_the_start(gate: Gate, log: LogUnderTest) -> None:
    """An appender whose store is not there does not start."""
    log.take_away()
    appender = GroupCommit(
        gate.open_writer,
        lambda: None,
        limits=Limits(),
    )

    with pytest.raises(errors.StoreUnusable):
        appender.start()


APPENDER = """
import asyncio, sys
from pathlib import Path
from service.config import Limits
from service.eventlog.group_commit import GroupCommit
from tests.logs import LOGS, new_event

async def client(appender, name):
    for number in range(1_000_000):
        position = await appender.append(new_event(b"%d-%d" % (name, number)))
        print(position, "%d-%d" % (name, number), flush=True)

async def main():
    log = LOGS[sys.argv[1]](Path(sys.argv[2]))
    appender = GroupCommit(
        log.open_writer, lambda: None, limits=Limits())
    appender.start()
    await asyncio.gather(*[client(appender, name) for name in range(20)])

asyncio.run(main())
"""


def test_what_was_resolved_survives_a_kill(log_kind: str, tmp_path: Path) -> None:
    """Every waiter that was resolved has its event at its position after SIGKILL."""
    resolved: dict[int, bytes] = {}
    with child(APPENDER, log_kind, str(tmp_path)) as process:
        for line in lines(process):
            position, name = line.split()
            resolved[int(position)] = name.encode()
            if len(resolved) == 500:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait()

    with closing(LOGS[log_kind](tmp_path).open_reader()) as reader:
        events = {
            event.position: event.content for event in reader.read(BEFORE_FIRST, 100_000, PLENTY)
        }

    assert resolved == {position: events.get(Position(position)) for position in resolved}
    assert list(range(1, len(events) + 1)) == sorted(events)
