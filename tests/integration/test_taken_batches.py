"""Who begins with a batch before it is read: over every implementation of the log."""

import asyncio
import threading

import pytest

from service import errors
from service.domain.events import BEFORE_FIRST, Position
from service.eventlog.log import LogReader
from service.eventlog.underway import Taker, Underway
from tests.appending import PLENTY, Gate, appending
from tests.logs import LogUnderTest, new_event


@pytest.fixture
def gate(log: LogUnderTest) -> Gate:
    return Gate(log)


class Takes:
    """Who takes every batch."""

    def __init__(self) -> None:
        self.taken: list[Underway] = []

    def taker(self) -> Taker:
        return self.taken.append


@pytest.mark.parametrize("alone", [True, False])
async def test_who_takes_a_batch_hears_what_became_of_it(
    gate: Gate, reader: LogReader, alone: bool
) -> None:
    """Alone in appending: before it is recorded; otherwise with its outcome. Nobody wakes him."""
    takes, wakes = Takes(), 0

    def wake() -> None:
        nonlocal wakes
        wakes += 1

    async with appending(gate, on_commit=wake, taker=takes.taker, alone=alone) as appender:
        waiters = [appender.append(new_event(b"%d" % number)) for number in range(3)]
        await gate.begun()
        early = len(takes.taken)
        gate.let()
        first, *_ = await asyncio.gather(*waiters)
    (taken,) = takes.taken

    assert early == alone
    assert (taken.begin_at(first), taken.begin_at(Position(first + 1))) == (True, False)
    assert taken.events(first) == reader.read(BEFORE_FIRST, 10, PLENTY)
    assert wakes == 0


@pytest.mark.parametrize("alone", [True, False])
async def test_a_batch_that_is_not_recorded_begins_nowhere(
    gate: Gate, log: LogUnderTest, alone: bool
) -> None:
    """Who took it hears so; who would take it afterwards hears nothing."""
    log.refuse("refused")
    takes = Takes()
    gate.let(1_000)
    async with appending(gate, taker=takes.taker, alone=alone) as appender:
        with pytest.raises(errors.LogUnavailable):
            await appender.append(new_event(b"b", instance="refused"))

    assert [taken.begin_at(Position(1)) for taken in takes.taken] == [False] * alone


async def test_who_is_not_waiting_is_woken(gate: Gate) -> None:
    """Nobody takes it: then it is told that there is something to read."""
    woken = threading.Event()
    gate.let(1_000)
    async with appending(gate, on_commit=woken.set, alone=True) as appender:
        await appender.append(new_event(b"a"))

    assert woken.is_set()
