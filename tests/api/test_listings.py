"""The lists of both services over a real socket: order, pages, tokens, bodies."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, bad_request, callback, error_info, fresh_id, post, post_each

Rpc = Callable[[Any], Awaitable[Any]]


async def pages(rpc: Rpc, request: Any, field: str) -> list[list[Any]]:
    """Every page of a listing, until one comes without a token."""
    found = []
    while True:
        response = await rpc(request)
        found.append(list(getattr(response, field)))
        if not response.next_page_token:
            return found
        request.page_token = response.next_page_token


async def everything(rpc: Rpc, request: Any, field: str) -> list[Any]:
    return [entry for page in await pages(rpc, request, field) for entry in page]


async def refused(rpc: Rpc, request: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rpc(request)
    return caught.value


async def test_reports_explain_a_status(http: httpx.AsyncClient, api: Api) -> None:
    """Every report is listed in arrival order, repeated ones too, with the bytes it came in."""
    message_id = fresh_id()
    bodies = [
        b'{"type":"MessageStatusCallback","status":"read","ids":["%b"],"momment":"1632234645",'
        b'"instanceId":"3F00","x":"\\ud800 \\u0000"}' % message_id.encode(),
        json.dumps(callback(message_id, "SENT", momment=-5)).encode(),
        json.dumps(callback(message_id, "SENT", momment=-5)).encode(),
        json.dumps({"type": "DeliveryCallback", "messageId": message_id, "error": "no"}).encode(),
    ]
    cursors = [await post(http, body) for body in bodies]
    await api.get(message_id, min_cursor=cursors[-1])
    request = pb.ListStatusReportsRequest(message_id=message_id, page_size=3)
    listed = await pages(api.status.ListStatusReports, request, "reports")
    reports = [report for page in listed for report in page]

    assert [len(page) for page in listed] == [3, 1]
    assert [report.raw for report in reports] == bodies
    assert [report.provider_status for report in reports] == ["read", "SENT", "SENT", ""]
    assert [report.advanced for report in reports] == [True, False, False, False]
    assert [report.occur_time_estimated for report in reports] == [False, True, True, True]
    assert reports[0].provider_instance == "3F00"
    assert len({report.cursor for report in reports}) == 4


async def test_reports_of_large_bodies_stay_below_the_limit(
    http: httpx.AsyncClient, api: Api
) -> None:
    """Bodies of nearly 1 MiB each make short pages, none above 2 MiB, and none is missing."""
    message_id = fresh_id()
    body = json.dumps(callback(message_id, padding="x" * 1_000_000)).encode()
    cursors = [await post(http, body) for _ in range(5)]
    await api.get(message_id, min_cursor=cursors[-1])
    request = pb.ListStatusReportsRequest(message_id=message_id)
    listed = await pages(api.status.ListStatusReports, request, "reports")
    sizes = [sum(report.ByteSize() for report in page) for page in listed]

    assert sum(len(page) for page in listed) == 5
    assert max(sizes) < 2 * 1024 * 1024


async def test_recipients_by_code_point(http: httpx.AsyncClient, api: Api) -> None:
    """Recipients come in order of code points, each with its own highest status."""
    message_id = fresh_id()
    names = ["b", "a", "é", "😀", "Z", "10", "9"]
    bodies = [
        callback(message_id, word, participant=name)
        for word in ("READ", "RECEIVED")
        for name in names
    ]
    cursor = await post_each(http, bodies)
    await api.get(message_id, min_cursor=cursor)
    request = pb.ListRecipientsRequest(message_id=message_id, page_size=2)
    recipients = await everything(api.status.ListRecipients, request, "recipients")

    assert [recipient.participant for recipient in recipients] == sorted(names)
    assert {recipient.status for recipient in recipients} == {pb.STATUS_READ}


async def test_messages_last_changed_first(http: httpx.AsyncClient, api: Api) -> None:
    """Each message once, last changed first; watching from the first page's cursor goes on."""
    instance = fresh_id()
    ids = [fresh_id() for _ in range(25)]
    await post_each(http, map(callback, ids), instance)
    await post_each(http, [callback(ids[3], "READ"), callback(ids[7], "SENT")], instance)
    late = await post(http, callback(ids[5], "READ"), instance)
    await api.get(ids[5], instance=instance, min_cursor=late)
    request = pb.ListMessageStatusesRequest(instance=instance, page_size=10)
    listed = await pages(api.status.ListMessageStatuses, request, "messages")
    first = await api.status.ListMessageStatuses(pb.ListMessageStatusesRequest(instance=instance))
    stream = api.watch(pb.WatchStatusesRequest(cursor=first.cursor))
    await stream.until("caught_up")
    stream.cancel()
    order = [message.message_id for page in listed for message in page]
    # A repeated SENT changes nothing but, with an estimated time, nothing at all.
    others = [message_id for message_id in reversed(ids) if message_id not in (ids[3], ids[5])]

    assert order == [ids[5], ids[3], *others]
    assert [len(page) for page in listed] == [10, 10, 5]
    assert stream.kinds() == ["opened", "caught_up"]


