"""Work that takes too long is given up; all other work is left alone."""

import asyncio

import pytest

from service.api.deadlines import Deadlines

SOON_S = 0.01
PATIENCE_S = 10.0


async def test_what_takes_too_long_is_given_up() -> None:
    """Cancelled, and told as a timeout; the task itself goes on."""
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(TimeoutError):
            await Deadlines(SOON_S).keep(endless())

        assert ended.is_set()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_what_ends_in_time_returns_or_raises() -> None:
    """And is not cancelled when its time would have been over."""
    deadlines = Deadlines(SOON_S)

    async def quick() -> int:
        return 7

    async def failing() -> None:
        raise KeyError

    async with asyncio.timeout(PATIENCE_S):
        assert await deadlines.keep(quick()) == 7
        with pytest.raises(KeyError):
            await deadlines.keep(failing())
        with pytest.raises(TimeoutError):
            # Behind what has ended, and looked at all the same.
            await deadlines.keep(asyncio.Event().wait())


async def test_others_are_not_in_the_way() -> None:
    """Each has its own time, whoever began before."""
    deadlines = Deadlines(SOON_S)
    go_on = asyncio.Event()

    async def late() -> str:
        with pytest.raises(TimeoutError):
            await deadlines.keep(asyncio.Event().wait())
        return "late"

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        lates = [group.create_task(late()) for _ in range(5)]
        await asyncio.gather(*lates)
        go_on.set()
        assert await deadlines.keep(go_on.wait())
        assert [one.result() for one in lates] == ["late"] * 5


async def test_a_cancelled_caller_stays_cancelled() -> None:
    """Somebody else's cancellation is not taken for a timeout."""
    deadlines = Deadlines(PATIENCE_S)
    waiting = asyncio.create_task(deadlines.keep(asyncio.Event().wait()))
    await asyncio.sleep(0)
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
