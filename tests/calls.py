"""What tests say to a running server: callbacks over HTTP, requests over gRPC."""

import itertools
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio
import httpx
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs

DOMAIN = "plugchat.status.v1"

SEED_BODY = {
    "status": "MESSAGE_RECEIVED",
    "ids": ["999999999999999999999"],
    "momment": 1632234645000,
    "phone": "5544999999999",
    "type": "MessageStatusCallback",
}
"""The sample of the provider's documentation."""

_numbers = itertools.count(1)


def fresh_id() -> str:
    """A message id no other test uses."""
    return f"3EB0{next(_numbers):012X}"


def callback(message_id: str, status: str = "SENT", **fields: Any) -> dict[str, Any]:
    return {
        "type": "MessageStatusCallback",
        "status": status,
        "ids": [message_id],
        "phone": "5511900000102",
        **fields,
    }


async def post(
    http: httpx.AsyncClient, body: dict[str, Any] | bytes, instance: str = "acme"
) -> str:
    """Post a callback that has to be recorded; the cursor of its end."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await http.post(
        f"/instancia/{instance}/status",
        content=content,
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == httpx.codes.OK, response.text
    return str(response.json()["cursor"])


async def post_each(
    http: httpx.AsyncClient, bodies: Iterable[dict[str, Any]], instance: str = "acme"
) -> str:
    """Post callbacks one after the other; the cursor of the last one's end."""
    cursors = [await post(http, body, instance) for body in bodies]
    return cursors[-1]


class Api:
    """Both stubs on one channel, and streams that are read frame by frame."""

    def __init__(self, target: str, *options: tuple[str, int]) -> None:
        self.channel = grpc.aio.insecure_channel(target, options=options)
        self.status: Any = stubs.MessageStatusServiceStub(self.channel)
        self.admin: Any = stubs.AdminServiceStub(self.channel)

    async def get(self, message_id: str, **fields: str) -> pb.MessageStatus:
        request = pb.GetMessageStatusRequest(message_id=message_id, **fields)
        response: pb.GetMessageStatusResponse = await self.status.GetMessageStatus(
            request, timeout=20
        )
        return response.message

    def watch(self, request: pb.WatchStatusesRequest) -> "Stream":
        return Stream(self.status.WatchStatuses(request, timeout=60))


class StreamEnded(Exception):
    """The server ended the stream; the argument is its status code."""


class Stream:
    """One watch stream."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.responses: list[pb.WatchStatusesResponse] = []
        """Everything read so far."""

    async def next(self) -> pb.WatchStatusesResponse:
        """The next response. Raises StreamEnded once the server ended the stream well."""
        response: pb.WatchStatusesResponse = await self.call.read()
        if response == grpc.aio.EOF:
            raise StreamEnded(await self.call.code())
        self.responses.append(response)
        return response

    async def until(self, frame: str) -> pb.WatchStatusesResponse:
        """Read on up to the next frame of that kind."""
        while (response := await self.next()).WhichOneof("frame") != frame:
            pass
        return response

    async def changes(self, count: int) -> list[pb.StatusChange]:
        """Read on until so many changes have come since this call; exactly so many."""
        found: list[pb.StatusChange] = []
        while len(found) < count:
            found.extend((await self.next()).changes.changes)
        assert len(found) == count
        return found

    def kinds(self) -> list[str]:
        """The frames read so far, by name."""
        return [str(response.WhichOneof("frame")) for response in self.responses]

    async def rest(self) -> AsyncIterator[pb.WatchStatusesResponse]:
        while True:
            try:
                yield await self.next()
            except StreamEnded:
                return

    def cancel(self) -> None:
        self.call.cancel()


def error_info(error: grpc.aio.AioRpcError) -> ErrorInfo:
    """The ErrorInfo every error has to carry."""
    return _detail(error, ErrorInfo())


def bad_request(error: grpc.aio.AioRpcError) -> BadRequest:
    return _detail(error, BadRequest())


def _detail(error: grpc.aio.AioRpcError, wanted: Any) -> Any:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = Status.FromString(value)
            assert (status.code, status.message) == (error.code().value[0], error.details())
            for detail in status.details:
                if detail.Unpack(wanted):
                    return wanted
    raise AssertionError(f"no {type(wanted).__name__} in {error}")
