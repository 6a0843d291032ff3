"""Requests that do not arrive are given up, with one look at all of them instead of a timer each.

A timer a call is a tenth of what a short call costs.
"""

import asyncio
from collections import deque
from typing import Any, cast

import grpc.aio

from service.errors import FieldsInvalid, LimitExceeded

_LOOK_S = 0.25
"""How late a wait may end; small against the seconds it may last."""


class _Reading:
    __slots__ = ("begun_s", "ended", "given_up", "task")

    def __init__(self, task: "asyncio.Task[Any] | None", begun_s: float) -> None:
        self.task = task
        self.begun_s = begun_s
        self.ended = False
        self.given_up = False


class Arrivals:
    """Bound to the running loop of its first use."""

    def __init__(self, request_s: float) -> None:
        self._request_s = request_s
        self._readings: deque[_Reading] = deque()
        """In the order in which they began, those that have ended among them."""
        self._looking = False

    async def request(self, context: Any) -> bytes:
        """The one request of a call.

        Raises LimitExceeded if it does not arrive in time, FieldsInvalid if there is none.
        """
        loop = asyncio.get_running_loop()
        reading = _Reading(asyncio.current_task(), loop.time())
        self._readings.append(reading)
        if not self._looking:
            self._looking = True
            loop.call_later(_LOOK_S, self._look, loop)
        try:
            encoded: Any = await context.read()
        except asyncio.CancelledError:
            if reading.given_up and reading.task is not None and not reading.task.uncancel():
                raise LimitExceeded(
                    "request_s", self._request_s, "the request did not arrive"
                ) from None
            raise
        finally:
            reading.ended = True
            reading.task = None
        if encoded is grpc.aio.EOF:
            raise FieldsInvalid(("", "the request is missing"))
        return cast(bytes, encoded)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        overdue_s = loop.time() - self._request_s
        while self._readings:
            oldest = self._readings[0]
            if not oldest.ended:
                if oldest.begun_s > overdue_s:
                    break
                oldest.given_up = True
                if oldest.task is not None:
                    oldest.task.cancel()
            self._readings.popleft()
        self._looking = bool(self._readings)
        if self._looking:
            loop.call_later(_LOOK_S, self._look, loop)
