"""The client and a real server that stops, dies, rebuilds, forgets and goes back in time."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from service.client import (
    CallFailed,
    CaughtUp,
    Changes,
    CursorFile,
    Interrupted,
    RetryPolicy,
    SnapshotBegin,
    StatusClient,
    Update,
    Watch,
)
from service.database.schema import Store, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import EventKind, NewEvent
from service.eventlog.sqlite import SqliteLogWriter
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import callback, fresh_id, post
from tests.server_process import ServerProcess

DEADLINE_S = 60.0
QUICK = RetryPolicy(initial_s=0.02, max_s=0.2)
DAY_US = 24 * 3_600 * 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for the tests that need no data folder of a special kind."""
    with ServerProcess(tmp_path_factory.mktemp("data")) as process:
        yield process


@asynccontextmanager
async def _client(server: ServerProcess) -> AsyncIterator[StatusClient]:
    async with asyncio.timeout(DEADLINE_S), StatusClient(server.grpc, retry=QUICK) as client:
        yield client


def _again(server: ServerProcess) -> None:
    """Start it where it was."""
    server.settings |= {
        "GRPC_BIND": server.grpc,
        "HTTP_BIND": server.http.removeprefix("http://"),
    }
    server.start()


class Poster:
    """Posts callbacks about new messages until told to stop, whatever the server does."""

    def __init__(self, server: ServerProcess) -> None:
        self._url = server.http
        self._done = False
        self.up = asyncio.Event()
        """Whether trying again is worth it after a failure."""
        self.up.set()
        self.recorded: list[str] = []
        """The ids whose callbacks were answered 200, in order."""

    async def run(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, trust_env=False, timeout=5) as http:
            while not self._done:
                one = fresh_id()
                try:
                    answer = await http.post("/instancia/acme/status", json=callback(one))
                except httpx.HTTPError:
                    await self.up.wait()
                    continue
                if answer.status_code == httpx.codes.OK:
                    self.recorded.append(one)

    def stop(self) -> None:
        self._done = True


async def _seen(watch: Watch, seen: list[str], poster: Poster, count: int) -> None:
    """Follow until so many more have been recorded, and the last of them was seen."""
    enough = len(poster.recorded) + count
    async for change in watch:
        seen.append(change.message.message_id)
        if len(poster.recorded) >= enough and seen[-1] == poster.recorded[-1]:
            return


async def test_nothing_is_missed_or_repeated(server: ServerProcess, tmp_path: Path) -> None:
    """Over a drain and a kill, with callbacks coming all the time, and over another process."""
    file = tmp_path / "place"
    seen: list[str] = []
    poster = Poster(server)
    async with _client(server) as client, asyncio.TaskGroup() as group:
        watch = client.watch(pb.WatchStatusesRequest(from_now=True), cursor_file=CursorFile(file))
        await anext(watch.updates())
        posting = group.create_task(poster.run())
        for end in (server.stop, server.kill):
            await _seen(watch, seen, poster, 20)
            poster.up.clear()
            await asyncio.to_thread(end)
            await asyncio.to_thread(_again, server)
            poster.up.set()
        await _seen(watch, seen, poster, 20)
        await watch.close()
        repeated = seen.pop()
        async with client.watch(
            pb.WatchStatusesRequest(snapshot=True), cursor_file=CursorFile(file)
        ) as watch:
            await _seen(watch, seen, poster, 20)
        poster.stop()
        await posting
    both = [one for one in seen if one in set(poster.recorded)]

    assert len(seen) == len(set(seen))
    assert both == poster.recorded[: len(both)]
    assert repeated in seen
    assert len(both) > 80


