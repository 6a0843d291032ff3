"""The hot route: one callback, checked in the order the package promises, and recorded."""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol, TypeVar

from litestar.types import HTTPScope, Receive, ReceiveMessage, Send

from service import config, errors, telemetry
from service.clock import Clock
from service.domain.events import SPOOLED, EventKind, NewEvent, Place, Position
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

# Looked up on its class, a member takes 0.1 µs (Python 3.11).
_OK = int(HTTPStatus.OK)
_CALLBACK = EventKind.CALLBACK

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

    async def answer(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        try:
            content = await self._answered(scope, receive)
        except problems.Refused as refused:
            status, headers, content = self._told(refused.problem)
        except errors.LogUnavailable:
            status, headers, content = self._told(problems.NOT_RECORDED)
        except _PeerGone:
            return
        else:
            status = _OK
            headers = [_JSON_HEADER, (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content, "more_body": False})

    async def _answered(self, scope: HTTPScope, receive: Receive) -> bytes:
        """The body of a 200. Raises Refused with the first fault, in the package's order.

        And LogUnavailable, if the callback is not known to be on disk, and _PeerGone. What nearly
        always needs no wait has no coroutine of its own: each would take 0.3 µs.
        """
        instance, gzip = self._admitted(scope)
        chunk, more = _chunk_of(await receive())
        # Nearly always the whole body came with the head.
        received = await self._with_rest(chunk, receive) if more else self._bounded(chunk)
        receive_time_us = self._clock.now_us()
        began_s = self._clock.monotonic_s()
        content = _small(received, gzip)
        if content is not None:
            type_ = body.type_of(content, self._limits.body_depth_max)
        else:
            content, type_ = await self._checked_apart(received, gzip)
        counts = self._counts
        if type_ is not None and words.normalized(type_) in self._ignored_types:
            counts.ignored += 1
            return _IGNORED
        waiter = self._appender.append(NewEvent(instance, receive_time_us, _CALLBACK, content))
        self._deadline.watch(waiter, began_s)
        position = await waiter
        counts.recorded_bytes += len(content)
        counts.seconds.add(self._clock.monotonic_s() - began_s)
        if position == SPOOLED:
            counts.spooled += 1
            return _SPOOLED
        counts.recorded += 1
        return _RECORDED % self._cursors.encode(Place(position), receive_time_us).encode()

    def _admitted(self, scope: HTTPScope) -> tuple[str, bool]:
        """The instance, and whether its body is in gzip. Raises Refused for a fault of the head."""
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
        return instance, announced.gzip

    async def _with_rest(self, chunk: bytes, receive: Receive) -> bytes:
        """The body as sent. Raises Refused: 413, or 503 when too many bytes are under way."""
        collected = bytearray()
        more = True
        try:
            while more:
                collected += chunk
                self._unfinished_bytes += len(chunk)
                if self._unfinished_bytes > self._limits.bodies_bytes_max:
                    raise problems.Refused(problems.TOO_BUSY)
                self._bounded(collected)
                chunk, more = _chunk_of(await receive())
        finally:
            self._unfinished_bytes -= len(collected)
        return self._bounded(bytes(collected) + chunk)

    def _bounded(self, content: ContentT) -> ContentT:
        if len(content) > self._limits.body_bytes_max:
            raise problems.Refused(problems.BODY_TOO_LARGE)
        return content

    async def _checked_apart(self, received: bytes, gzip: bool) -> tuple[bytes, str | None]:
        """`_checked` of what may be large, on a thread. Raises Refused, with 503 too."""
        if self._large_bodies >= self._limits.large_bodies_max:
            raise problems.Refused(problems.TOO_BUSY)
        self._large_bodies += 1
        try:
            # In one go, so that no more is held inflated than there are threads.
            return await asyncio.to_thread(_checked, received, gzip, self._limits)
        finally:
            self._large_bodies -= 1

    def _told(self, problem: problems.Problem) -> tuple[int, problems.Headers, bytes]:
        """An error's answer, counted."""
        if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._counts.unavailable += 1
        else:
            self._counts.refused += 1
        return problem.status, problem.headers, problem.body


def _small(received: bytes, gzip: bool) -> bytes | None:
    """The content behind a Content-Encoding, unless it may be large. Raises Refused with 400."""
    if len(received) > _INLINE_BYTES_MAX:
        return None
    return body.inflated_at_once(received, _INLINE_BYTES_MAX) if gzip else received


def _checked(received: bytes, gzip: bool, limits: config.Limits) -> tuple[bytes, str | None]:
    """The content, and its type. Raises Refused with 413 or 400."""
    content = body.inflated(received, limits.body_bytes_max) if gzip else received
    return content, body.type_of(content, limits.body_depth_max)


def _normalized(types: Iterable[str]) -> frozenset[str]:
    return frozenset(words.normalized(type_) for type_ in types)


def _chunk_of(message: ReceiveMessage) -> tuple[bytes, bool]:
    """A part of the body, and whether more follows. Raises _PeerGone."""
    if message["type"] != "http.request":
        raise _PeerGone
    return message["body"], message["more_body"]
