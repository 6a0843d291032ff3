"""Forget over a real socket: what every other rpc shows of it, before and after."""

import asyncio
import contextlib
import itertools
import json
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, Stream, bad_request, callback, error_info, fresh_id, post, post_each

DEADLINE_S = 60
_phones = itertools.count(1)


def fresh_phone() -> str:
    """A phone no other test uses, and no other text holds."""
    return f"55119{next(_phones):04d}8765"


async def forget(api: Api, **fields: Any) -> list[pb.TaskProgress]:
    call = api.admin.Forget(pb.ForgetRequest(**fields), timeout=DEADLINE_S)
    return [response.progress async for response in call]


async def told(api: Api, **fields: Any) -> str:
    """What the end of it says."""
    return (await forget(api, **fields))[-1].note


async def check(api: Api) -> int:
    call = api.admin.RebuildViews(pb.RebuildViewsRequest(check=True), timeout=DEADLINE_S)
    return int([response.difference_count async for response in call][-1])


async def rebuild(api: Api) -> None:
    async for _ in api.admin.RebuildViews(pb.RebuildViewsRequest(), timeout=DEADLINE_S):
        pass


async def history(api: Api, message_id: str) -> list[pb.StatusReport]:
    response = await api.status.ListStatusReports(
        pb.ListStatusReportsRequest(message_id=message_id), timeout=DEADLINE_S
    )
    return list(response.reports)


async def recipients(api: Api, message_id: str) -> list[str]:
    response = await api.status.ListRecipients(
        pb.ListRecipientsRequest(message_id=message_id), timeout=DEADLINE_S
    )
    return [one.participant for one in response.recipients]


async def quarantined(api: Api) -> list[bytes]:
    response = await api.admin.ListQuarantinedCallbacks(
        pb.ListQuarantinedCallbacksRequest(), timeout=DEADLINE_S
    )
    return [one.raw for one in response.callbacks]


async def service_status(api: Api) -> pb.GetServiceStatusResponse:
    status: pb.GetServiceStatusResponse = await api.admin.GetServiceStatus(
        pb.GetServiceStatusRequest(), timeout=DEADLINE_S
    )
    return status


async def absent(api: Api, *message_ids: str) -> bool:
    """None of these is known."""
    response = await api.status.BatchGetMessageStatuses(
        pb.BatchGetMessageStatusesRequest(message_ids=message_ids), timeout=DEADLINE_S
    )
    return list(response.not_found) == list(message_ids)


@pytest.mark.parametrize(
    ("fields", "violations"),
    [
        ({}, ["message_id"]),
        ({"dry_run": True}, ["message_id"]),
        ({"instance": "acme"}, ["message_id"]),
        ({"message_id": "M", "phone": "55"}, ["message_id"]),
        ({"message_id": "M", "phone": "55", "instance": "acme"}, ["message_id"]),
        ({"phone": "55", "instance": "acme"}, ["instance"]),
        ({"phone": "5" * 65, "instance": "acme"}, ["phone", "instance"]),
        ({"phone": "5\0"}, ["phone"]),
        ({"message_id": "M" * 129}, ["message_id"]),
        ({"message_id": "M\0", "instance": ".."}, ["message_id", "instance"]),
        ({"message_id": "M", "instance": "a/b"}, ["instance"]),
    ],
    ids=str,
)
async def test_wrong_fields(api: Api, fields: dict[str, Any], violations: list[str]) -> None:
    """Either a message or a phone; every fault is told, and nothing is erased."""
    before = (await service_status(api)).log_head_position
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await forget(api, **fields)

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(raised.value).reason == "FIELD_INVALID"
    assert [one.field for one in bad_request(raised.value).field_violations] == violations
    assert (await service_status(api)).log_head_position == before