class Mirror:
    """A copy of every message, kept as the library's documentation says."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], pb.MessageStatus] = {}
        self.begun = 0
        self.reasons: list[str] = []

    def take(self, update: Update) -> None:
        match update:
            case SnapshotBegin():
                self.begun += 1
                self.held.clear()
            case Changes():
                for change in update.changes:
                    message = change.message
                    self.held[message.instance, message.message_id] = message
            case Interrupted():
                self.reasons.append(update.reason)
            case _:
                pass

    async def follow(self, watch: Watch, begun: int) -> None:
        """Until it has begun so often and caught up."""
        async for update in watch.updates():
            self.take(update)
            if self.begun == begun and isinstance(update, CaughtUp):
                return


async def _listed(client: StatusClient) -> dict[tuple[str, str], pb.MessageStatus]:
    messages = client.list_messages(pb.ListMessageStatusesRequest())
    return {(one.instance, one.message_id): one async for one in messages}


async def test_a_mirror_begins_again_when_it_has_to(tmp_path: Path) -> None:
    """After a kill in a snapshot, a rebuild and a restored backup it is what the server lists."""
    mirror = Mirror()
    data, backup = tmp_path / "data", tmp_path / "backup"
    with ServerProcess(data) as server:
        async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
            cursor = await post(http, callback("", ids=[fresh_id() for _ in range(700)]))
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(shutil.copytree, data, backup)
            await asyncio.to_thread(_again, server)
            cursor = await post(http, callback("later", "READ"))
        async with (
            _client(server) as client,
            client.watch(pb.WatchStatusesRequest(snapshot=True), resync=True) as watch,
        ):
            await client.get("later", min_cursor=cursor)
            while not mirror.held:
                mirror.take(await anext(watch.updates()))
            begun_with = len(mirror.held)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(_again, server)
            await mirror.follow(watch, 1)
            first = dict(mirror.held), await _listed(client)
            async for _ in client.rebuild_views():
                pass
            await mirror.follow(watch, 2)
            second = dict(mirror.held), await _listed(client)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(shutil.rmtree, data)
            await asyncio.to_thread(shutil.copytree, backup, data)
            await asyncio.to_thread(_again, server)
            await mirror.follow(watch, 3)
            third = dict(mirror.held), await _listed(client)

    assert 0 < begun_with < 700
    assert [len(held) for held, _ in (first, second, third)] == [701, 701, 700]
    assert all(held == listed for held, listed in (first, second, third))
    assert [one for one in mirror.reasons if one != "UNAVAILABLE"] == [
        *("VIEWS_REBUILT", "SHUTTING_DOWN", "CURSOR_AHEAD")
    ]


def _record(data_dir: Path, *days_ago: float) -> None:
    """A callback about a message of its own, received then."""
    now_us = time.time_ns() // 1_000
    upgrade(Store.EVENT_LOG, SqliteDatabase(data_dir / "events.db"))
    with closing(SqliteLogWriter(SqliteDatabase(data_dir / "events.db"))) as writer:
        writer.append(
            [
                NewEvent(
                    "acme",
                    int(now_us - days * DAY_US),
                    EventKind.CALLBACK,
                    json.dumps(callback(f"M{days:g}")).encode(),
                )
                for days in days_ago
            ]
        )


async def test_a_place_that_retention_has_removed(tmp_path: Path) -> None:
    """The caller hears CURSOR_EXPIRED, or, as a mirror, is sent what is there now."""
    mirror = Mirror()
    _record(tmp_path, 9, 8, 0.1)
    oldest = pb.WatchStatusesRequest(from_time=Timestamp(seconds=1))
    with ServerProcess(tmp_path) as server:
        async with _client(server) as client:
            first = await anext(client.watch(oldest))
        server.stop()
        server.settings["RETENTION_DAYS"] = "1"
        _again(server)
        start = pb.WatchStatusesRequest(cursor=first.cursor)
        async with _client(server) as client:
            while not (await client.service_status()).removals.expired_event_count:
                pass
            with pytest.raises(CallFailed) as caught:
                await anext(client.watch(start))
            async with client.watch(start, resync=True) as watch:
                await mirror.follow(watch, 1)

    assert first.message.message_id == "M9"
    assert caught.value.reason == "CURSOR_EXPIRED"
    assert mirror.reasons == ["CURSOR_EXPIRED"]
    assert ("acme", "M0.1") in mirror.held


async def test_waiting(server: ServerProcess) -> None:
    """For what is, what comes, what fails and what does not come; over a drain too."""
    async with (
        _client(server) as client,
        httpx.AsyncClient(base_url=server.http, trust_env=False) as http,
    ):
        await post(http, callback("sent"))
        await post(http, callback("failed", "FAILED"))
        sent = await client.wait("sent", pb.STATUS_SENT)
        failed = await client.wait("failed", pb.STATUS_READ, instance="acme", patient=False)
        with pytest.raises(CallFailed) as ignoring:
            await client.wait("failed", pb.STATUS_SENT, ignore_failure=True, timeout_s=0.3)
        coming = asyncio.ensure_future(client.wait("later", pb.STATUS_READ))
        while not (await client.service_status()).wait_count:
            pass
        await asyncio.to_thread(server.stop)
        gone = asyncio.ensure_future(client.wait("x", pb.STATUS_READ, patient=False))
        with pytest.raises(CallFailed) as away:
            await gone
        await asyncio.to_thread(_again, server)
        await post(http, callback("later", "PLAYED"))
        later = await coming

    assert (sent.status, failed.status) == (pb.STATUS_SENT, pb.STATUS_FAILED)
    assert (ignoring.value.reason, ignoring.value.code.name) == (
        "WAIT_TIMED_OUT",
        "DEADLINE_EXCEEDED",
    )
    assert (away.value.reason, away.value.code.name) == ("", "UNAVAILABLE")
    assert later.status == pb.STATUS_PLAYED
