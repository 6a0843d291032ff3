"""What takes too long is given up, with one look at all of it instead of a timer each.

A timer for every request and for every frame is a tenth of what a short call or a frame costs.
"""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

_LOOK_S = 0.25
"""How late something may be given up; small against the seconds it may last."""


class Deadlines:
    """Blocks that may all last equally long: `with deadlines: …`, one at a time in a task.

    Bound to the running loop of its first use.
    """

    def __init__(self, limit_s: float, overdue: Callable[[], Exception]) -> None:
        """`overdue` makes what is raised in place of a block that took too long."""
        self._limit_s = limit_s
        self._overdue = overdue
        self._begun_s: dict[asyncio.Task[Any], float] = {}
        """Of the tasks inside, in the order in which they came."""
        self._looking = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._begun_s[task] = time.monotonic()
        if not self._looking:
            self._looking = True
            self._look_later()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        given_up = self._begun_s.pop(task, None) is None
        # As asyncio.timeout does it: unless somebody else cancels too.
        if given_up and kind is asyncio.CancelledError and not task.uncancel():
            raise self._overdue() from None

    def _look_later(self) -> None:
        asyncio.get_running_loop().call_later(min(_LOOK_S, self._limit_s), self._look)

    def _look(self) -> None:
        overdue_s = time.monotonic() - self._limit_s
        while self._begun_s:
            task, begun_s = next(iter(self._begun_s.items()))
            if begun_s > overdue_s:
                break
            del self._begun_s[task]
            task.cancel()
        self._looking = bool(self._begun_s)
        if self._looking:
            self._look_later()
