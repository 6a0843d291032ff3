"""The policy around every handler: access, limits, metrics, errors. One wrapper, no interceptors.

A call's token and role are checked before anything of it is read, and its request has to arrive in
time. Then a handler sees a request and returns a response, or raises one of the service's errors;
the wrapper answers it from the table in `errors`. Anything else is a defect: the caller gets an
opaque INTERNAL with an id, the log gets the exception with the same id. Cancellation passes
through untouched.

A call that lasts is checked again: no frame, and no answer to a wait, leaves for a token that is
not in the file any more.
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
from service.api.access import LOCAL, Access, Caller, Role
from service.api.deadlines import Deadlines
from service.api.lanes import Lane, Limit
from service.clock import Clock
from service.config import Limits
from service.counting import RpcCounts
from service.errors import FieldsInvalid, LimitExceeded, PlugstatusError, ShuttingDown
from service.telemetry import Metrics
from service.tracing import Span, Tracing

_log = structlog.get_logger(__name__)

Context = Any
"""grpc.aio.ServicerContext, which is generic in ways that only get in the way here."""

Parse = Callable[[bytes], Any]
"""A request message from its bytes. Raises DecodeError."""


class Call(NamedTuple):
    """What a handler may know about the call it serves."""

    caller: Caller
    context: Context

    @property
    def time_left_s(self) -> float:
        """Until shortly before the caller's deadline; infinite if it set none."""
        time_left_s: float | None = self.context.time_remaining()
        if time_left_s is None:
            return float("inf")
        return time_left_s - min(_DEADLINE_MARGIN_S, _DEADLINE_MARGIN * time_left_s)

    @property
    def peer(self) -> str:
        """Where the caller is, as gRPC names it."""
        return str(self.context.peer())


class Rpc(NamedTuple):
    """An rpc's names, for metrics and messages, and whom it is for."""

    service: str
    method: str
    kind: str
    """`unary`, `server_stream` or `bidi_stream`, as grpc metrics have it."""
    role: Role | None
    """None: for everybody, with a token or without; also in a drain."""


Write = Callable[[bytes], Awaitable[None]]
UnaryHandler = Callable[[Any, Call], Awaitable[Any]]
StreamHandler = Callable[[Any, Call, Write], Awaitable[None]]

Serve = Callable[[Any, Context], Awaitable[Any]]
"""As gRPC calls it: with an iterator over requests, which is not used, and the context."""

_DEADLINE_MARGIN_S = 0.3
_DEADLINE_MARGIN = 0.1
"""What the answer needs to get to the caller before its deadline: so long, but no more than this
part of the time it left us."""


_TELL_S = 1.0
"""Between two lines about stores that fail, however many calls do."""


_UNTRACED = Tracing()
_OUR_FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
"""What makes a span one of an error, on the serving side."""


class _CallerLeft(Exception):
    """Nobody is there any more to be answered."""


