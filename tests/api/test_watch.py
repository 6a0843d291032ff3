"""WatchStatuses over a real socket: starts, filters, order of frames, resuming."""

import asyncio
import random
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, bad_request, callback, error_info, fresh_id, post, post_each

pytestmark = pytest.mark.both_stores

NOW = pb.WatchStatusesRequest(from_now=True)


async def test_change_arrives_on_an_open_stream(http: httpx.AsyncClient, api: Api) -> None:
    """What is posted after Opened is delivered, with the state right after it."""
    stream = api.watch(NOW)
    await stream.until("opened")
    message_id = fresh_id()
    posted = [await post(http, callback(message_id, word)) for word in ("SENT", "READ")]
    sent, read = await stream.changes(2)
    stream.cancel()

    assert len(set(posted)) == 2
    assert (sent.previous_status, sent.message.status) == (pb.STATUS_UNSPECIFIED, pb.STATUS_SENT)
    assert (read.previous_status, read.message.status) == (pb.STATUS_SENT, pb.STATUS_READ)
    assert sent.message.report_count == 1
    assert read.message == await api.get(message_id)
    assert read.cursor == read.message.cursor


async def test_frames_in_order(http: httpx.AsyncClient, api: Api) -> None:
    """Opened, then what was missed, then CaughtUp, then what comes."""
    start = await post(http, callback(fresh_id()))
    missed = [fresh_id() for _ in range(3)]
    await post_each(http, map(callback, missed))
    stream = api.watch(pb.WatchStatusesRequest(cursor=start))
    await stream.until("caught_up")
    kinds = stream.kinds()
    before = [c.message.message_id for r in stream.responses for c in r.changes.changes]
    late = fresh_id()
    await post(http, callback(late))
    after = await stream.changes(1)
    stream.cancel()

    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("opened", "caught_up", {"changes"})
    assert stream.responses[0].cursor == start
    assert before == missed
    assert after[0].message.message_id == late


async def test_unset_start_is_now(http: httpx.AsyncClient, api: Api) -> None:
    """Without a start the stream begins at the log's head."""
    await post(http, callback(fresh_id()))
    stream = api.watch(pb.WatchStatusesRequest())
    await stream.until("caught_up")
    stream.cancel()

    assert stream.kinds() == ["opened", "caught_up"]


async def test_every_cursor_resumes_exactly_behind_itself(
    http: httpx.AsyncClient, api: Api
) -> None:
    """Whatever cursor was received, resuming with it gives the rest and nothing else."""
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    start = await post(http, callback(fresh_id()))
    ids = [fresh_id() for _ in range(6)]
    words = ["SENT", "RECEIVED", "READ", "PLAYED"]
    bodies = [
        callback("", chance.choice(words), ids=chance.sample(ids, chance.randint(1, 4)))
        for _ in range(40)
    ]
    end = await post_each(http, bodies)
    await api.get(ids[0], min_cursor=end)
    everything = await _changes_from(api, pb.WatchStatusesRequest(cursor=start))
    cursors = [change.cursor for change in everything]
    resumed = {
        cursor: [c.cursor for c in await _changes_from(api, pb.WatchStatusesRequest(cursor=cursor))]
        for cursor in chance.sample(cursors, min(15, len(cursors)))
    }

    assert len(set(cursors)) == len(cursors)
    assert resumed == {cursor: cursors[cursors.index(cursor) + 1 :] for cursor in resumed}


