"""One HTTP/1.1 connection, with bounds on what a peer can cost; httptools parses it.

Bounded are a head and a body, each in size and in time, the requests that are sent ahead, and how
long a peer may take to read. Trailers are not taken for headers, an offer to upgrade is ignored as
it may be (RFC 9110, section 7.8), and behind an early answer the connection stays open for a
moment, because closing it at once would reset it before the peer has read that.

What the peer is sending, and what ends it:

    state       entered by                       left by
    BETWEEN     the connection, a request's end  a request's first byte; the idle limit
    HEAD        a request's first byte           its headers' end; 431, 408, 400, 503
    BODY        its headers' end                 its last byte; 413, 408, 400, 503
    DISCARDING  an early answer, those errors    the peer's close; `linger_s`, `linger_bytes_max`

Times are held against the clock by `sweep`, which the server calls for all connections a few
times a second: the hot path sets no timer.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from typing import assert_never, cast

import httptools

from service import config, telemetry
from service.clock import Clock
from service.ingress import framing, problems
from service.ingress.cycle import Cycle, whole
from service.ingress.flow import Flow
from service.ingress.shared import Shared

_WIRE_FACTOR = 2
"""Bytes a body may take on the wire for each that is allowed: one that comes in tiny chunks costs
several times its size, and a call a chunk."""

_KEPT_S = 5.0
_BEGUN_S = 1.0
"""Between two requests, and within one: so long a connection does not have to make room."""


class _Sending(enum.Enum):
    BETWEEN = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    DISCARDING = enum.auto()


# Looked up on its class, a member takes 0.1 µs (Python 3.11), and a request needs a dozen of them.
_BETWEEN, _HEAD, _BODY, _DISCARDING = _Sending


class _Stop(Exception):
    """Stops the parser from inside one of its callbacks."""


class Connection(asyncio.Protocol):
    """Driven by its transport, its parser, the answers, and the server's sweep and drain."""

    transport: asyncio.Transport

    def __init__(
        self,
        shared: "Shared[Connection]",
        limits: config.Limits,
        clock: Clock,
        metrics: telemetry.Metrics,
        on_lost: Callable[[], None],
        make_room: Callable[[], bool],
    ) -> None:
        """`make_room` ends another connection, if there is one to spare."""
        self._shared = shared
        self._parser = self._new_parser()
        self._pipeline: deque[Cycle] = deque()
        self._cycle: Cycle | None = None
        """The last request whose headers are complete."""
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        """Of the unfinished head; then the trailers, which nobody reads."""
        self._limits = limits
        self._wire_bytes_max = limits.head_bytes_max + _WIRE_FACTOR * limits.body_bytes_max
        self._clock = clock
        self._metrics = metrics
        self._on_lost = on_lost
        self._make_room = make_room
        self._sending = _BETWEEN
        self._since_s = clock.monotonic_s()
        """When the peer's state was entered; for BODY, when its HEAD was."""
        self._requests = 0
        self._running: Cycle | None = None
        """The request that is being answered; those behind it wait in `pipeline`."""
        self._draining = False
        self._fault = problems.NOT_HTTP
        """Why the parser stopped, if it did."""
        self._head_bytes = 0
        """Of the unfinished head, as its callbacks told them; trailers count as well."""
        self._wire_bytes = 0
        """Of the unfinished request, in whole segments; in DISCARDING, what was thrown away."""
        self._segment_bytes = 0
        self._stalled_since_s: float | None = None
        """Since when the peer has not read what was written."""
        self._closing_since_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.flow = Flow(self.transport)
        self._scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        self._shared.connections.add(self)
        self._metrics.http_connections.inc()
        too_many = len(self._shared.connections) > self._limits.http_connections_max
        if too_many and not self._make_room():
            self._write(problems.TOO_BUSY)
            transport.close()

    def idle_s(self, now_s: float) -> float | None:
        """How long it has not sent anything whole; None if it is not to spare.

        That is one that waits for an answer, has hardly begun, or is kept and may be used again.
        """
        if self._peer_waits() or self.transport.is_closing():
            return None
        kept = self._sending is _BETWEEN and self._requests
        idle_s = now_s - self._since_s
        return idle_s if idle_s >= (_KEPT_S if kept else _BEGUN_S) else None

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        if self._running is not None:
            self._running.abandon()
        self.flow.resume_writing()
        self._pipeline.clear()
        self._metrics.http_connections.dec()
        self._on_lost()

    def eof_received(self) -> bool | None:
        """A peer that has said all there is keeps its line open for the answer (RFC 9112, 9.6)."""
        last = self._cycle
        if last is None or last.more_body or last.response_complete:
            return None
        last.keep_alive = False
        return True

    def pause_writing(self) -> None:
        self._stalled_since_s = self._clock.monotonic_s()
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since_s = None
        self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._sending is _DISCARDING:
            self._wire_bytes += len(data)
            if self._wire_bytes > self._limits.linger_bytes_max:
                self.transport.abort()
            return
        self._segment_bytes = len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(self._fault)
            return
        if self._sending is _BETWEEN:
            self._wire_bytes = 0
        else:
            self._bound_unfinished()

    def _parse(self, data: bytes) -> None:
        """Feed the parser, around two things it makes of a request that we do not."""
        while data:
            begins = self._sending is _BETWEEN
            requests = self._requests
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                head = framing.without_upgrade(
                    self._parser.get_method(),
                    self._url,
                    self._parser.get_http_version(),
                    self._headers,
                )
                data = head + data[upgrade.args[0] :]
            except httptools.HttpParserInvalidMethodError:
                is_first = begins and self._requests == requests + 1
                renamed = framing.with_known_method(data.lstrip(b"\r\n")) if is_first else None
                if renamed is None:
                    raise
                data = renamed
            else:
                return
            self._parser = self._new_parser()

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # What is sent ahead behind a request that asks to close is not read, and is no fault.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _bound_unfinished(self) -> None:
        """Bound what no callback tells: blanks, chunk extensions, the chunks' own lines."""
        self._wire_bytes += self._segment_bytes
        if self._sending is _HEAD and self._wire_bytes > self._limits.head_bytes_max:
            self._refuse(problems.HEAD_TOO_LARGE)
        elif self._wire_bytes > self._wire_bytes_max:
            self._refuse(problems.BODY_TOO_LARGE)

    # The parser's callbacks; what they raise comes out of feed_data as HttpParserError.

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._enter(_HEAD)
        self._requests += 1
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._head_bytes += len(url)
        if self._head_bytes > self._limits.head_bytes_max:
            raise self._stop(problems.HEAD_TOO_LARGE)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4  # The colon, a blank, the line's end.
        if self._head_bytes > self._limits.head_bytes_max:
            raise self._stop(problems.HEAD_TOO_LARGE)
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, headers = self._parser, self._headers
        method = parser.get_method()
        version = parser.get_http_version()
        framed = framing.of_request(method, version, headers)
        if framed is None:
            raise self._stop(problems.NOT_HTTP)
        if parser.should_upgrade():
            return
        if len(self._pipeline) >= self._limits.pipelined_requests_max:
            raise self._stop(problems.TOO_BUSY)
        cycle = Cycle(
            self,
            framing.scope_of(method, version, self._url, headers, self._scheme),
            framed,
            self._shared.headers,
            version == "1.1" and parser.should_keep_alive() and not self._draining,
        )
        self._headers = []
        self._sending = _BODY
        self._cycle = cycle
        if self._running is None:
            self._answer(cycle)
        else:
            self.flow.pause_reading()
            self._pipeline.append(cycle)

    def on_body(self, body: bytes) -> None:
        if not self._parser.should_upgrade():
            cast(Cycle, self._cycle).feed(body)

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            return
        cast(Cycle, self._cycle).end_body()
        self._sending = _BETWEEN
        # The next request may begin in this segment, and does not answer for what stands before.
        self._wire_bytes = -self._segment_bytes
        if self._running is None:
            self._await_request()

    def _stop(self, fault: problems.Problem) -> _Stop:
        self._fault = fault
        return _Stop()

    # Answers.

    def on_response_complete(self) -> None:
        self._running = None
        if self.transport.is_closing():
            return
        if self._pipeline:
            self._answer(self._pipeline.popleft())
        elif self._sending is not _DISCARDING:
            self.flow.resume_reading()
            self._await_request()

    def _answer(self, cycle: Cycle) -> None:
        self._running = cycle
        cycle.start(self._shared.application)

    def hang_up(self) -> None:
        """Close, but let a peer that is still sending read the answer first."""
        self._pipeline.clear()
        if self._sending is _BETWEEN:
            self.transport.close()
        elif not self.transport.is_closing():
            self._enter(_DISCARDING)
            self._wire_bytes = 0
            self.flow.resume_reading()
            # TLS has no half-closed state: the peer goes by the length of the answer.
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def _await_request(self) -> None:
        # One that has begun to arrive gets its full time: it may have waited behind an answer.
        self._since_s = self._clock.monotonic_s()
        if self._draining and self._sending is _BETWEEN:
            self.transport.close()

    def _refuse(self, problem: problems.Problem) -> None:
        """End the unfinished request with a problem, behind the answers of those before it."""
        unfinished = self._cycle if self._sending is _BODY else None
        self._enter(_DISCARDING)
        if self._running is not None and self._running is not unfinished:
            if self._pipeline and self._pipeline[-1] is unfinished:
                self._pipeline.pop()
            # The refused one gets no answer of its own; the last one before it ends it all.
            last = self._pipeline[-1] if self._pipeline else self._running
            last.keep_alive = False
        elif unfinished is None or not unfinished.response_started:
            self._answer_instead(unfinished, problem)
        else:
            self.hang_up()

    def _answer_instead(self, cycle: Cycle | None, problem: problems.Problem) -> None:
        if cycle is not None:
            cycle.abandon()
        self._running = None
        self._write(problem)
        self.hang_up()

    def _write(self, problem: problems.Problem) -> None:
        self.transport.write(whole(problem, self._shared.headers))
        self._metrics.http_cut_off.labels(str(problem.status)).inc()

    # The server's sweep and drain.

    def sweep(self, now_s: float) -> None:
        """End what has lasted too long."""
        if self._closing_since_s is None and self.transport.is_closing():
            self._closing_since_s = now_s
        if _lasts(self._closing_since_s, now_s, self._limits.linger_s) or _lasts(
            self._stalled_since_s, now_s, self._limits.request_s
        ):
            # The peer does not read what was written, so there is nothing to wait for.
            self.transport.abort()
        elif not self.transport.is_closing() and not self._peer_waits():
            self._sweep_peer(now_s)

    def drain(self) -> None:
        """Close as soon as what the peer has begun to send is answered. May be repeated."""
        self._draining = True
        if self._sending is _BETWEEN and self._running is None:
            self.transport.close()
        elif self._sending is not _HEAD and self._cycle is not None:
            self._cycle.keep_alive = False

    def cut_unfinished(self) -> None:
        """Refuse a request that has not arrived by now."""
        if self._sending in {_HEAD, _BODY}:
            self._refuse(problems.DRAINING)

    def cut_unanswered(self) -> None:
        """Answer in place of an application that has not by now, and close."""
        if self._running is not None and not self._running.response_started:
            self._answer_instead(self._running, problems.NOT_RECORDED)
        else:
            self.transport.close()

    def _peer_waits(self) -> bool:
        """Is it our turn? Not while the request being answered is itself still arriving."""
        if self._running is None:
            return False
        return self._sending is not _BODY or self._running is not self._cycle

    def _sweep_peer(self, now_s: float) -> None:
        limits = self._limits
        match self._sending:
            case _Sending.BETWEEN:
                # A connection that never sent anything is no better than a slow head.
                idle_s = limits.idle_connection_s if self._requests else limits.request_s
                if _lasts(self._since_s, now_s, idle_s):
                    self.transport.close()
            case _Sending.HEAD | _Sending.BODY:
                if _lasts(self._since_s, now_s, limits.request_s):
                    self._refuse(problems.TOO_SLOW)
            case _Sending.DISCARDING:
                if _lasts(self._since_s, now_s, limits.linger_s):
                    self.transport.close()
            case _:
                assert_never(self._sending)

    def _enter(self, sending: _Sending) -> None:
        self._sending = sending
        self._since_s = self._clock.monotonic_s()


def _lasts(since_s: float | None, now_s: float, limit_s: float) -> bool:
    return since_s is not None and now_s - since_s > limit_s