class Policy:
    """Makes gRPC handlers of the service's own."""

    def __init__(
        self,
        clock: Clock,
        limits: Limits,
        metrics: Metrics,
        access: Access,
        tracing: Tracing = _UNTRACED,
    ) -> None:
        self._tracing = tracing
        self._clock = clock
        self._limits = limits
        self._metrics = metrics
        self._access = access
        self._calls = Lane(
            Limit("unary_calls_max", limits.unary_calls_max),
            Limit("unary_calls_of_token_max", limits.unary_calls_of_token_max),
        )
        # Those that wait are many and idle: they leave the others their places.
        self._waits = Lane(
            Limit("waits_max", limits.waits_max),
            Limit("waits_of_token_max", limits.waits_of_token_max),
        )
        # Nor must those be in the way who need no token.
        self._health_calls = Lane(Limit("health_calls_max", limits.health_calls_max), None)
        self._reflections = Lane(Limit("reflections_max", limits.reflections_max), None)
        self._arrivals = Deadlines(
            limits.request_s,
            lambda: LimitExceeded("request_s", limits.request_s, "the request did not arrive"),
        )
        self._under_way = 0
        self._told_s = -_TELL_S
        self._draining = False
        self._idle = asyncio.Event()

    def begin_drain(self) -> None:
        """From now on refuse new calls with SHUTTING_DOWN."""
        self._draining = True

    async def idle(self) -> None:
        """Wait until no unary call is under way."""
        if self._under_way:
            self._idle.clear()
            await self._idle.wait()

    def unary(self, rpc: Rpc, parse: Parse, handle: UnaryHandler, *, waits: bool = False) -> Serve:
        """`waits`: calls that mostly wait for something to happen, limited apart."""
        lane = self._health_calls if rpc.role is None else self._waits if waits else self._calls

        async def respond(_requests: Any, context: Context) -> Any:
            caller = self._admitted(rpc, context)
            lane.take(caller)
            self._under_way += 1
            try:
                # Read here, because gRPC waits for a request without end, and before the token was
                # looked at.
                with self._arrivals:
                    encoded = await context.read()
                response = await handle(_parsed(parse, encoded), Call(caller, context))
            finally:
                lane.give_back(caller)
                self._ended()
            if waits:
                self._still_admitted(rpc, caller)
            return response

        return self._answering(rpc, respond)

    def stream(self, rpc: Rpc, parse: Parse, handle: StreamHandler) -> Serve:
        """One request, any number of frames. Whoever needs a token is counted by the handler."""
        counts = self._counts_of(rpc)

        async def respond(_requests: Any, context: Context) -> None:
            caller = self._admitted(rpc, context)

            async def write(frame: bytes) -> None:
                self._still_admitted(rpc, caller)
                await _written(context, frame)
                counts.sent += 1

            async def request() -> Any:
                with self._arrivals:
                    encoded = await context.read()
                return _parsed(parse, encoded)

            call = Call(caller, context)
            if rpc.role is None:
                with self._health_calls.place(caller):
                    await handle(await request(), call, write)
            else:
                with self._calls.place(caller):
                    asked = await request()
                await handle(asked, call, write)

        return self._answering(rpc, respond)

    def conversation(self, rpc: Rpc, converse: Callable[[Any, Context], Any]) -> Serve:
        """A servicer of gRPC's own that answers many requests on a stream."""

        async def respond(requests: Any, context: Context) -> None:
            caller = self._admitted(rpc, context)
            with self._reflections.place(caller):
                async for response in converse(requests, context):
                    self._still_admitted(rpc, caller)
                    await _written(context, response)

        return self._answering(rpc, respond)

    def _admitted(self, rpc: Rpc, context: Context) -> Caller:
        if rpc.role is None:
            return LOCAL
        caller = LOCAL
        if not self._access.open:
            caller = self._access.admit(context.invocation_metadata() or (), rpc.role)
        if self._draining:
            raise ShuttingDown
        return caller

    def _still_admitted(self, rpc: Rpc, caller: Caller) -> None:
        if rpc.role is not None:
            self._access.check(caller, rpc.role)

    def _ended(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    def _counts_of(self, rpc: Rpc) -> RpcCounts:
        return self._metrics.calls.of(rpc.kind, rpc.service, rpc.method)

    def _answering(self, rpc: Rpc, respond: Serve) -> Serve:
        """Its errors told, all of it counted; timed and traced if it is unary."""
        counts, monotonic_s = self._counts_of(rpc), self._clock.monotonic_s

        async def serve(requests: Any, context: Context, span: Span | None = None) -> Any:
            counts.started += 1
            begun_s = monotonic_s()
            code = "OK"
            try:
                return await respond(requests, context)
            except PlugstatusError as error:
                answer = self._known(rpc, error)
                code = answer.code.name
            except _CallerLeft:
                code = "CANCELLED"
                return None
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception:  # noqa: BLE001
                answer = self._defect(rpc)
                code = answer.code.name
            finally:
                counts.handled[code] += 1
                counts.seconds.add(monotonic_s() - begun_s)
                if span is not None:
                    _tell(span, grpc.StatusCode[code])
            await context.abort(answer.code, answer.message, answer.trailers)
            return None

        if rpc.kind != "unary" or not self._tracing.on:
            return serve
        name = f"{rpc.service}/{rpc.method}"

        async def traced(requests: Any, context: Context) -> Any:
            metadata = context.invocation_metadata() or ()
            with self._tracing.serving(name, metadata) as span:
                return await serve(requests, context, span)

        return traced

    def _known(self, rpc: Rpc, error: PlugstatusError) -> api_errors.Answer:
        now_s = self._clock.monotonic_s()
        if api_errors.is_of_a_store(error) and now_s - self._told_s > _TELL_S:
            # The caller is not told what it is.
            self._told_s = now_s
            _log.warning("calls fail, for one because", method=rpc.method, reason=str(error))
        try:
            return api_errors.answer(error)
        except KeyError:
            return self._defect(rpc)

    def _defect(self, rpc: Rpc) -> api_errors.Answer:
        error_id = secrets.token_hex(8)
        _log.exception("call failed", method=rpc.method, error_id=error_id)
        return api_errors.internal(error_id)


def _parsed(parse: Parse, encoded: Any) -> Any:
    """What is asked. Parsed here, because gRPC's own answer would carry no reason."""
    if encoded is grpc.aio.EOF:
        raise FieldsInvalid(("", "the request is missing"))
    try:
        return parse(encoded)
    except DecodeError:
        raise FieldsInvalid(("", "the request is not a message of this rpc")) from None


def _tell(span: Span, code: grpc.StatusCode) -> None:
    span.tell(rpc_system="grpc", rpc_grpc_status__code=code.value[0])
    if code in _OUR_FAULTS:
        span.failed()


async def _written(context: Context, frame: Any) -> None:
    try:
        await context.write(frame)
    except grpc.aio.InternalError:
        # All that gRPC has to say when the call ended while it was being written to.
        raise _CallerLeft from None
