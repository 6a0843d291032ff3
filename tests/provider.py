"""A PlugChat of our own: real TLS on loopback, scripted answers, every request kept as it came."""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import trustme

PATH = "/api/whatsapp/update-webhook-message-status"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it came over the wire."""

    line: str
    headers: dict[str, str]
    """By lower-case name; a repeated one would be a test's failure, so it raises."""
    body: bytes


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What happens on a connection once its request is read; closed afterwards."""


def respond(status: int, body: bytes = b'{"value": true}', *headers: str) -> Answer:
    """A complete response with that body."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
        # 204 and 304 have no body, and no length of one.
        if status in (204, 304):
            del head[1]
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        await writer.drain()

    return answer


def speak(raw: bytes) -> Answer:
    """These very bytes, whatever they are."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return answer


async def drop(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """The connection ends after the request, without an answer."""


async def drop_unread(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The connection is reset before anything is read."""
    writer.transport.abort()


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """No answer until the client gives up."""
    await reader.read()


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A yes whose body comes byte by byte and never ends: no pause is ever long."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A yes whose body never ends, as fast as it is taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


class held:  # noqa: N801
    """An answer that waits to be let go; `arrived` is set once its request is there."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.arrived.set()
        await self.release.wait()
        await self._answer(reader, writer)


class Provider:
    """Listens on a free port of loopback while the context is open."""

    def __init__(self, authority: trustme.CA, name: str = "localhost") -> None:
        """`name` is the one in the certificate; the address always says localhost."""
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(self._tls)
        self._script: deque[Answer] = deque()
        self._connections: set[asyncio.Task[None]] = set()
        self.requests: list[Request] = []
        self.connections = 0

    def will(self, *answers: Answer) -> None:
        """Answer in this order; the last one again and again."""
        self._script = deque(answers)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.connections += 1
        answer = self._script.popleft() if len(self._script) > 1 else self._script[0]
        try:
            with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                if answer is not drop_unread:
                    self.requests.append(await _request(reader))
                await answer(reader, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()
            self._connections.discard(task)


async def _request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").removesuffix("\r\n\r\n")
    line, *fields = head.split("\r\n")
    headers: dict[str, str] = {}
    for field in fields:
        name, _, value = field.partition(": ")
        assert name.lower() not in headers
        headers[name.lower()] = value
    return Request(
        line=line,
        headers=headers,
        body=await reader.readexactly(int(headers.get("content-length", "0"))),
    )
