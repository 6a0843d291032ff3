"""What waits to be recorded, and since when."""

import asyncio
from typing import cast

import pytest

from service import errors
from service.config import Limits
from service.domain.events import Position
from service.eventlog.batches import Batches
from tests.clock import FakeClock
from tests.logs import new_event

LIMITS = Limits(waiting_s_max=5)


class Loop:
    """As much of one as batches use."""

    def __init__(self, clock: FakeClock) -> None:
        self.time = clock.monotonic_s

    def create_future(self) -> "asyncio.Future[Position]":
        return asyncio.get_running_loop().create_future()


async def test_nothing_is_refused_once_what_took_long_is_over() -> None:
    """Whoever is told at once comes again before the loop has heard of it."""
    clock = FakeClock()
    told: list[Position | None] = []
    batches = Batches(LIMITS)
    loop = cast(asyncio.AbstractEventLoop, Loop(clock))
    batches.add_told(loop, [new_event(b"a"), new_event(b"b")], told.append)
    under_way = batches.take()
    clock.advance(5.1)
    with pytest.raises(errors.LogUnavailable):
        batches.add(loop, new_event(b"refused"))
    under_way.tell(Position(7))
    batches.add_told(loop, [new_event(b"c")], told.append)
    clock.advance(5.1)

    assert told == [7]
    # Now it is that one which waits.
    with pytest.raises(errors.LogUnavailable):
        batches.add(loop, new_event(b"refused"))
    batches.returned(under_way)
    assert [event.content for event in batches.take().events] == [b"c"]


async def test_who_shares_a_batch_hears_where_his_begin() -> None:
    """Or, as all of them, that they are not recorded."""
    told: list[Position | None] = []
    outcomes = []
    for first in (Position(3), None):
        batches = Batches(LIMITS)
        loop = cast(asyncio.AbstractEventLoop, Loop(FakeClock()))
        for content in (b"a", b"b"):
            batches.add_told(loop, [new_event(content), new_event(content)], told.append)
        batches.take().tell(first)
        outcomes.append([*told])
        told.clear()

    assert outcomes == [[3, 5], [None, None]]
