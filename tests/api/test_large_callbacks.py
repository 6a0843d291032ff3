"""Callbacks that name 10,000 messages, over real sockets: all of them heard, nobody held up."""

import asyncio
import json
from typing import Any

import httpx

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, fresh_id, post, post_each

IDS_MAX = 10_000


def many(count: int, **fields: Any) -> dict[str, Any]:
    """A callback about so many new messages."""
    name = fresh_id()
    return callback("", ids=[f"{name}-{number}" for number in range(count)], **fields)


async def listed(
    api: Api, request: pb.ListMessageStatusesRequest
) -> list[pb.ListMessageStatusesResponse]:
    """Every page of a listing."""
    pages: list[pb.ListMessageStatusesResponse] = []
    while not pages or pages[-1].next_page_token:
        request.page_token = pages[-1].next_page_token if pages else ""
        pages.append(await api.status.ListMessageStatuses(request, timeout=20))
    return pages


async def test_every_id_of_a_large_callback_is_heard(http: httpx.AsyncClient, api: Api) -> None:
    """10,000 ids are 10,000 messages, newest first, and the callbacks around them are whole.

    Pages hold 100 of them unless asked for another number, and 1,000 at most.
    """
    instance, before, after = fresh_id(), fresh_id(), fresh_id()
    large = many(IDS_MAX)
    end = await post_each(http, [callback(before), large, callback(after)], instance)
    await api.get(after, min_cursor=end)
    request = pb.ListMessageStatusesRequest(instance=instance, page_size=1_000)
    pages = await listed(api, request)
    (report,) = (
        await api.status.ListStatusReports(
            pb.ListStatusReportsRequest(message_id=large["ids"][7_000], instance=instance)
        )
    ).reports

    sizes = [
        len((await api.status.ListMessageStatuses(other)).messages)
        for other in (
            pb.ListMessageStatusesRequest(instance=instance),
            pb.ListMessageStatusesRequest(instance=instance, page_size=7),
            pb.ListMessageStatusesRequest(instance=instance, page_size=1_000_000),
        )
    ]

    assert sizes == [100, 7, 1_000]
    assert [message.message_id for page in pages for message in page.messages] == [
        after,
        *reversed(large["ids"]),
        before,
    ]
    assert report.raw == json.dumps(large).encode()


async def test_one_id_more_is_kept_apart(http: httpx.AsyncClient, api: Api) -> None:
    """10,001 ids make no message and one entry in quarantine; what is around it is heard."""
    instance, before, after = fresh_id(), fresh_id(), fresh_id()
    large = many(IDS_MAX + 1)
    end = await post_each(http, [callback(before), large, callback(after)], instance)
    await api.get(after, min_cursor=end)
    (page,) = await listed(api, pb.ListMessageStatusesRequest(instance=instance))
    (kept,) = (
        await api.admin.ListQuarantinedCallbacks(
            pb.ListQuarantinedCallbacksRequest(instance=instance)
        )
    ).callbacks

    assert [message.message_id for message in page.messages] == [after, before]
    assert kept.reason == pb.QUARANTINE_REASON_TOO_MANY_IDS
    assert kept.raw == json.dumps(large).encode()


async def test_others_are_answered_while_large_callbacks_are_folded(
    http: httpx.AsyncClient, api: Api
) -> None:
    """Callbacks are recorded and messages are read while several of them wait to be folded."""
    instance, early, late = fresh_id(), fresh_id(), fresh_id()
    await api.get(early, min_cursor=await post(http, callback(early), instance))
    large = [many(IDS_MAX) for _ in range(5)]
    await asyncio.gather(*(post(http, body, instance) for body in large))
    end = await post(http, callback(late), instance)
    known = await api.get(early)
    meanwhile = await api.admin.GetServiceStatus(pb.GetServiceStatusRequest())
    await api.get(late, min_cursor=end)
    ended = await api.admin.GetServiceStatus(pb.GetServiceStatusRequest())

    assert known.status == pb.STATUS_SENT
    assert meanwhile.lag_events > 0
    assert ended.lag_events == 0


async def test_a_page_that_finds_nothing_among_ten_thousand(
    http: httpx.AsyncClient, api: Api
) -> None:
    """A filter without an index of its own looks at 10,000 messages, and the next page goes on."""
    instance, wanted = fresh_id(), fresh_id()
    bodies = [callback(wanted, "READ"), many(IDS_MAX), callback(fresh_id(), "PLAYED")]
    last = bodies[-1]["ids"][0]
    await api.get(last, min_cursor=await post_each(http, bodies, instance))
    statuses = [pb.STATUS_READ]
    pages = await listed(
        api, pb.ListMessageStatusesRequest(instance=instance, statuses=statuses, page_size=1)
    )
    found = [[message.message_id for message in page.messages] for page in pages]

    assert found[0] == []
    assert [message_id for page in found for message_id in page] == [wanted]