async def test_every_frame_resumes_behind_its_last_change(
    http: httpx.AsyncClient, api: Api
) -> None:
    """A frame's cursor is its last change's, live and caught up, and goes on exactly there."""
    start = await post(http, callback(fresh_id()))
    live = api.watch(pb.WatchStatusesRequest(cursor=start))
    await live.until("caught_up")
    for _ in range(3):
        await post(http, callback("", ids=[fresh_id() for _ in range(700)]))
    heard = [change.cursor for change in await live.changes(2_100)]
    live.cancel()
    behind = api.watch(pb.WatchStatusesRequest(cursor=start))
    await behind.until("caught_up")
    behind.cancel()
    resumed = []
    for stream in (live, behind):
        frames = [one for one in stream.responses if one.WhichOneof("frame") == "changes"]
        wrong = [one for one in frames if one.cursor != one.changes.changes[-1].cursor]
        middle = frames[len(frames) // 2].cursor
        rest = await _changes_from(api, pb.WatchStatusesRequest(cursor=middle))
        resumed.append((len(frames) > 1, wrong, [change.cursor for change in rest], middle))

    assert [(True, [], heard[heard.index(middle) + 1 :]) for _, _, _, middle in resumed] == [
        (several, wrong, rest) for several, wrong, rest, _ in resumed
    ]


async def test_unchanged_reports_only_when_asked(http: httpx.AsyncClient, api: Api) -> None:
    """A repeated callback is no change; include_unchanged shows it, with the same state."""
    message_id = fresh_id()
    body = callback(message_id, "READ", momment=1632234645000)
    start = await post(http, callback(fresh_id()))
    end = await post_each(http, [body] * 3)
    await api.get(message_id, min_cursor=end)
    changes = await _changes_from(api, pb.WatchStatusesRequest(cursor=start))
    reports = await _changes_from(
        api, pb.WatchStatusesRequest(cursor=start, include_unchanged=True)
    )

    assert [change.message.report_count for change in changes] == [1]
    assert [change.message.report_count for change in reports] == [1, 2, 3]
    assert len({change.cursor for change in reports}) == 3
    assert {change.message.cursor for change in reports} == {changes[0].cursor}


async def test_recipient_of_a_group_message(http: httpx.AsyncClient, api: Api) -> None:
    """A participant's receipt is a change of its own, although the message stays READ."""
    message_id = fresh_id()
    start = await post(http, callback(fresh_id()))
    bodies = [
        callback(message_id, "READ", momment=1632234645, participant=participant)
        for participant in ("111@lid", "222")
    ]
    end = await post_each(http, bodies)
    message = await api.get(message_id, min_cursor=end)
    changes = await _changes_from(api, pb.WatchStatusesRequest(cursor=start))

    assert [change.recipient.participant for change in changes] == ["111", "222"]
    assert changes[1].previous_status == changes[1].message.status == pb.STATUS_READ
    assert message.recipient_count == 2


async def test_from_time(http: httpx.AsyncClient, api: Api) -> None:
    """from_time starts at the first callback received then or later."""
    ids = [fresh_id() for _ in range(4)]
    end = await post_each(http, map(callback, ids))
    second = await api.get(ids[1], min_cursor=end)
    changes = await _changes_from(api, pb.WatchStatusesRequest(from_time=second.receive_time))

    assert [change.message.message_id for change in changes] == ids[1:]


async def test_from_time_before_the_log(http: httpx.AsyncClient, api: Api) -> None:
    """A time before the oldest event starts with the oldest."""
    await post(http, callback(fresh_id()))
    changes = await _changes_from(api, pb.WatchStatusesRequest(from_time=Timestamp(seconds=1)))

    assert changes[0].message.report_count == 1
    assert changes[0].previous_status == pb.STATUS_UNSPECIFIED


async def test_from_time_in_the_future(http: httpx.AsyncClient, api: Api) -> None:
    """A time still to come starts now."""
    await post(http, callback(fresh_id()))
    stream = api.watch(pb.WatchStatusesRequest(from_time=Timestamp(seconds=4_000_000_000)))
    await stream.until("caught_up")
    kinds = stream.kinds()
    late = fresh_id()
    await post(http, callback(late))
    changes = await stream.changes(1)
    stream.cancel()

    assert kinds == ["opened", "caught_up"]
    assert changes[0].message.message_id == late


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pb.WatchFilter(instances=["red"]), ["1", "2", "3"]),
        (pb.WatchFilter(instances=["red", "blue"]), ["1", "2", "3", "4"]),
        (pb.WatchFilter(phones=["77"]), ["2", "4"]),
        (pb.WatchFilter(instances=["red"], phones=["77"]), ["2"]),
        (pb.WatchFilter(statuses=[pb.STATUS_READ]), ["3", "4"]),
        (pb.WatchFilter(statuses=[pb.STATUS_READ], instances=["red"]), ["3"]),
        (pb.WatchFilter(message_ids=["1", "4", "absent"]), ["1", "4"]),
        (pb.WatchFilter(instances=["green"]), []),
    ],
)
async def test_filters_live_and_caught_up(
    http: httpx.AsyncClient, api: Api, given: pb.WatchFilter, expected: list[str]
) -> None:
    """Fields of a filter are ANDed, values ORed, the same live and in catching up."""
    prefix = fresh_id()
    wanted = pb.WatchFilter()
    wanted.CopyFrom(given)
    for place, message_id in enumerate(wanted.message_ids):
        wanted.message_ids[place] = prefix + message_id
    start = await post(http, callback(fresh_id(), instance="elsewhere"), "elsewhere")
    live = api.watch(pb.WatchStatusesRequest(from_now=True, filter=wanted))
    await live.until("caught_up")
    await post(http, callback(prefix + "1", phone="55"), "red")
    await post(http, callback(prefix + "2", phone="77"), "red")
    await post(http, callback(prefix + "3", "READ", phone="55"), "red")
    end = await post(http, callback(prefix + "4", "READ", phone="77"), "blue")
    await api.get(prefix + "4", min_cursor=end)
    behind = await _changes_from(api, pb.WatchStatusesRequest(cursor=start, filter=wanted))
    heard = await live.changes(len(expected)) if expected else []
    live.cancel()

    assert [c.message.message_id.removeprefix(prefix) for c in behind] == expected
    assert [c.message.message_id.removeprefix(prefix) for c in heard] == expected


