"""One request and its answer, on a connection that may have to close behind it."""

import asyncio
from collections.abc import Callable

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Cycle(RequestResponseCycle):
    """uvicorn's, which says in an early answer whether the connection will be kept."""

    short_body = False
    """Is so little announced that its rest is read behind an early answer?"""

    async def send(self, message: ASGISendEvent) -> None:
        if self.more_body and not self.response_started:
            # A peer that waits for 100 Continue may now never send the body it announced.
            self.keep_alive &= self.short_body and not self.waiting_for_100_continue
        await super().send(message)

    def abandon(self) -> None:
        """Nothing the application still sends goes out, and nothing more comes in."""
        self.disconnected = True
        self.message_event.set()


class Outlet(asyncio.Transport):
    """A transport as cycles see it: closing hangs up, so that the peer can read the answer."""

    def __init__(self, transport: asyncio.Transport, hang_up: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._hang_up = hang_up

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._hang_up()
