"""One request and its answer, on a connection that may have to close behind it."""

import asyncio
from collections.abc import Callable

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Outlet(asyncio.Transport):
    """A transport as cycles see it.

    An answer's head waits for the first of its body, so that both leave in one system call: that
    is an eighth of all a small request costs. Closing hangs up, so that the peer can read what
    was written.
    """

    def __init__(self, transport: asyncio.Transport, hang_up: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._hang_up = hang_up
        self._expects_head = False
        self._head = b""

    def expect_head(self) -> None:
        """What is written next is an answer's head."""
        self._expects_head = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._expects_head:
            self._expects_head = False
            self._head = bytes(data)
        else:
            self._transport.write(self._head + data if self._head else data)
            self._head = b""

    def flush(self) -> None:
        """Let a head go that no body follows."""
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self.flush()
        self._hang_up()


class Cycle(RequestResponseCycle):
    """uvicorn's, which says in an early answer whether the connection will be kept."""

    transport: Outlet
    short_body = False
    """Is so little announced that its rest is read behind an early answer?"""

    async def send(self, message: ASGISendEvent) -> None:
        if self.response_started:
            await super().send(message)
            self.transport.flush()
            return
        if self.more_body:
            # A peer that waits for 100 Continue may now never send the body it announced.
            self.keep_alive &= self.short_body and not self.waiting_for_100_continue
        self.transport.expect_head()
        await super().send(message)

    def abandon(self) -> None:
        """Nothing the application still sends goes out, and nothing more comes in."""
        self.disconnected = True
        self.message_event.set()
