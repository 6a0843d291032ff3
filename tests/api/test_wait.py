"""WaitForStatus over a real socket: what ends a wait, and what a wait leaves behind."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import grpc
import grpc.aio
import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, bad_request, callback, error_info, fresh_id, post
from tests.server_process import ServerProcess

FAR_S = 60.0
"""Longer than any test waits."""


async def _wait(
    api: Api,
    message_id: str,
    at_least: pb.Status.ValueType,
    *,
    timeout_s: float = FAR_S,
    **given: bool | str,
) -> pb.MessageStatus:
    request = pb.WaitForStatusRequest(message_id=message_id, at_least=at_least, **given)  # type: ignore[arg-type]
    response: pb.WaitForStatusResponse = await api.status.WaitForStatus(request, timeout=timeout_s)
    return response.message


async def _reason(waiting: Awaitable[pb.MessageStatus]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await waiting
    return f"{caught.value.code().name} {error_info(caught.value).reason}"


async def _waits(api: Api, count: int) -> None:
    """Until so many calls wait."""
    async with asyncio.timeout(FAR_S):
        while (await _status(api)).wait_count != count:
            pass


async def _status(api: Api) -> pb.GetServiceStatusResponse:
    response: pb.GetServiceStatusResponse = await api.admin.GetServiceStatus(
        pb.GetServiceStatusRequest()
    )
    return response


async def test_a_wait_ends_when_the_status_is_reached(http: httpx.AsyncClient, api: Api) -> None:
    """An id not heard of yet; a lower status does not end the wait, a higher one does."""
    message_id = fresh_id()
    waiting = asyncio.create_task(_wait(api, message_id, pb.STATUS_READ))
    await _waits(api, 1)
    end = await post(http, callback(message_id, "RECEIVED"))
    before = await api.get(message_id, min_cursor=end)
    still = (await _status(api)).wait_count
    await post(http, callback(message_id, "PLAYED"))
    message = await waiting

    assert (before.status, still) == (pb.STATUS_RECEIVED, 1)
    assert message == await api.get(message_id)
    assert message.status == pb.STATUS_PLAYED
    assert (await _status(api)).wait_count == 0


async def test_a_wait_for_what_is_there_ends_at_once(http: httpx.AsyncClient, api: Api) -> None:
    """The status is high enough when the call begins."""
    message_id = fresh_id()
    end = await post(http, callback(message_id, "READ"))
    expected = await api.get(message_id, min_cursor=end)

    found = [
        await _wait(api, message_id, at_least)
        for at_least in (pb.STATUS_SENT, pb.STATUS_RECEIVED, pb.STATUS_READ)
    ]

    assert found == [expected] * 3


@pytest.mark.parametrize("at_least", [pb.STATUS_SENT, pb.STATUS_READ])
async def test_a_failure_ends_a_wait_unless_it_is_ignored(
    http: httpx.AsyncClient, api: Api, at_least: pb.Status.ValueType
) -> None:
    """FAILED ends a wait, whatever it is for; ignored, it satisfies nothing, not even SENT."""
    message_id = fresh_id()
    told, ignoring = (
        asyncio.create_task(_wait(api, message_id, at_least, ignore_failure=ignored))
        for ignored in (False, True)
    )
    await _waits(api, 2)
    await post(http, callback(message_id, "FAILED"))
    failed = await told
    already = await _wait(api, message_id, at_least)
    on_time = await _reason(_wait(api, message_id, at_least, ignore_failure=True, timeout_s=1))
    still = (await _status(api)).wait_count
    await post(http, callback(message_id, "READ"))
    read = await ignoring

    assert (failed.status, already.status, read.status) == (
        pb.STATUS_FAILED,
        pb.STATUS_FAILED,
        pb.STATUS_READ,
    )
    assert on_time == "DEADLINE_EXCEEDED WAIT_TIMED_OUT"
    assert still == 1


async def test_a_wait_hears_its_own_instance_only(http: httpx.AsyncClient, api: Api) -> None:
    """The same id in another instance ends nothing."""
    message_id = fresh_id()
    waiting = asyncio.create_task(_wait(api, message_id, pb.STATUS_SENT, instance="mine"))
    await _waits(api, 1)
    end = await post(http, callback(message_id, "READ"), "other")
    await api.get(message_id, min_cursor=end)
    still = (await _status(api)).wait_count
    await post(http, callback(message_id, "SENT"), "mine")

    assert still == 1
    assert (await waiting).instance == "mine"


async def test_an_id_that_gets_ambiguous_ends_a_wait(http: httpx.AsyncClient, api: Api) -> None:
    """Without an instance: as soon as two of them have the id, and at once if they have it."""
    message_id = fresh_id()
    await post(http, callback(message_id, "SENT"), "one")
    waiting = asyncio.create_task(_wait(api, message_id, pb.STATUS_READ))
    await _waits(api, 1)
    await post(http, callback(message_id, "SENT"), "two")

    assert await _reason(waiting) == "FAILED_PRECONDITION AMBIGUOUS_MESSAGE_ID"
    assert (
        await _reason(_wait(api, message_id, pb.STATUS_READ))
        == "FAILED_PRECONDITION AMBIGUOUS_MESSAGE_ID"
    )
    assert (await _wait(api, message_id, pb.STATUS_SENT, instance="two")).instance == "two"


@pytest.mark.parametrize(
    ("request_message", "paths"),
    [
        (pb.WaitForStatusRequest(at_least=pb.STATUS_READ), ["message_id"]),
        (pb.WaitForStatusRequest(message_id="x"), ["at_least"]),
        (pb.WaitForStatusRequest(message_id="x", at_least=pb.STATUS_FAILED), ["at_least"]),
        (pb.WaitForStatusRequest(message_id="x", at_least=pb.STATUS_PENDING), ["at_least"]),
        (pb.WaitForStatusRequest(message_id="x", at_least=65), ["at_least"]),  # type: ignore[arg-type]
        (
            pb.WaitForStatusRequest(message_id="x" * 129, instance="a b"),
            ["message_id", "instance", "at_least"],
        ),
    ],
)
async def test_what_cannot_be_waited_for(
    api: Api, request_message: pb.WaitForStatusRequest, paths: list[str]
) -> None:
    """Fields out of their bounds are refused by name, all of them at once."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.status.WaitForStatus(request_message)

    assert error_info(caught.value).reason == "FIELD_INVALID"
    assert [violation.field for violation in bad_request(caught.value).field_violations] == paths


