"""Questions answered a second."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx

from benchmarks.bodies import numbered, of_many
from benchmarks.h2load import Load
from benchmarks.pairs import Row, Slice, measured
from benchmarks.processes import serving
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.server_process import ServerProcess

_MESSAGES = 100_000
_A_CALLBACK = 10_000
_BATCH = 100
_BATCHGET = "/plugchat.status.v1.MessageStatusService/BatchGetMessageStatuses"
GET = "/plugchat.status.v1.MessageStatusService/GetMessageStatus"


def rows(pairs: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name, ServerProcess(Path(name) / "data") as ours:
        cursor = _filled(ours)
        request = pb.GetMessageStatusRequest(message_id=numbered(_MESSAGES // 2))
        with grpc.insecure_channel(ours.grpc) as channel:
            until = pb.GetMessageStatusRequest(message_id=request.message_id, min_cursor=cursor)
            answer = stubs.MessageStatusServiceStub(channel).GetMessageStatus(until, timeout=30)
        asked = request.SerializeToString()
        mine = Load.of_calls(Path(name), ours.grpc, GET, asked, in_flight=32)
        for loop, floor in (("asyncio", 0.75), ("uvloop", None)):
            with serving("echo", str(answer.ByteSize()), loop) as other:
                theirs = Load.of_calls(
                    Path(name), other.address, "/bench.Echo/Echo", asked, in_flight=32
                )
                yield measured(
                    "GetMessageStatus, 100,000 messages, 32 in flight",
                    mine.slice,
                    f"a bare grpc.aio echo of the same size, on {loop}",
                    theirs.slice,
                    floor=floor,
                    pairs=pairs,
                    cpu_us=mine.cpu_us([ours.pid]),
                )
        ids = [numbered(number) for number in range(0, _MESSAGES, _MESSAGES // _BATCH)]
        batch = pb.BatchGetMessageStatusesRequest(message_ids=ids).SerializeToString()
        batches = Load.of_calls(Path(name), ours.grpc, _BATCHGET, batch, in_flight=4)

        def of_batches() -> Slice:
            taken = batches.slice()
            return taken._replace(per_s=taken.per_s * _BATCH)

        yield measured(
            f"messages by BatchGetMessageStatuses of {_BATCH}",
            of_batches,
            "messages by GetMessageStatus",
            mine.slice,
            floor=20.0,
            pairs=pairs,
            cpu_us=batches.cpu_us([ours.pid]),
        )


def _filled(server: ServerProcess) -> str:
    """The cursor behind the last callback."""
    url = f"{server.http}/instancia/bench/status"
    cursor = ""
    for first in range(0, _MESSAGES, _A_CALLBACK):
        answer = httpx.post(
            url,
            content=of_many(first, _A_CALLBACK),
            headers={"content-type": "application/json"},
            trust_env=False,
            timeout=30,
        )
        cursor = str(answer.raise_for_status().json()["cursor"])
    return cursor
