"""The policy around every handler: limits, metrics, errors. One wrapper a call, no interceptors.

A handler sees a request and returns a response, or raises one of the service's errors; the
wrapper answers it from the table in `errors`. Anything else is a defect: the caller gets an
opaque INTERNAL with an id, the log gets the exception with the same id. Cancellation passes
through untouched.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from service.api import errors as api_errors
from service.clock import Clock
from service.config import Limits
from service.errors import FieldsInvalid, LimitExceeded, PlugstatusError, ShuttingDown
from service.telemetry import Metrics

_log = structlog.get_logger(__name__)

Context = Any
"""grpc.aio.ServicerContext, which is generic in ways that only get in the way here."""

Parse = Callable[[bytes], Any]
"""A request message from its bytes. Raises DecodeError."""


class Call(NamedTuple):
    """What a handler may know about the call it serves."""

    caller: str
    """Who calls; `local` as long as there are no API tokens."""
    time_left_s: float
    """Until shortly before the caller's deadline; infinite if it set none, and for streams."""
    peer: str
    """Where a stream's caller is, as gRPC names it; empty for unary calls, which never ask."""


class Rpc(NamedTuple):
    """An rpc's names, for metrics and messages."""

    service: str
    method: str
    kind: str
    """`unary` or `server_stream`, as grpc metrics have it."""


UnaryHandler = Callable[[Any, Call], Awaitable[Any]]
StreamHandler = Callable[[Any, Call, Callable[[bytes], Awaitable[None]]], Awaitable[None]]

_DEADLINE_MARGIN_S = 0.3
_DEADLINE_MARGIN = 0.1
"""What the answer needs to get to the caller before its deadline: so long, but no more than this
part of the time it left us."""

_LOCAL_CALLER = "local"


class _CallerLeft(Exception):
    """Nobody is there any more to be answered."""


class _Lane:
    """Unary calls that are counted, and limited, together."""

    def __init__(self, limit: str, limit_max: int) -> None:
        self.limit = limit
        self.limit_max = limit_max
        self.under_way = 0


class Policy:
    """Makes gRPC handlers of the service's own."""

    def __init__(self, clock: Clock, limits: Limits, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._calls = _Lane("unary_calls_max", limits.unary_calls_max)
        # Those that wait are many and idle: they leave the others their places.
        self._waits = _Lane("waits_max", limits.waits_max)
        self._under_way = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    def begin_drain(self) -> None:
        """From now on refuse new calls with SHUTTING_DOWN."""
        self._draining = True

    async def idle(self) -> None:
        """Wait until no unary call is under way."""
        await self._idle.wait()

    def unary(
        self, rpc: Rpc, parse: Parse, handle: UnaryHandler, *, waits: bool = False
    ) -> Callable[[bytes, Context], Awaitable[Any]]:
        """`waits`: calls that mostly wait for something to happen, limited apart."""
        lane = self._waits if waits else self._calls
        labels = (rpc.kind, rpc.service, rpc.method)
        seconds = self._metrics.grpc_seconds.labels(*labels)

        async def serve(encoded: bytes, context: Context) -> Any:
            begun_s = self._clock.monotonic_s()

            async def answer() -> Any:
                return await self._limited(lane, handle, _parsed(parse, encoded), context)

            try:
                return await self._answered(rpc, context, answer())
            finally:
                seconds.observe(self._clock.monotonic_s() - begun_s)

        return serve

    def stream(
        self, rpc: Rpc, parse: Parse, handle: StreamHandler
    ) -> Callable[[bytes, Context], Awaitable[None]]:
        sent = self._metrics.grpc_messages_sent.labels(rpc.kind, rpc.service, rpc.method)

        async def serve(encoded: bytes, context: Context) -> None:
            async def write(frame: bytes) -> None:
                try:
                    await context.write(frame)
                except grpc.aio.InternalError:
                    # All that gRPC has to say when the call ended while it was being written to.
                    raise _CallerLeft from None
                sent.inc()

            async def watch() -> None:
                if self._draining:
                    raise ShuttingDown
                request = _parsed(parse, encoded)
                await handle(request, Call(_LOCAL_CALLER, float("inf"), context.peer()), write)

            await self._answered(rpc, context, watch())

        return serve

    async def _limited(
        self, lane: _Lane, handle: UnaryHandler, request: Any, context: Context
    ) -> Any:
        if self._draining:
            raise ShuttingDown
        if lane.under_way >= lane.limit_max:
            raise LimitExceeded(lane.limit, lane.limit_max)
        time_left_s = context.time_remaining()
        left = float("inf")
        if time_left_s is not None:
            left = time_left_s - min(_DEADLINE_MARGIN_S, _DEADLINE_MARGIN * time_left_s)
        lane.under_way += 1
        self._under_way += 1
        self._idle.clear()
        try:
            return await handle(request, Call(_LOCAL_CALLER, left, ""))
        finally:
            lane.under_way -= 1
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _answered(self, rpc: Rpc, context: Context, work: Awaitable[Any]) -> Any:
        labels = (rpc.kind, rpc.service, rpc.method)
        self._metrics.grpc_started.labels(*labels).inc()
        code = grpc.StatusCode.OK
        try:
            return await work
        except PlugstatusError as error:
            answer = self._known(rpc, error)
            code = answer.code
        except _CallerLeft:
            code = grpc.StatusCode.CANCELLED
            return None
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception:  # noqa: BLE001
            answer = self._defect(rpc)
            code = answer.code
        finally:
            self._metrics.grpc_handled.labels(*labels, code.name).inc()
        await context.abort(answer.code, answer.message, answer.trailers)
        return None

    def _known(self, rpc: Rpc, error: PlugstatusError) -> api_errors.Answer:
        try:
            return api_errors.answer(error)
        except KeyError:
            return self._defect(rpc)

    def _defect(self, rpc: Rpc) -> api_errors.Answer:
        error_id = secrets.token_hex(8)
        _log.exception("call failed", method=rpc.method, error_id=error_id)
        return api_errors.internal(error_id)


def _parsed(parse: Parse, encoded: bytes) -> Any:
    # Parsed here and not by grpc, whose answer would show a class of ours and carry no reason.
    try:
        return parse(encoded)
    except DecodeError:
        raise FieldsInvalid(("", "the request is not a message of this rpc")) from None
