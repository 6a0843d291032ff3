"""Where a stream could skip or repeat: inside a large callback, and at a switch of the views."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, Stream, callback, fresh_id, post
from tests.server_process import ServerProcess

IDS_MAX = 10_000


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    with ServerProcess(tmp_path / "data") as server:
        yield server


async def test_caught_up_comes_behind_a_whole_callback(own: ServerProcess) -> None:
    """However large the callback at the head is, CaughtUp comes only after its last change."""
    api = Api(own.grpc)
    live = api.watch(pb.WatchStatusesRequest(from_now=True))
    await live.until("caught_up")
    streams: list[Stream] = []
    async with httpx.AsyncClient(base_url=own.http, trust_env=False, timeout=60) as http:
        for _ in range(3):
            ids = [fresh_id() for _ in range(IDS_MAX)]
            await post(http, callback("", ids=ids))
            streams += [
                api.watch(pb.WatchStatusesRequest(from_time=Timestamp(seconds=1))) for _ in range(4)
            ]
    counts = []
    for stream in streams:
        await stream.until("caught_up")
        counts.append(sum(len(response.changes.changes) for response in stream.responses))
        stream.cancel()
    everything = await live.changes(3 * IDS_MAX)
    live.cancel()
    await api.channel.close()

    assert len({change.cursor for change in everything}) == 3 * IDS_MAX
    assert counts[-1] == 3 * IDS_MAX
    # Each was opened once so many callbacks had been answered.
    assert [count for place, count in enumerate(counts) if count < (place // 4 + 1) * IDS_MAX] == []


async def test_progress_names_the_end_of_a_callback(own: ServerProcess) -> None:
    """A progress cursor is that of a callback's end: the very one its POST was answered with."""
    api = Api(own.grpc)
    async with httpx.AsyncClient(base_url=own.http, trust_env=False, timeout=60) as http:
        ends = {await post(http, callback(fresh_id())) for _ in range(50)}
        stream = api.watch(
            pb.WatchStatusesRequest(
                from_time=Timestamp(seconds=1), progress_interval=Duration(seconds=1)
            )
        )
        await stream.until("opened")
        first = await stream.until("progress")
        ends.add(await post(http, callback(fresh_id())))
        second = await stream.until("progress")
    stream.cancel()
    await api.channel.close()

    assert {first.cursor, second.cursor} <= ends


async def test_switched_views_end_every_stream(own: ServerProcess) -> None:
    """When other views are put in place each stream gets VIEWS_REBUILT, and its cursor goes on."""
    api = Api(own.grpc)
    idle = api.watch(pb.WatchStatusesRequest(from_now=True))
    opened = (await idle.until("opened")).opened.views_generation
    await idle.until("caught_up")
    message_id = fresh_id()
    async with httpx.AsyncClient(base_url=own.http, trust_env=False, timeout=60) as http:
        posted = await post(http, callback(message_id))
        await idle.changes(1)
        rebuilt = [each async for each in api.admin.RebuildViews(pb.RebuildViewsRequest())]
        closing_frame = await idle.until("closing")
        code = await idle.call.code()
        again = api.watch(pb.WatchStatusesRequest(cursor=closing_frame.cursor))
        generation = (await again.until("opened")).opened.views_generation
        await again.until("caught_up")
        late = fresh_id()
        await post(http, callback(late))
        changes = await again.changes(1)
    again.cancel()
    await api.channel.close()

    assert closing_frame.closing.reason == pb.CLOSING_REASON_VIEWS_REBUILT
    assert code.name == "OK"
    assert generation > opened
    assert rebuilt[-1].progress.done == 1
    assert posted
    assert changes[0].message.message_id == late


async def test_closing_stands_where_the_old_views_were(own: ServerProcess) -> None:
    """Views that are further on than what was sent do not move a watcher's cursor past it."""
    api = Api(own.grpc)
    idle = api.watch(pb.WatchStatusesRequest(from_now=True))
    await idle.until("caught_up")
    async with httpx.AsyncClient(base_url=own.http, trust_env=False, timeout=60) as http:
        sent = await post(http, callback(fresh_id()))
        await idle.changes(1)
        with closing(sqlite3.connect(own.data_dir / "views.db", isolation_level=None)) as views:
            views.execute("BEGIN IMMEDIATE")
            # Recorded, and never folded into the views that are live; so many reports that they are
            # not handed out from the memory of the process that folds them.
            unsent = await post(http, {**callback(""), "ids": [fresh_id() for _ in range(501)]})
            views.execute(
                "UPDATE generations SET (generation, position, receive_time_us) = "
                "(SELECT generation + 1, position + 1, receive_time_us FROM generations "
                "WHERE slot = 'a') WHERE slot = 'b'"
            )
            views.execute("UPDATE views SET live_slot = 'b'")
            views.execute("COMMIT")
        closing_frame = await idle.until("closing")
    again = api.watch(pb.WatchStatusesRequest(cursor=closing_frame.cursor))
    resumed_at = (await again.next()).cursor
    again.cancel()
    await api.channel.close()

    assert unsent not in (closing_frame.cursor, resumed_at)
    assert closing_frame.cursor in (sent, idle.responses[-2].cursor)
