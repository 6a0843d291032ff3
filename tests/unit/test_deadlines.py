"""Work that takes too long is given up; all other work is left alone."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from service.api.deadlines import Deadlines

ResultT = TypeVar("ResultT")

SOON_S = 0.01
PATIENCE_S = 10.0


class Overdue(Exception):
    """Work took too long."""


async def _kept(deadlines: Deadlines, work: Awaitable[ResultT]) -> ResultT:
    with deadlines:
        return await work


async def test_what_takes_too_long_is_given_up() -> None:
    """Cancelled, and told as what is overdue; the task itself goes on."""
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(Overdue):
            await _kept(Deadlines(SOON_S, Overdue), endless())

        assert ended.is_set()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_what_ends_in_time_returns_or_raises() -> None:
    """And is not cancelled when its time would have been over."""
    deadlines = Deadlines(SOON_S, Overdue)

    async def quick() -> int:
        return 7

    async def failing() -> None:
        raise KeyError

    async with asyncio.timeout(PATIENCE_S):
        assert await _kept(deadlines, quick()) == 7
        with pytest.raises(KeyError):
            await _kept(deadlines, failing())
        with pytest.raises(Overdue):
            # Behind what has ended, and looked at all the same.
            await _kept(deadlines, asyncio.Event().wait())


async def test_others_are_not_in_the_way() -> None:
    """Each has its own time, whoever began before."""
    deadlines = Deadlines(SOON_S, Overdue)
    go_on = asyncio.Event()

    async def late() -> str:
        with pytest.raises(Overdue):
            await _kept(deadlines, asyncio.Event().wait())
        return "late"

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        lates = [group.create_task(late()) for _ in range(5)]
        await asyncio.gather(*lates)
        go_on.set()
        assert await _kept(deadlines, go_on.wait())
        assert [one.result() for one in lates] == ["late"] * 5


async def test_a_cancelled_caller_stays_cancelled() -> None:
    """Somebody else's cancellation is not taken for a timeout."""
    deadlines = Deadlines(PATIENCE_S, Overdue)
    waiting = asyncio.create_task(_kept(deadlines, asyncio.Event().wait()))
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
