"""Retention as an operator sets it: what is old goes, and what callers get then."""

import json
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from service.database.schema import Store, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import EventKind, NewEvent
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, error_info, fresh_id, post
from tests.command import plugstatus
from tests.server_process import ServerProcess

DAY_US = 24 * 3_600 * 1_000_000
RETAIN_A_DAY = {"RETENTION_DAYS": "1"}
DEADLINE_S = 60.0


def _days_ago(days: float) -> int:
    return int(time.time() * 1_000_000 - days * DAY_US)


def _record(data_dir: Path, *said: tuple[float, dict[str, Any]]) -> None:
    """Callbacks received so many days ago."""
    upgrade(Store.EVENT_LOG, SqliteDatabase(data_dir / "events.db"))
    with closing(SqliteLogWriter(SqliteDatabase(data_dir / "events.db"))) as writer:
        writer.append(
            [
                NewEvent("acme", _days_ago(days), EventKind.CALLBACK, json.dumps(body).encode())
                for days, body in said
            ]
        )


OLD_AND_NEW = (
    (9.0, callback("ended", "SENT")),
    (8.0, callback("ended", "READ")),
    (7.0, callback("group", "READ", phone="1-group", participant="77001")),
    (6.0, callback("going-on", "FAILED", type="MessageStatusCallback", error="late reason")),
    (5.0, {"type": "Unknown"}),
    (0.5, callback("going-on", "SENT")),
    (0.4, callback("group", "RECEIVED", phone="1-group", participant="77002")),
    (0.3, callback("new", "SENT")),
)
KEPT_FROM = 6


def _remove_views(data_dir: Path) -> None:
    for file in data_dir.glob("views.db*"):
        file.unlink()


async def _expired(api: Api, count: int) -> pb.GetServiceStatusResponse:
    """Wait until so many events were removed, from the log and then from the views."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        status: pb.GetServiceStatusResponse = await api.admin.GetServiceStatus(
            pb.GetServiceStatusRequest()
        )
        if status.removals.expired_event_count >= count:
            # Long tasks take turns: this one begins once that removal is over.
            async for _ in api.admin.RebuildViews(pb.RebuildViewsRequest(check=True)):
                pass
            return status
        assert time.monotonic() < deadline, status


async def _reason(stream: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.call.read()
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    return str(error_info(caught.value).reason)


async def _cursor_of_the_first(tmp_path: Path) -> str:
    """A change of the first callback, as a watcher of a server without retention got it."""
    with ServerProcess(tmp_path) as server:
        api = Api(server.grpc)
        stream = api.watch(pb.WatchStatusesRequest(from_time=Timestamp(seconds=1)))
        changes = await stream.changes(7)
        stream.cancel()
        await api.channel.close()
        server.stop()
    return str(changes[0].cursor)


async def test_what_is_too_old_goes(tmp_path: Path) -> None:
    """Reports and ended messages go, messages that go on keep what they were, and it is counted."""
    _record(tmp_path, *OLD_AND_NEW)
    with ServerProcess(tmp_path, RETAIN_A_DAY) as server:
        api = Api(server.grpc)
        status = await _expired(api, KEPT_FROM - 1)
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await api.get("ended")
        going_on = await api.get("going-on")
        group = await api.get("group")
        recipients = await api.status.ListRecipients(pb.ListRecipientsRequest(message_id="group"))
        reports = await api.status.ListStatusReports(
            pb.ListStatusReportsRequest(message_id="going-on")
        )
        quarantine = await api.admin.ListQuarantinedCallbacks(pb.ListQuarantinedCallbacksRequest())
        checked = plugstatus("rebuild", "--check", API_TARGET=server.grpc)
        rebuilt = plugstatus("rebuild", API_TARGET=server.grpc)
        after = await api.get("going-on")
        history = plugstatus("history", "going-on", API_TARGET=server.grpc)
        await api.channel.close()

    assert error_info(gone.value).reason == "MESSAGE_NOT_FOUND"
    assert (going_on.status, going_on.report_count) == (pb.STATUS_FAILED, 2)
    assert going_on.failure.reason == "late reason"
    assert (group.status, group.recipient_count) == (pb.STATUS_READ, 2)
    assert [one.participant for one in recipients.recipients] == ["77001", "77002"]
    assert [report.status for report in reports.reports] == [pb.STATUS_SENT]
    assert len(quarantine.callbacks) == 0
    assert status.removals.expired_event_count == KEPT_FROM - 1
    assert abs(status.removals.oldest_event_time.seconds - _days_ago(0.5) // 10**6) < DEADLINE_S
    assert (checked.returncode, rebuilt.returncode) == (0, 0), checked.stdout
    assert going_on == after
    assert "of 2 ever" in history.stdout


async def test_cursors_and_times_before_what_is_kept(tmp_path: Path) -> None:
    """An older cursor is expired; a time is, if what it would begin with was removed."""
    _record(tmp_path, *OLD_AND_NEW)
    old = await _cursor_of_the_first(tmp_path)
    with ServerProcess(tmp_path, RETAIN_A_DAY) as server:
        api = Api(server.grpc)
        status = await _expired(api, KEPT_FROM - 1)
        by_cursor = await _reason(api.watch(pb.WatchStatusesRequest(cursor=old)))
        by_time = await _reason(api.watch(pb.WatchStatusesRequest(from_time=Timestamp(seconds=1))))
        oldest = api.watch(pb.WatchStatusesRequest(from_time=status.removals.oldest_event_time))
        changes = await oldest.changes(3)
        resumed = api.watch(pb.WatchStatusesRequest(cursor=changes[0].cursor))
        rest = await resumed.changes(2)
        oldest.cancel()
        resumed.cancel()
        await api.channel.close()

    assert (by_cursor, by_time) == ("CURSOR_EXPIRED", "CURSOR_EXPIRED")
    assert [one.message.message_id for one in changes] == ["going-on", "group", "new"]
    assert changes[0].previous_status == pb.STATUS_FAILED
    assert [one.cursor for one in rest] == [one.cursor for one in changes[1:]]


async def test_the_last_event_stays(tmp_path: Path) -> None:
    """However old, it is where the head's cursors stand; and what comes next goes on with it."""
    _record(tmp_path, *OLD_AND_NEW[:3])
    with ServerProcess(tmp_path, RETAIN_A_DAY) as server:
        api = Api(server.grpc)
        status = await _expired(api, 2)
        group = await api.get("group")
        live = api.watch(pb.WatchStatusesRequest(from_now=True))
        await live.until("caught_up")
        async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
            late = fresh_id()
            await post(http, callback(late))
        changes = await live.changes(1)
        live.cancel()
        await api.channel.close()

    assert (status.log_head_position, status.removals.expired_event_count) == (3, 2)
    assert group.status == pb.STATUS_READ
    assert changes[0].message.message_id == late