async def test_a_phone_goes_and_others_stay(http: httpx.AsyncClient, api: Api) -> None:
    """Its messages, recipients and bodies go; what the same bodies said of others stays."""
    phone, other, group = fresh_phone(), fresh_phone(), "120363000000000001-group"
    mine, named, theirs, grouped = (fresh_id() for _ in range(4))
    end = await post_each(
        http,
        [
            callback(mine, phone=phone),
            callback(mine, "READ", phone=""),
            callback("", "RECEIVED", ids=[mine, theirs], phone=other),
            callback(named, phone=other, senderName=f"not {phone}"),
            callback(grouped, "READ", phone=group, participant=phone),
            callback(grouped, "RECEIVED", phone=group, participant=f"{other}@lid"),
            {"type": "Novel", "about": phone},
            {"type": "Novel", "about": other},
        ],
    )
    before = await api.get(grouped, min_cursor=end)
    would = await told(api, phone=phone, dry_run=True)
    unheard = await history(api, mine)
    counted = (await service_status(api)).removals.erased_event_count
    did = await told(api, phone=phone)
    removals = (await service_status(api)).removals

    counts = "6 callbacks, 1 messages and 1 recipients of other messages"
    assert (would, did) == (f"would erase {counts}", f"erased {counts}")
    assert len(unheard) == 3
    assert all(one.raw for one in unheard)
    assert await absent(api, mine)
    assert [one.raw for one in await history(api, theirs)] == [b""]
    assert [(one.raw, one.provider_status) for one in await history(api, named)] == [(b"", "SENT")]
    assert (await api.get(theirs)).phone == other
    assert (await api.get(grouped)).status == before.status == pb.STATUS_READ
    assert (before.recipient_count, (await api.get(grouped)).recipient_count) == (2, 1)
    assert await recipients(api, grouped) == [other]
    raws = await quarantined(api)
    assert [json.loads(raw)["about"] for raw in raws if other.encode() in raw] == [other]
    assert not any(phone.encode() in raw for raw in raws)
    assert removals.erased_event_count == counted + 6
    assert removals.last_erasure_time.seconds > 0
    assert await check(api) == 0


async def test_a_message_goes_in_its_instance(http: httpx.AsyncClient, api: Api) -> None:
    """With an instance the same id of another one stays; without one it has to be the only one."""
    message_id, beside = fresh_id(), fresh_id()
    await post(http, callback("", ids=[message_id, beside]), "acme")
    end = await post(http, callback(message_id), "umbrella")
    await api.get(beside, min_cursor=end)
    with pytest.raises(grpc.aio.AioRpcError) as ambiguous:
        await told(api, message_id=message_id)
    first = await told(api, message_id=message_id, instance="acme")
    left = await api.get(message_id)
    second = await told(api, message_id=message_id)

    assert first.startswith("erased 1 callbacks, 1 messages ")
    assert error_info(ambiguous.value).reason == "AMBIGUOUS_MESSAGE_ID"
    assert error_info(ambiguous.value).metadata["instances"] == "acme,umbrella"
    assert left.instance == "umbrella"
    assert second.startswith("erased 1 callbacks, 1 messages ")
    assert await absent(api, message_id)
    assert (await api.get(beside)).report_count == 1
    assert await check(api) == 0


async def test_nothing_comes_back(http: httpx.AsyncClient, api: Api) -> None:
    """A second one finds nothing, a rebuild brings nothing back, a callback starts anew."""
    phone, message_id = fresh_phone(), fresh_id()
    end = await post_each(
        http, [callback(message_id, one, phone=phone) for one in ("READ", "SENT")]
    )
    await api.get(message_id, min_cursor=end)
    await forget(api, phone=phone)
    again = await forget(api, phone=phone)
    await rebuild(api)
    gone = await absent(api, message_id)
    cursor = await post(http, callback(message_id, phone=phone))
    new = await api.get(message_id, min_cursor=cursor)

    assert (again[-1].done, again[-1].total) == (0, 0)
    assert again[-1].note == "erased 0 callbacks, 0 messages and 0 recipients of other messages"
    assert gone
    assert (new.status, new.report_count, new.phone) == (pb.STATUS_SENT, 1, phone)
    assert await check(api) == 0


async def test_a_dry_run_changes_nothing(http: httpx.AsyncClient, api: Api) -> None:
    """It appends nothing, and every list shows the same."""
    phone, message_id = fresh_phone(), fresh_id()
    end = await post(http, callback(message_id, phone=phone, participant=phone))
    await api.get(message_id, min_cursor=end)
    seen = []
    for _ in range(2):
        status = await service_status(api)
        seen.append(
            (
                status.log_head_position,
                status.removals,
                await history(api, message_id),
                await recipients(api, message_id),
            )
        )
        note = await told(api, message_id=message_id, dry_run=True)
        assert note == "would erase 1 callbacks, 1 messages and 0 recipients of other messages"

    assert seen[0] == seen[1]


async def test_watchers_hear_nothing_and_go_on(http: httpx.AsyncClient, api: Api) -> None:
    """No frame tells of an erasure; cursors inside erased events resume, live and caught up."""
    phone, other = fresh_phone(), fresh_phone()
    mine, theirs = fresh_id(), fresh_id()
    start = await post(http, callback(fresh_id()))
    live = api.watch(pb.WatchStatusesRequest(cursor=start))
    await live.until("caught_up")
    for word, next_word in itertools.pairwise(("SENT", "RECEIVED", "READ", "PLAYED")):
        await post(http, callback("", word, ids=[mine, theirs], phone=other))
        await post(http, callback(mine, next_word, phone=phone))
    heard = [change.cursor for change in await live.changes(7)]
    await forget(api, message_id=mine)
    resumed = {cursor: await changes_behind(api, cursor) for cursor in [start, *heard]}
    after = fresh_id()
    await post(http, callback(after))
    last = (await live.changes(1))[0]
    live.cancel()

    left = {cursor: at for at, cursor in enumerate(heard) if cursor in resumed[start]}
    assert last.message.message_id == after
    assert len(resumed[start]) == 3
    assert sorted(left.values()) == list(left.values())
    for at, cursor in enumerate(heard):
        assert resumed[cursor] == [one for one, place in left.items() if place > at]


