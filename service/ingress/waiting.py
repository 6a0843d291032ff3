"""Appends that take too long are given up, with one look at all of them instead of a timer each."""

import asyncio
from collections import deque

import structlog

from service import errors
from service.clock import Clock
from service.domain.events import Position

_log = structlog.get_logger(__name__)

_LOOK_S = 0.25
"""How late a wait may end; small against the seconds it may last."""


class AppendDeadline:
    """Bounds how long a callback waits for its transaction. Bound to the running loop.

    Appends are settled nearly in the order in which they were made, so those still waiting are
    the tail of the queue, and a look at its head finds all that are overdue.
    """

    def __init__(self, clock: Clock, append_s: float) -> None:
        self._clock = clock
        self._append_s = append_s
        self._waiting: deque[tuple[float, asyncio.Future[Position]]] = deque()
        self._looking = False

    def watch(self, waiter: asyncio.Future[Position], began_s: float) -> None:
        """The waiter raises LogUnavailable unless it is settled in time, counted from `began_s`.

        The event may be recorded all the same, later: a COMMIT under way is not taken back.
        """
        self._waiting.append((began_s + self._append_s, waiter))
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        now_s = self._clock.monotonic_s()
        given_up = 0
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= now_s):
            waiter = self._waiting.popleft()[1]
            if not waiter.done():
                waiter.set_exception(
                    errors.LogUnavailable(f"not recorded within {self._append_s:g} s")
                )
                given_up += 1
        if given_up:
            _log.error("callbacks not recorded in time", callbacks=given_up)
        self._looking = bool(self._waiting)
        if self._looking:
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)