async def test_a_message_that_changes_between_pages(http: httpx.AsyncClient, api: Api) -> None:
    """It is on no later page, nothing is listed twice, and the first page's cursor leads to it."""
    instance = fresh_id()
    ids = [fresh_id() for _ in range(6)]
    end = await post_each(http, map(callback, ids), instance)
    await api.get(ids[5], min_cursor=end)
    request = pb.ListMessageStatusesRequest(instance=instance, page_size=2)
    first = await api.status.ListMessageStatuses(request)
    changed = [callback(ids[5], "READ"), callback(ids[2], "READ")]
    await api.get(ids[2], min_cursor=await post_each(http, changed, instance))
    request.page_token = first.next_page_token
    later = await everything(api.status.ListMessageStatuses, request, "messages")
    stream = api.watch(
        pb.WatchStatusesRequest(cursor=first.cursor, filter=pb.WatchFilter(instances=[instance]))
    )
    changes = await stream.changes(2)
    stream.cancel()

    assert [message.message_id for message in first.messages] == [ids[5], ids[4]]
    assert [message.message_id for message in later] == [ids[3], ids[1], ids[0]]
    assert [change.message.message_id for change in changes] == [ids[5], ids[2]]


@pytest.mark.parametrize("seen", ["instance", "phone", "statuses", "all three", "time"])
async def test_message_filters(http: httpx.AsyncClient, api: Api, seen: str) -> None:
    """Each filter, and all together, lists exactly the messages that match."""
    instance, phone = fresh_id(), fresh_id()
    ids = [fresh_id() for _ in range(6)]
    bodies = [
        callback(ids[0], "READ", phone=phone),
        callback(ids[1], "SENT", phone=phone),
        callback(ids[2], "READ", phone="1"),
        callback(ids[3], "PLAYED", phone="1"),
    ]
    await post_each(http, bodies, instance)
    await post(http, callback(ids[4], "READ", phone=phone), fresh_id())
    end = await post(http, callback(ids[5], "READ", phone="1"), fresh_id())
    last = await api.get(ids[5], min_cursor=end)
    statuses = [pb.STATUS_READ, pb.STATUS_PLAYED]
    request, expected = {
        "instance": (pb.ListMessageStatusesRequest(instance=instance), [3, 2, 1, 0]),
        "phone": (pb.ListMessageStatusesRequest(phone=phone), [4, 1, 0]),
        "statuses": (
            pb.ListMessageStatusesRequest(statuses=statuses, instance=instance),
            [3, 2, 0],
        ),
        "all three": (
            pb.ListMessageStatusesRequest(instance=instance, phone=phone, statuses=statuses),
            [0],
        ),
        "time": (pb.ListMessageStatusesRequest(updated_after=last.update_time), [5]),
    }[seen]
    request.page_size = 2
    messages = await everything(api.status.ListMessageStatuses, request, "messages")

    assert [message.message_id for message in messages] == [ids[place] for place in expected]


async def test_page_bounds(api: Api) -> None:
    """A negative page_size and a bad filter are refused by name; a large page_size is lowered."""
    bad = await refused(
        api.status.ListMessageStatuses,
        pb.ListMessageStatusesRequest(
            page_size=-1, instance="a/b", statuses=[pb.STATUS_UNSPECIFIED]
        ),
    )
    lowered = await api.status.ListMessageStatuses(
        pb.ListMessageStatusesRequest(page_size=1_000_000, instance="nobody")
    )

    assert {violation.field for violation in bad_request(bad).field_violations} == {
        "page_size",
        "instance",
        "statuses[0]",
    }
    assert list(lowered.messages) == []
    assert lowered.next_page_token == ""


