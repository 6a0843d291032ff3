"""One request and its answer, as ASGI has them, on a connection that may have to close behind it.

An answer's head leaves with the first of its body in one system call, which is an eighth of all
that a small request costs, and a body that came with its head is handed over without a wait.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

import structlog
from litestar.types import HTTPReceiveMessage, HTTPScope, Message

from service.ingress import problems
from service.ingress.flow import Flow
from service.ingress.framing import Framed

_log = structlog.get_logger(__name__)

_STATUS_LINES = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n"
_HELD_BYTES = 64 * 1024
"""Of a body; with more the peer waits until the application has taken them."""

_SHORT_BODY_BYTES = 64 * 1024
"""The rest of a body this short is read behind an early answer, and the connection kept."""

Application = Callable[[Any, Any, Any], Any]
"""An ASGI application."""


class Carrier(Protocol):
    """The connection, as far as a request on it needs it."""

    transport: asyncio.Transport
    flow: Flow

    def on_response_complete(self) -> None: ...

    def hang_up(self) -> None: ...


class Cycle:
    """The connection feeds the body and may abandon it; the application receives and sends.

    Answers carry a Content-Length; the connection closes behind one that does not.
    """

    def __init__(
        self,
        carrier: Carrier,
        scope: HTTPScope,
        framed: Framed,
        default_headers: bytes,
        keep_alive: bool,
    ) -> None:
        """`default_headers`: of every answer, as they are sent."""
        self.keep_alive = keep_alive
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self._carrier = carrier
        self._scope = scope
        self._body_bytes = framed.length
        self._expects_continue = framed.expects_continue
        self._default_headers = default_headers
        self._abandoned = False
        self._delivered = False
        self._chunks: list[bytes] = []
        self._chunks_bytes = 0
        self._arrival: asyncio.Future[None] | None = None
        self._head = b""
        """Of the answer, until the first of its body comes."""
        self._task: asyncio.Task[None] | None = None

    def start(self, application: Application) -> None:
        """Have it answered."""
        # The loop itself holds no task that waits.
        self._task = asyncio.get_running_loop().create_task(self._run(application))

    # What the connection tells.

    def feed(self, chunk: bytes) -> None:
        """The next part of the body."""
        if self.response_complete:
            return
        self._chunks.append(chunk)
        self._chunks_bytes += len(chunk)
        if self._chunks_bytes > _HELD_BYTES:
            self._carrier.flow.pause_reading()
        # Nearly always nobody waits, and a call less is a hundredth of all for a request.
        if self._arrival is not None:
            self._wake()

    def end_body(self) -> None:
        self.more_body = False
        if self._arrival is not None:
            self._wake()

    def abandon(self) -> None:
        """Nothing the application still sends goes out, and nothing more comes in."""
        self._abandoned = True
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    # The application's side.

    async def receive(self) -> HTTPReceiveMessage:
        if self._expects_continue and not (self._over() or self._carrier.transport.is_closing()):
            self._carrier.transport.write(_CONTINUE)
            self._expects_continue = False
        while not (self._chunks or self._over() or (not self.more_body and not self._delivered)):
            self._carrier.flow.resume_reading()
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        if self._over():
            return {"type": "http.disconnect"}
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks = []
        self._chunks_bytes = 0
        self._delivered = not self.more_body
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        carrier = self._carrier
        if carrier.flow.write_paused and not self._abandoned:
            await carrier.flow.drain()
        if self._abandoned:
            return
        if message["type"] == "http.response.start":
            self.response_started = True
            if self.more_body:
                # A peer that waits for 100 Continue may now never send the body it announced.
                is_short = self._body_bytes is not None and self._body_bytes <= _SHORT_BODY_BYTES
                self.keep_alive &= is_short and not self._expects_continue
            self._head = self._encoded(message["status"], message.get("headers", ()))
        elif message["type"] == "http.response.body":
            body = b"" if self._scope["method"] == "HEAD" else message.get("body", b"")
            carrier.transport.write(self._head + body)
            self._head = b""
            if not message.get("more_body", False):
                self._end()

    def _over(self) -> bool:
        return self._abandoned or self.response_complete

    def _encoded(self, status: int, headers: Any) -> bytes:
        lines = [_STATUS_LINES[status], self._default_headers]
        has_length = False
        for name, value in headers:
            has_length |= name == b"content-length"
            lines += (name, b": ", value, b"\r\n")
        self.keep_alive &= has_length
        lines.append(b"\r\n" if self.keep_alive else _CLOSE + b"\r\n")
        return b"".join(lines)

    def _end(self) -> None:
        self.response_complete = True
        if self._arrival is not None:
            self._wake()
        if not self.keep_alive:
            self._carrier.hang_up()
        self._carrier.on_response_complete()

    async def _run(self, application: Application) -> None:
        try:
            await application(self._scope, self.receive, self.send)
            if not self._over():
                _log.error("a request was not answered")
        except Exception:  # noqa: BLE001
            _log.exception("a request failed")
        finally:
            self._task = None
            if not self._over():
                await self._give_up()

    async def _give_up(self) -> None:
        self.keep_alive = False
        if self.response_started:
            self._end()
            return
        problem = problems.INTERNAL
        await self.send(
            {
                "type": "http.response.start",
                "status": problem.status,
                "headers": problem.headers,
            }
        )
        await self.send({"type": "http.response.body", "body": problem.body, "more_body": False})


def whole(problem: problems.Problem, default_headers: bytes) -> bytes:
    """An answer that nothing was run for, behind which the connection closes."""
    headers = b"".join([b"%s: %s\r\n" % header for header in problem.headers])
    status_line = _STATUS_LINES[problem.status]
    return status_line + default_headers + headers + _CLOSE + b"\r\n" + problem.body
