"""A call that ended while it was written to, which gRPC cannot be made to do on demand."""

import grpc
import grpc.aio
import pytest

from service import config
from service.api.access import Access
from service.api.calls import Call, Policy, Rpc
from service.clock import SystemClock
from service.config import Limits
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.telemetry import Metrics

RPC = Rpc("plugchat.status.v1.MessageStatusService", "WatchStatuses", "server_stream", "reader")


class Ended:
    """A call whose other side is gone."""

    def __init__(self) -> None:
        self.aborted = False

    def peer(self) -> str:
        return "ipv4:127.0.0.1:5"

    def invocation_metadata(self) -> tuple[()]:
        return ()

    async def read(self) -> bytes:
        return b""

    async def write(self, _frame: bytes) -> None:
        raise grpc.aio.InternalError("execute_batch")

    async def abort(self, *_: object) -> None:
        self.aborted = True


async def test_a_caller_that_left_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    """Counted as CANCELLED, answered with nothing, and not logged."""
    metrics = Metrics()
    policy = Policy(SystemClock(), Limits(), metrics, Access(config.load({}), SystemClock()))
    context = Ended()

    async def handle(_request: object, _call: Call, write: object) -> None:
        await write(b"frame")  # type: ignore[operator]

    serve = policy.stream(RPC, pb.WatchStatusesRequest.FromString, handle)
    await serve(None, context)
    handled = metrics.registry.get_sample_value(
        "grpc_server_handled_total",
        {
            "grpc_type": RPC.kind,
            "grpc_service": RPC.service,
            "grpc_method": RPC.method,
            "grpc_code": grpc.StatusCode.CANCELLED.name,
        },
    )

    assert handled == 1
    assert not context.aborted
    assert "call failed" not in "".join(capsys.readouterr())
