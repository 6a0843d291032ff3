"""GetMessageStatus and BatchGetMessageStatuses over a real socket."""

from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import (
    DOMAIN,
    SEED_BODY,
    Api,
    bad_request,
    callback,
    error_info,
    fresh_id,
    post,
    post_each,
)

pytestmark = pytest.mark.both_stores


async def test_documented_callback_is_answered(http: httpx.AsyncClient, api: Api) -> None:
    """The sample of the provider's documentation comes back as a RECEIVED message."""
    cursor = await post(http, SEED_BODY, "SUA_INSTANCIA")
    message = await api.get("999999999999999999999", min_cursor=cursor)

    assert message.instance == "SUA_INSTANCIA"
    assert message.phone == "5544999999999"
    assert message.status == pb.STATUS_RECEIVED
    assert message.provider_status == "MESSAGE_RECEIVED"
    assert message.occur_time.ToMilliseconds() == 1632234645000
    assert [stage.status for stage in message.stages] == [pb.STATUS_RECEIVED]
    assert not message.HasField("failure")
    assert message.report_count == 1
    assert message.receive_time == message.update_time


async def test_status_never_goes_backwards(http: httpx.AsyncClient, api: Api) -> None:
    """READ stays READ whatever comes late, and every stage is kept."""
    message_id = fresh_id()
    words = ("READ", "SENT", "FAILED", "RECEIVED", "READ_BY_ME", "SEM_SINAL")
    cursor = await post_each(http, [callback(message_id, word) for word in words])
    message = await api.get(message_id, min_cursor=cursor)

    assert message.status == pb.STATUS_READ
    assert [stage.status for stage in message.stages] == [
        pb.STATUS_UNRECOGNIZED,
        pb.STATUS_READ_BY_ME,
        pb.STATUS_SENT,
        pb.STATUS_FAILED,
        pb.STATUS_RECEIVED,
        pb.STATUS_READ,
    ]
    assert message.HasField("failure")
    assert message.report_count == 6


async def test_min_cursor_reads_own_writes(http: httpx.AsyncClient, api: Api) -> None:
    """With the cursor a POST was answered with, its callback is always seen."""
    message_ids = [fresh_id() for _ in range(50)]
    seen = [
        await api.get(message_id, min_cursor=await post(http, callback(message_id)))
        for message_id in message_ids
    ]

    assert [message.message_id for message in seen] == message_ids


async def test_unknown_message(api: Api) -> None:
    """A message no callback has named is NOT_FOUND."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.get("never-heard-of")

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    info = error_info(caught.value)
    assert (info.domain, info.reason) == (DOMAIN, "MESSAGE_NOT_FOUND")


async def test_ambiguous_message_id(http: httpx.AsyncClient, api: Api) -> None:
    """Two instances that share an id have to be told apart; at most ten of them are named."""
    message_id = fresh_id()
    instances = [f"tenant-{number:02}" for number in range(12)]
    cursors = [await post(http, callback(message_id), instance) for instance in instances]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.get(message_id, min_cursor=cursors[-1])
    one = await api.get(message_id, instance="tenant-07")

    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    info = error_info(caught.value)
    assert info.reason == "AMBIGUOUS_MESSAGE_ID"
    assert info.metadata["instances"] == ",".join(instances[:10])
    assert one.instance == "tenant-07"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"message_id": ""}, "message_id"),
        ({"message_id": "x" * 129}, "message_id"),
        ({"message_id": "a\0b"}, "message_id"),
        ({"message_id": "x", "instance": "a/b"}, "instance"),
        ({"message_id": "x", "instance": ".."}, "instance"),
    ],
)
async def test_field_out_of_bounds(api: Api, fields: dict[str, str], path: str) -> None:
    """A field that breaks its bounds is named in a BadRequest."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.get(**fields)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(caught.value).reason == "FIELD_INVALID"
    assert [violation.field for violation in bad_request(caught.value).field_violations] == [path]


async def test_longest_message_id(http: httpx.AsyncClient, api: Api) -> None:
    """128 code points of four bytes each are an id like any other."""
    message_id = "😀" * 128
    cursor = await post(http, callback(message_id))
    message = await api.get(message_id, min_cursor=cursor)

    assert message.message_id == message_id


async def test_batch_get_is_partial(http: httpx.AsyncClient, api: Api) -> None:
    """Found ones come in the order asked, repeats once; missing and ambiguous ones are named."""
    first, second, shared = fresh_id(), fresh_id(), fresh_id()
    await post_each(http, [callback(first), callback(shared)], "a")
    cursor = await post_each(http, [callback(second), callback(shared)], "b")
    await api.get(shared, instance="b", min_cursor=cursor)
    asked = [second, "never-heard-of", first, shared, second, "never-heard-of"]
    response = await api.status.BatchGetMessageStatuses(
        pb.BatchGetMessageStatusesRequest(message_ids=asked)
    )

    assert [message.message_id for message in response.messages] == [second, first]
    assert list(response.not_found) == ["never-heard-of"]
    assert list(response.ambiguous) == [shared]


async def test_batch_get_in_one_instance(http: httpx.AsyncClient, api: Api) -> None:
    """With an instance nothing is ambiguous."""
    shared = fresh_id()
    await post(http, callback(shared), "a")
    cursor = await post(http, callback(shared), "b")
    await api.get(shared, instance="b", min_cursor=cursor)
    response = await api.status.BatchGetMessageStatuses(
        pb.BatchGetMessageStatusesRequest(message_ids=[shared], instance="b")
    )

    assert [message.instance for message in response.messages] == ["b"]


async def test_batch_get_bounds(api: Api) -> None:
    """500 ids are answered, 501 are refused, and each bad id is named, at most ten of them."""
    full = await api.status.BatchGetMessageStatuses(
        pb.BatchGetMessageStatusesRequest(message_ids=[f"absent-{n}" for n in range(500)])
    )
    with pytest.raises(grpc.aio.AioRpcError) as too_many:
        await api.status.BatchGetMessageStatuses(
            pb.BatchGetMessageStatusesRequest(message_ids=["x"] * 501)
        )
    with pytest.raises(grpc.aio.AioRpcError) as all_bad:
        await api.status.BatchGetMessageStatuses(
            pb.BatchGetMessageStatusesRequest(message_ids=[""] * 20)
        )

    assert len(full.not_found) == 500
    assert too_many.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(bad_request(all_bad.value).field_violations) == 10


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [("nonsense", "CURSOR_INVALID"), ("A" * 39, "CURSOR_INVALID"), ("ü" * 39, "CURSOR_INVALID")],
)
async def test_unreadable_min_cursor(api: Api, cursor: str, reason: str) -> None:
    """What is not a cursor of this service is refused as such."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.get("x", min_cursor=cursor)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(caught.value).reason == reason


async def test_bytes_that_are_no_message(api: Api) -> None:
    """A request that cannot be parsed is INVALID_ARGUMENT, and shows nothing of ours."""
    call: Any = api.channel.unary_unary(
        "/plugchat.status.v1.MessageStatusService/GetMessageStatus",
        request_serializer=None,
        response_deserializer=None,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\x0a\xff\xff")

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(caught.value).reason == "FIELD_INVALID"
    assert "class" not in str(caught.value.details())
