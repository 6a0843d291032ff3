"""A real gRPC server that says what a test tells it to: endings that no server has on demand."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from service.client import RetryPolicy, StatusClient, Update
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import DOMAIN

DEADLINE_S = 30.0
"""Far more than any of it takes; a test that waits longer has found a hang."""

QUICK = RetryPolicy(initial_s=0.001, max_s=0.01)


@dataclass(frozen=True)
class Fails:
    """The stream ends with that code and, unless it is empty, that reason."""

    code: grpc.StatusCode
    reason: str = ""


class Silent:
    """Nothing more comes until the client goes, or its time is up."""


Step: TypeAlias = pb.WatchStatusesResponse | Fails | Silent
WaitStep: TypeAlias = pb.Status.ValueType | Fails | Silent

SILENT = Silent()


def opened(cursor: str, generation: int = 1) -> pb.WatchStatusesResponse:
    return pb.WatchStatusesResponse(cursor=cursor, opened=pb.Opened(views_generation=generation))


def changes(*cursors: str) -> pb.WatchStatusesResponse:
    """A frame with a change at each cursor."""
    frame = pb.Changes(changes=[pb.StatusChange(cursor=cursor) for cursor in cursors])
    return pb.WatchStatusesResponse(cursor=cursors[-1], changes=frame)


def caught_up(cursor: str) -> pb.WatchStatusesResponse:
    return pb.WatchStatusesResponse(cursor=cursor, caught_up=pb.CaughtUp())


def snapshot_end(cursor: str) -> pb.WatchStatusesResponse:
    return pb.WatchStatusesResponse(cursor=cursor, snapshot_end=pb.SnapshotEnd())


def closing(cursor: str, reason: pb.ClosingReason.ValueType) -> pb.WatchStatusesResponse:
    return pb.WatchStatusesResponse(cursor=cursor, closing=pb.Closing(reason=reason))


class ScriptedServer:
    """Answers each watch, and each wait, with the next of its scripts."""

    def __init__(self, *scripts: Sequence[Step], waits: Sequence[WaitStep] = ()):
        self._scripts = list(scripts)
        self._waits = list(waits)
        self.requests: list[pb.WatchStatusesRequest] = []
        self.wait_requests: list[pb.WaitForStatusRequest] = []
        self.sent = 0
        """Frames that the transport has taken."""
        self.left = asyncio.Event()
        """A stream was ended by its client."""

    def add_to(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "WatchStatuses": grpc.unary_stream_rpc_method_handler(
                self._watch,
                pb.WatchStatusesRequest.FromString,
                pb.WatchStatusesResponse.SerializeToString,
            ),
            "WaitForStatus": grpc.unary_unary_rpc_method_handler(
                self._wait,
                pb.WaitForStatusRequest.FromString,
                pb.WaitForStatusResponse.SerializeToString,
            ),
        }
        name = pb.DESCRIPTOR.services_by_name["MessageStatusService"].full_name
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))

    async def _watch(
        self, request: pb.WatchStatusesRequest, context: Any
    ) -> AsyncIterator[pb.WatchStatusesResponse]:
        self.requests.append(request)
        try:
            for step in self._scripts.pop(0) if self._scripts else (SILENT,):
                match step:
                    case Fails():
                        await _fail(context, step)
                    case Silent():
                        await asyncio.Event().wait()
                    case _:
                        yield step
                        self.sent += 1
        except (asyncio.CancelledError, GeneratorExit):
            # The latter if it was just handing out a frame.
            self.left.set()
            raise

    async def _wait(
        self, request: pb.WaitForStatusRequest, context: Any
    ) -> pb.WaitForStatusResponse:
        self.wait_requests.append(request)
        step = self._waits.pop(0)
        match step:
            case Fails():
                return await _fail(context, step)
            case Silent():
                await asyncio.Event().wait()
                raise AssertionError("nobody sets it")
            case _:
                return pb.WaitForStatusResponse(message=pb.MessageStatus(status=step))


async def _fail(context: Any, fails: Fails) -> NoReturn:
    status = Status(code=fails.code.value[0], message="told to")
    if fails.reason:
        packed = AnyMessage()
        packed.Pack(ErrorInfo(reason=fails.reason, domain=DOMAIN))
        status.details.append(packed)
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(fails.code, "told to", trailers)
    raise AssertionError("abort raises")


@asynccontextmanager
async def scripted(
    *scripts: Sequence[Step],
    waits: Sequence[WaitStep] = (),
    retry: RetryPolicy = QUICK,
) -> AsyncIterator[tuple[ScriptedServer, StatusClient]]:
    """A server with these scripts, and a client of it; neither is waited for without bound."""
    server = grpc.aio.server()
    told = ScriptedServer(*scripts, waits=waits)
    told.add_to(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with (
            asyncio.timeout(DEADLINE_S),
            StatusClient(f"127.0.0.1:{port}", retry=retry) as it,
        ):
            yield told, it
    finally:
        await server.stop(grace=None)


def kinds(updates: Sequence[Update]) -> list[str]:
    return [type(update).__name__ for update in updates]


async def only_tasks_of(before: int) -> None:
    """Wait until there are no more tasks than before. The server's own come and go."""
    while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110
        await asyncio.sleep(0)