async def changes_behind(api: Api, cursor: str) -> list[str]:
    stream: Stream = api.watch(pb.WatchStatusesRequest(cursor=cursor))
    await stream.until("caught_up")
    stream.cancel()
    return [one.cursor for frame in stream.responses for one in frame.changes.changes]


async def test_while_callbacks_come(http: httpx.AsyncClient, api: Api) -> None:
    """What was answered before is gone, what comes after starts anew, and nobody else loses any."""
    phone, other = fresh_phone(), fresh_phone()
    shared, before = fresh_id(), [fresh_id() for _ in range(40)]
    await asyncio.gather(*(post(http, callback(one, phone=phone)) for one in before))
    first = await post(http, callback(shared, phone=phone))
    posting = True
    mine: list[str] = []
    theirs: list[str] = []
    cursors: list[str] = []

    async def post_on() -> None:
        while posting:
            of_other, of_phone = fresh_id(), fresh_id()
            theirs.append(of_other)
            mine.append(of_phone)
            cursors.append(await post(http, callback(of_other, phone=other)))
            await post(http, callback(of_phone, phone=phone))
            await post(http, callback("", "READ", ids=[of_other, shared], phone=""))

    writers = [asyncio.create_task(post_on()) for _ in range(6)]
    notes = [await told(api, phone=phone) for _ in range(3)]
    posting = False
    await asyncio.gather(*writers)
    end = await post(http, callback(shared, phone=phone))
    new = await api.get(shared, min_cursor=end)
    kept = await asyncio.gather(*(api.get(one) for one in theirs))

    assert all(note.startswith("erased ") for note in notes)
    assert await absent(api, *before)
    assert [one.report_count for one in kept] == [2] * len(theirs)
    assert {one.phone for one in kept} == {other}
    assert new.report_count <= len(theirs) + 1
    for cursor in (first, *cursors[:3], *cursors[-3:]):
        await changes_behind(api, cursor)
    assert await check(api) == 0
    last = await told(api, phone=phone)
    assert last.partition(" callbacks")[0] != "erased 0"
    assert await absent(api, shared, *before)
    found = await api.status.BatchGetMessageStatuses(
        pb.BatchGetMessageStatusesRequest(message_ids=mine[:500]), timeout=DEADLINE_S
    )
    assert list(found.not_found) == mine[:500]


async def test_two_at_once(http: httpx.AsyncClient, api: Api) -> None:
    """The second waits for the first; a caller that leaves holds up nobody."""
    phone, other = fresh_phone(), fresh_phone()
    ids = [fresh_id() for _ in range(20)]
    await asyncio.gather(*(post(http, callback(one, phone=phone)) for one in ids))
    end = await post(http, callback(fresh_id(), phone=other))
    await api.get(ids[0], min_cursor=end)
    leaving = api.admin.Forget(pb.ForgetRequest(phone=phone), timeout=DEADLINE_S)
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        await leaving.read()
        leaving.cancel()
    notes = await asyncio.gather(*(told(api, phone=one) for one in (phone, other, phone)))

    assert notes[1].startswith("erased 1 callbacks, 1 messages ")
    assert notes[2] == "erased 0 callbacks, 0 messages and 0 recipients of other messages"
    assert await absent(api, *ids)
    assert await check(api) == 0


async def test_webhooks_and_instances_stay(http: httpx.AsyncClient, api: Api) -> None:
    """What callbacks told of an instance itself stays, and is what a rebuild gives."""
    phone = fresh_phone()
    instance = "forgetful"
    await post(http, {"type": "ConnectedCallback", "momment": 1_700_000_000_000}, instance)
    body = {"type": "DisconnectedCallback", "momment": 1_700_000_100_000, "phone": phone}
    end = await post(http, body, instance)
    message_id = fresh_id()
    cursor = await post(http, callback(message_id), instance)
    await api.get(message_id, min_cursor=cursor or end)

    async def state() -> list[pb.InstanceStatus]:
        return [one for one in (await service_status(api)).instances if one.instance == instance]

    before = await state()
    note = await told(api, phone=phone)
    after = await state()
    await rebuild(api)

    assert note.startswith("erased 1 callbacks, 0 messages ")
    assert before[0].connection_state == pb.CONNECTION_STATE_DISCONNECTED
    assert before == after == await state()
