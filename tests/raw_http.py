"""HTTP/1.1 by hand: bytes out, parsed answers in, nothing repaired on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.config import Bind

PATIENCE_S = 15.0
"""Far more than any answer takes; a test that waits longer has found a hang."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class RawHttp:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *parts: bytes) -> None:
        """Each part in a segment of its own, as far as TCP allows."""
        for part in parts:
            self._writer.write(part)
            await self._writer.drain()

    async def answer(self, *, head: bool = False) -> Answer:
        """The next answer; `head` says that it answers HEAD and so has no body."""
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
            headers = {
                name.lower(): value
                for name, _, value in (line.partition(": ") for line in lines[1:] if line)
            }
            length = 0 if head else int(headers.get("content-length", "0"))
            body = await self._reader.readexactly(length)
        version, status = lines[0].split(" ")[:2]
        assert version == "HTTP/1.1"
        return Answer(status=int(status), headers=headers, body=body)

    async def closed(self) -> bytes:
        """What still comes until the server closes; raises TimeoutError if it never does."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""

    def half_close(self) -> None:
        self._writer.write_eof()

    def abort(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def connected(bind: Bind) -> AsyncIterator[RawHttp]:
    reader, writer = await asyncio.open_connection(bind.host, bind.port)
    try:
        yield RawHttp(reader, writer)
    finally:
        writer.transport.abort()


def post(
    body: bytes = b"", *headers: bytes, path: bytes = b"/instancia/acme/status", length: int = -1
) -> bytes:
    """A POST of JSON with its Content-Length, or another one; further header lines as given."""
    declared = len(body) if length < 0 else length
    return head(b"Content-Length: %d" % declared, *headers, path=path) + body


def head(*headers: bytes, path: bytes = b"/instancia/acme/status") -> bytes:
    """The head of a POST of JSON, whole, without a length unless one is given."""
    lines = [
        b"POST %s HTTP/1.1" % path,
        b"Host: localhost",
        b"Content-Type: application/json",
        *headers,
    ]
    return b"\r\n".join([*lines, b"", b""])


def chunks(*pieces: bytes) -> bytes:
    """The pieces as chunks, with the last one."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (*pieces, b""))