async def test_thousands_wait_and_leave_nothing_behind(http: httpx.AsyncClient, api: Api) -> None:
    """More than there are places for other calls: some answered, some cancelled, some too late."""
    ids = [fresh_id() for _ in range(1_500)]
    answered, cancelled, late = ids[:600], ids[600:1_200], ids[1_200:]
    waiting = [asyncio.create_task(_wait(api, one, pb.STATUS_READ)) for one in answered]
    leaving = [asyncio.create_task(_wait(api, one, pb.STATUS_READ)) for one in cancelled]
    await _waits(api, 1_200)
    unknown = [
        asyncio.create_task(_reason(_wait(api, one, pb.STATUS_READ, timeout_s=4))) for one in late
    ]
    await _waits(api, 1_500)
    await post(http, callback("", "READ", ids=answered))
    messages = await asyncio.gather(*waiting)
    for one in leaving:
        one.cancel()
    reasons = Counter(await asyncio.gather(*unknown))
    await _waits(api, 0)

    assert [message.message_id for message in messages] == answered
    assert {message.status for message in messages} == {pb.STATUS_READ}
    assert reasons == {"DEADLINE_EXCEEDED WAIT_TIMED_OUT": 300}


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    with ServerProcess(tmp_path / "data") as server:
        yield server


async def test_a_drain_ends_every_wait(own: ServerProcess) -> None:
    """Each is told SHUTTING_DOWN at once, and the process ends as it should."""
    api = Api(own.grpc)
    waiting = [
        asyncio.create_task(_reason(_wait(api, fresh_id(), pb.STATUS_READ))) for _ in range(200)
    ]
    await _waits(api, 200)
    code = await asyncio.to_thread(own.stop)
    reasons = await asyncio.gather(*waiting)
    await api.channel.close()

    assert code == 0
    assert set(reasons) == {"UNAVAILABLE SHUTTING_DOWN"}


async def test_a_wait_sees_a_rebuild_through(own: ServerProcess) -> None:
    """Views are switched under it, and what comes then still ends it."""
    api = Api(own.grpc)
    message_id = fresh_id()
    waiting = asyncio.create_task(_wait(api, message_id, pb.STATUS_READ))
    async with httpx.AsyncClient(base_url=own.http, trust_env=False, timeout=20) as http:
        await post(http, callback(message_id, "SENT"))
        await _waits(api, 1)
        async for _ in api.admin.RebuildViews(pb.RebuildViewsRequest()):
            pass
        await post(http, callback(message_id, "READ"))
    message = await waiting
    await api.channel.close()

    assert (message.status, message.report_count) == (pb.STATUS_READ, 2)
