"""The hot route: one callback, checked in the order the package promises, and recorded."""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol, TypeVar

import msgspec
from litestar.types import HTTPScope, Receive, Send

from service import config, errors, telemetry
from service.clock import Clock
from service.domain.events import SPOOLED, EventKind, Mark, NewEvent, Position
from service.ingress import body, problems, request
from service.ingress.tokens import WebhookTokens
from service.ingress.waiting import AppendDeadline
from service.plugchat import words
from service.wire.cursor import CursorCodec

_INLINE_BYTES_MAX = 64 * 1024
"""A body that is larger, inflated, is checked on a thread: it would hold the loop for
milliseconds."""

_IGNORED = b'{"outcome":"ignored"}'
_SPOOLED = b'{"outcome":"spooled"}'
_RECORDED = b'{"outcome":"recorded","cursor":"%s"}'
_JSON_HEADER = (b"content-type", b"application/json")


ContentT = TypeVar("ContentT", bytes, bytearray)


class Appender(Protocol):
    """The event log's group commit, as far as a callback needs it."""

    def append(self, event: NewEvent) -> asyncio.Future[Position]:
        """The position; SPOOLED for one that is on this machine's disk, in the log only later.

        Raises LogUnavailable, at once or from the future.
        """
        ...


class _PeerGone(Exception):
    """The connection ended, or answered for us: too slow, or draining."""


class _Checked(msgspec.Struct, frozen=True, gc=False):
    content: bytes
    type: str | None


class Callbacks:
    """The ASGI application of `/instancia/{instance}/status`. Bound to one loop."""

    def __init__(
        self,
        settings: config.Config,
        clock: Clock,
        metrics: telemetry.Metrics,
        appender: Appender,
        cursors: CursorCodec,
        tokens: WebhookTokens,
    ) -> None:
        self._limits = settings.limits
        self._instances = settings.instances
        self._ignored_types = _normalized(settings.ignored_types)
        self._clock = clock
        self._appender = appender
        self._deadline = AppendDeadline(clock, settings.limits.append_s)
        self._cursors = cursors
        self._tokens = tokens
        self._unfinished_bytes = 0
        self._large_bodies = 0
        self._counts = metrics.callbacks

    async def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except problems.Refused as refused:
            problem = refused.problem
            if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._counts.unavailable += 1
            else:
                self._counts.refused += 1
            await _send(send, problem.status, problem.headers, problem.body)
        except _PeerGone:
            return
        else:
            headers = [_JSON_HEADER, (b"content-length", b"%d" % len(answer))]
            await _send(send, 200, headers, answer)

    async def _answer(self, scope: HTTPScope, receive: Receive) -> bytes:
        """The body of a 200. Raises Refused with the first fault, in the package's order."""
        instance = request.instance_of(scope["raw_path"])
        if instance is None or (self._instances is not None and instance not in self._instances):
            raise problems.Refused(problems.NOT_FOUND)
        if scope["method"] != "POST":
            raise problems.Refused(problems.ONLY_POST)
        if not self._tokens.admit(scope["query_string"]):
            raise problems.Refused(problems.TOKEN_REFUSED)
        announced = request.announced(scope["headers"])
        if announced.length is not None and announced.length > self._limits.body_bytes_max:
            raise problems.Refused(problems.BODY_TOO_LARGE)
        received = await self._received(receive)
        receive_time_us = self._clock.now_us()
        began_s = self._clock.monotonic_s()
        checked = await self._checked(received, announced.gzip)
        if checked.type is not None and words.normalized(checked.type) in self._ignored_types:
            self._counts.ignored += 1
            return _IGNORED
        event = NewEvent(instance, receive_time_us, EventKind.CALLBACK, checked.content)
        position = await self._recorded(event, began_s)
        counts = self._counts
        counts.recorded_bytes += len(checked.content)
        counts.seconds.add(self._clock.monotonic_s() - began_s)
        if position == SPOOLED:
            counts.spooled += 1
            return _SPOOLED
        counts.recorded += 1
        return _RECORDED % self._cursors.end_of(Mark(position, receive_time_us)).encode()

    async def _received(self, receive: Receive) -> bytes:
        """The body as sent. Raises Refused: 413, or 503 when too many bytes are under way."""
        chunk, more = await _next_chunk(receive)
        if not more:
            # Nearly always: the whole body came with the head.
            return self._bounded(chunk)
        collected = bytearray()
        try:
            while more:
                collected += chunk
                self._unfinished_bytes += len(chunk)
                if self._unfinished_bytes > self._limits.bodies_bytes_max:
                    raise problems.Refused(problems.TOO_BUSY)
                self._bounded(collected)
                chunk, more = await _next_chunk(receive)
        finally:
            self._unfinished_bytes -= len(collected)
        return self._bounded(bytes(collected) + chunk)

    def _bounded(self, content: ContentT) -> ContentT:
        if len(content) > self._limits.body_bytes_max:
            raise problems.Refused(problems.BODY_TOO_LARGE)
        return content

    async def _checked(self, received: bytes, gzip: bool) -> _Checked:
        """The content behind a Content-Encoding, and its type. Raises Refused with 413 or 400."""
        small: bytes | None = None
        if len(received) <= _INLINE_BYTES_MAX:
            small = body.inflated_at_once(received, _INLINE_BYTES_MAX) if gzip else received
        if small is not None:
            return _Checked(small, body.type_of(small, self._limits.body_depth_max))
        if self._large_bodies >= self._limits.large_bodies_max:
            raise problems.Refused(problems.TOO_BUSY)
        self._large_bodies += 1
        try:
            # In one go, so that no more is held inflated than there are threads.
            return await asyncio.to_thread(_check, received, gzip, self._limits)
        finally:
            self._large_bodies -= 1

    async def _recorded(self, event: NewEvent, began_s: float) -> Position:
        """The position, or SPOOLED. Raises Refused with 503 if it is not known to be on disk."""
        try:
            waiter = self._appender.append(event)
            self._deadline.watch(waiter, began_s)
            return await waiter
        except errors.LogUnavailable:
            raise problems.Refused(problems.NOT_RECORDED) from None


def _check(received: bytes, gzip: bool, limits: config.Limits) -> _Checked:
    content = body.inflated(received, limits.body_bytes_max) if gzip else received
    return _Checked(content, body.type_of(content, limits.body_depth_max))


def _normalized(types: Iterable[str]) -> frozenset[str]:
    return frozenset(words.normalized(type_) for type_ in types)


async def _next_chunk(receive: Receive) -> tuple[bytes, bool]:
    """The next part of the body, and whether more follows. Raises _PeerGone."""
    message = await receive()
    if message["type"] != "http.request":
        raise _PeerGone
    return message["body"], message["more_body"]


async def _send(send: Send, status: int, headers: problems.Headers, content: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})