async def test_views_that_were_deleted_are_built_from_the_baseline(tmp_path: Path) -> None:
    """The log's file alone is enough, also for what its removed events had said."""
    _record(tmp_path, *OLD_AND_NEW)
    with ServerProcess(tmp_path, RETAIN_A_DAY) as server:
        api = Api(server.grpc)
        await _expired(api, KEPT_FROM - 1)
        before = [await api.get(one) for one in ("going-on", "group", "new")]
        await api.channel.close()
        server.stop()
    _remove_views(tmp_path)
    with ServerProcess(tmp_path, RETAIN_A_DAY) as server:
        api = Api(server.grpc)
        async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
            cursor = await post(http, callback(fresh_id()))
        await api.get("new", min_cursor=cursor)
        after = [await api.get(one) for one in ("going-on", "group", "new")]
        await api.channel.close()

    assert before == after


def test_killed_between_the_stores(tmp_path: Path) -> None:
    """Events that were removed before a kill are left out of the views at the next start."""
    _record(tmp_path, *OLD_AND_NEW)
    with ServerProcess(tmp_path) as server:
        plugstatus("rebuild", "--check", API_TARGET=server.grpc)
        server.stop()
    with closing(sqlite3.connect(tmp_path / "views.db", isolation_level=None)) as views:
        # The views' transaction fails, so the process ends with only the log's done.
        views.execute(
            "CREATE TRIGGER refuse BEFORE DELETE ON feed_a "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    with ServerProcess(tmp_path, RETAIN_A_DAY) as server:
        deadline = time.monotonic() + DEADLINE_S
        with closing(StoredLogReader(SqliteDatabase(tmp_path / "events.db"))) as log:
            while log.kept_from() < KEPT_FROM:
                assert time.monotonic() < deadline
        server.signal(signal.SIGKILL)
        server.wait()
    with closing(sqlite3.connect(tmp_path / "views.db", isolation_level=None)) as views:
        left = views.execute("SELECT count(*) FROM feed_a WHERE position < 6").fetchone()[0]
        views.execute("DROP TRIGGER refuse")
    with ServerProcess(tmp_path) as server:
        ended = plugstatus("get", "ended", API_TARGET=server.grpc)
        checked = plugstatus("rebuild", "--check", API_TARGET=server.grpc)

    assert left == 4
    assert ended.returncode == 1
    assert checked.returncode == 0, checked.stdout


async def test_without_the_setting_nothing_goes(tmp_path: Path) -> None:
    """The default keeps everything, however old."""
    _record(tmp_path, *OLD_AND_NEW)
    with ServerProcess(tmp_path) as server:
        api = Api(server.grpc)
        stream = api.watch(pb.WatchStatusesRequest(from_time=Timestamp(seconds=1)))
        changes = await stream.changes(7)
        status = await api.admin.GetServiceStatus(pb.GetServiceStatusRequest())
        stream.cancel()
        await api.channel.close()

    assert [one.message.message_id for one in changes][:2] == ["ended", "ended"]
    assert status.removals.expired_event_count == 0