async def test_foreign_page_tokens(http: httpx.AsyncClient, api: Api) -> None:
    """A token of other arguments or another rpc, and a broken one, is PAGE_TOKEN_INVALID."""
    instance = fresh_id()
    ids = [fresh_id() for _ in range(3)]
    end = await post_each(http, map(callback, ids), instance)
    await api.get(ids[2], min_cursor=end)
    first = await api.status.ListMessageStatuses(
        pb.ListMessageStatusesRequest(instance=instance, page_size=1)
    )
    token = first.next_page_token
    other_size = await api.status.ListMessageStatuses(
        pb.ListMessageStatusesRequest(instance=instance, page_size=2, page_token=token)
    )
    errors = [
        await refused(rpc, request)
        for rpc, request in (
            (api.status.ListMessageStatuses, pb.ListMessageStatusesRequest(page_token=token)),
            (
                api.status.ListMessageStatuses,
                pb.ListMessageStatusesRequest(instance=instance, phone="1", page_token=token),
            ),
            (
                api.status.ListMessageStatuses,
                pb.ListMessageStatusesRequest(instance=instance, page_token=token[:-2]),
            ),
            (
                api.admin.ListQuarantinedCallbacks,
                pb.ListQuarantinedCallbacksRequest(instance=instance, page_token=token),
            ),
            (api.admin.ListWebhookUpdates, pb.ListWebhookUpdatesRequest(page_token="ü")),
        )
    ]

    assert [message.message_id for message in other_size.messages] == [ids[1], ids[0]]
    assert [error_info(error).reason for error in errors] == ["PAGE_TOKEN_INVALID"] * 5
    assert {error.code() for error in errors} == {grpc.StatusCode.INVALID_ARGUMENT}


async def test_quarantine_keeps_what_was_not_understood(http: httpx.AsyncClient, api: Api) -> None:
    """Every callback that could not be understood is listed with its reason and its bytes."""
    instance = fresh_id()
    bodies = {
        "TYPE_MISSING": b'{"status":"READ"}',
        "TYPE_UNKNOWN": b'{"type":"NewCallback"}',
        "STATUS_MISSING": b'{"type":"MessageStatusCallback","ids":["x"]}',
        "IDS_MISSING": b'{"type":"MessageStatusCallback","status":"READ","ids":[]}',
        "TOO_MANY_IDS": json.dumps(
            callback("", ids=[str(number) for number in range(10_001)])
        ).encode(),
    }
    cursors = [await post(http, body, instance) for body in bodies.values()]
    fine = fresh_id()
    end = await post(http, callback(fine), instance)
    await api.get(fine, min_cursor=end)
    request = pb.ListQuarantinedCallbacksRequest(instance=instance, page_size=2)
    callbacks = await everything(api.admin.ListQuarantinedCallbacks, request, "callbacks")
    told = [
        pb.QuarantineReason.Name(one.reason).removeprefix("QUARANTINE_REASON_") for one in callbacks
    ]

    assert told == list(reversed(bodies))
    assert [one.raw for one in callbacks] == list(reversed(bodies.values()))
    assert [one.cursor for one in callbacks] == list(reversed(cursors))


async def test_lists_of_an_unknown_message(api: Api) -> None:
    """Recipients and reports of a message nobody named are NOT_FOUND."""
    errors = [
        await refused(rpc, request)
        for rpc, request in (
            (api.status.ListRecipients, pb.ListRecipientsRequest(message_id="absent")),
            (api.status.ListStatusReports, pb.ListStatusReportsRequest(message_id="absent")),
        )
    ]

    assert [error_info(error).reason for error in errors] == ["MESSAGE_NOT_FOUND"] * 2


async def test_service_status(http: httpx.AsyncClient, api: Api) -> None:
    """It tells where log, views, watchers and instances stand."""
    instance, message_id = fresh_id(), fresh_id()
    stream = api.watch(
        pb.WatchStatusesRequest(
            from_now=True, filter=pb.WatchFilter(instances=[instance], phones=["1", "2"])
        )
    )
    await stream.until("caught_up")
    await post(http, {"type": "ConnectedCallback", "momment": 1632234645000}, instance)
    await post(
        http, {"type": "DisconnectedCallback", "momment": 1632234646, "error": "x"}, instance
    )
    end = await post(http, callback(message_id), instance)
    message = await api.get(message_id, min_cursor=end)
    status = await api.admin.GetServiceStatus(pb.GetServiceStatusRequest())
    stream.cancel()
    (known,) = [one for one in status.instances if one.instance == instance]
    (watcher,) = [one for one in status.watchers if one.filter]

    assert status.log_head_position == status.projector_position > 0
    assert (status.lag_events, status.lag_duration.ToMicroseconds()) == (0, 0)
    assert list(status.roles) == ["api", "ingress", "projector"]
    assert [(store.name, store.engine) for store in status.stores] == [
        ("events", "sqlite"),
        ("views", "sqlite"),
    ]
    assert known.last_callback_time == message.receive_time
    assert known.connection_state == pb.CONNECTION_STATE_DISCONNECTED
    assert known.connection_time == Timestamp(seconds=1632234646)
    assert (watcher.filter, watcher.caller) == ("1 instances, 2 phones", "local")
    assert watcher.phase == pb.WATCHER_PHASE_LIVE
    assert watcher.peer.startswith("ipv4:127.0.0.1:")