async def test_progress_comes_though_nothing_matches(http: httpx.AsyncClient, api: Api) -> None:
    """Progress is sent every interval, and its cursor skips what did not match."""
    stream = api.watch(
        pb.WatchStatusesRequest(
            from_now=True,
            filter=pb.WatchFilter(instances=["nobody"]),
            progress_interval=Duration(seconds=1),
        )
    )
    await stream.until("caught_up")
    message_id = fresh_id()
    end = await post(http, callback(message_id))
    await api.get(message_id, min_cursor=end)
    progress = await stream.until("progress")
    stream.cancel()
    after = await _changes_from(api, pb.WatchStatusesRequest(cursor=progress.cursor))

    assert message_id not in [change.message.message_id for change in after]


_EMPTY_TIME = pb.WatchStatusesRequest()
_EMPTY_TIME.from_time.SetInParent()


@pytest.mark.parametrize(
    ("request_message", "path"),
    [
        (pb.WatchStatusesRequest(cursor=""), "cursor"),
        (pb.WatchStatusesRequest(from_now=False), "from_now"),
        (pb.WatchStatusesRequest(snapshot=False), "snapshot"),
        (_EMPTY_TIME, "from_time"),
        (pb.WatchStatusesRequest(from_time=Timestamp(seconds=1, nanos=-1)), "from_time"),
        (
            pb.WatchStatusesRequest(progress_interval=Duration(nanos=999_999_999)),
            "progress_interval",
        ),
        (pb.WatchStatusesRequest(progress_interval=Duration(seconds=601)), "progress_interval"),
        (pb.WatchStatusesRequest(progress_interval=Duration()), "progress_interval"),
        (pb.WatchStatusesRequest(filter=pb.WatchFilter(instances=[""])), "filter.instances[0]"),
        (
            pb.WatchStatusesRequest(filter=pb.WatchFilter(message_ids=["x", ""])),
            "filter.message_ids[1]",
        ),
        (
            pb.WatchStatusesRequest(filter=pb.WatchFilter(message_ids=["x"] * 1001)),
            "filter.message_ids",
        ),
        (pb.WatchStatusesRequest(filter=pb.WatchFilter(phones=[""])), "filter.phones[0]"),
        (
            pb.WatchStatusesRequest(filter=pb.WatchFilter(statuses=[pb.STATUS_UNSPECIFIED])),
            "filter.statuses[0]",
        ),
        (
            pb.WatchStatusesRequest(filter=pb.WatchFilter(statuses=[45])),  # type: ignore[list-item]
            "filter.statuses[0]",
        ),
    ],
)
async def test_request_out_of_bounds(
    api: Api, request_message: pb.WatchStatusesRequest, path: str
) -> None:
    """What breaks a bound is refused by name, before Opened."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.watch(request_message).next()

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(caught.value).reason == "FIELD_INVALID"
    assert [violation.field for violation in bad_request(caught.value).field_violations] == [path]


async def test_many_watchers_get_the_same(http: httpx.AsyncClient, api: Api) -> None:
    """Watchers that share frames get every change once, in log order."""
    streams = [api.watch(NOW) for _ in range(20)]
    for stream in streams:
        await stream.until("caught_up")
    message_ids = [fresh_id() for _ in range(60)]
    await asyncio.gather(*(post(http, callback(message_id)) for message_id in message_ids))
    heard = await asyncio.gather(*(_heard(stream, len(message_ids)) for stream in streams))
    for stream in streams:
        stream.cancel()

    assert sorted(heard[0]) == sorted(message_ids)
    assert [order == heard[0] for order in heard] == [True] * len(streams)


async def _heard(stream: Any, count: int) -> list[str]:
    return [change.message.message_id for change in await stream.changes(count)]


async def _changes_from(api: Api, request: pb.WatchStatusesRequest) -> list[pb.StatusChange]:
    """Everything the stream sends up to CaughtUp."""
    stream = api.watch(request)
    await stream.until("caught_up")
    stream.cancel()
    return [change for response in stream.responses for change in response.changes.changes]
