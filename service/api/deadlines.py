"""What takes too long is given up, with one look at all of it instead of a timer each.

A timer for every request and for every frame is a tenth of what a short call or a frame costs.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

_LOOK_S = 0.25
"""How late something may be given up; small against the seconds it may last."""


class _Under:
    """Work under way."""

    __slots__ = ("begun_s", "given_up", "task")

    def __init__(self, task: "asyncio.Task[Any] | None", begun_s: float) -> None:
        self.task = task
        """None once it has ended."""
        self.begun_s = begun_s
        self.given_up = False


class Deadlines:
    """For work that may all last equally long. Bound to the running loop of its first use."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._under_way: deque[_Under] = deque()
        """In the order in which it began, what has ended among it."""
        self._looking = False

    async def keep(self, work: Awaitable[ResultT]) -> ResultT:
        """What the work returns. Raises TimeoutError if it takes too long; then it is cancelled."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        one = _Under(task, loop.time())
        self._under_way.append(one)
        if not self._looking:
            self._looking = True
            loop.call_later(min(_LOOK_S, self._limit_s), self._look, loop)
        try:
            return await work
        except asyncio.CancelledError:
            # As asyncio.timeout does it: unless somebody else cancels too.
            if one.given_up and task is not None and not task.uncancel():
                raise TimeoutError from None
            raise
        finally:
            one.task = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        overdue_s = loop.time() - self._limit_s
        while self._under_way:
            oldest = self._under_way[0]
            if oldest.task is not None:
                if oldest.begun_s > overdue_s:
                    break
                oldest.given_up = True
                oldest.task.cancel()
            self._under_way.popleft()
        self._looking = bool(self._under_way)
        if self._looking:
            loop.call_later(min(_LOOK_S, self._limit_s), self._look, loop)
