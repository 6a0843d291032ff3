"""Cursors against a log that is another one, an older one, or a shorter one."""

import shutil
from contextlib import closing
from pathlib import Path

import grpc
import grpc.aio
import httpx
import pytest

from service.database.sqlite import SqliteDatabase
from service.domain.events import Position
from service.eventlog.log import BaselineChange
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, error_info, fresh_id, post
from tests.server_process import ServerProcess


async def _post_some(server: ServerProcess, count: int) -> list[str]:
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
        return [await post(http, callback(fresh_id())) for _ in range(count)]


async def _refusal(server: ServerProcess, cursor: str) -> tuple[grpc.StatusCode, str]:
    """What both ways to use a cursor are answered with; the same for both."""
    api = Api(server.grpc)
    with pytest.raises(grpc.aio.AioRpcError) as watched:
        await api.watch(pb.WatchStatusesRequest(cursor=cursor)).next()
    with pytest.raises(grpc.aio.AioRpcError) as asked:
        await api.get("x", min_cursor=cursor)
    await api.channel.close()
    assert watched.value.code() is asked.value.code()
    assert error_info(watched.value).reason == error_info(asked.value).reason
    return watched.value.code(), error_info(watched.value).reason


async def _changes_behind(server: ServerProcess, cursor: str) -> int:
    api = Api(server.grpc)
    stream = api.watch(pb.WatchStatusesRequest(cursor=cursor))
    await stream.until("caught_up")
    stream.cancel()
    await api.channel.close()
    return sum(len(response.changes.changes) for response in stream.responses)


async def test_cursor_of_another_log(server: ServerProcess, tmp_path: Path) -> None:
    """A cursor another log gave out is FOREIGN, whatever stands at its position here."""
    (cursor,) = await _post_some(server, 1)
    with ServerProcess(tmp_path / "other") as other:
        await _post_some(other, 3)
        refused = await _refusal(other, cursor)

    assert refused == (grpc.StatusCode.FAILED_PRECONDITION, "CURSOR_FOREIGN")


async def test_cursors_after_a_restored_backup(server: ServerProcess, tmp_path: Path) -> None:
    """Cursors up to the backup go on; those of the lost future are AHEAD, and once overgrown
    DIVERGED."""
    kept = await _post_some(server, 3)
    assert server.stop() == 0
    backup = tmp_path / "events.db"
    shutil.copy(server.data_dir / "events.db", backup)
    server.start()
    lost = await _post_some(server, 2)
    assert server.stop() == 0
    for file in server.data_dir.glob("*.db*"):
        file.unlink()
    shutil.copy(backup, server.data_dir / "events.db")
    server.start()
    ahead = await _refusal(server, lost[1])
    goes_on = await _changes_behind(server, kept[1])
    await _post_some(server, 4)
    diverged = await _refusal(server, lost[1])
    goes_on_still = await _changes_behind(server, kept[2])

    assert ahead == (grpc.StatusCode.FAILED_PRECONDITION, "CURSOR_AHEAD")
    assert diverged == (grpc.StatusCode.FAILED_PRECONDITION, "CURSOR_DIVERGED")
    assert (goes_on, goes_on_still) == (1, 4)


def _remove_up_to(path: Path, position: Position) -> None:
    """What retention does to the log; its views stay as they are, as if it was killed there."""
    with (
        closing(StoredLogReader(SqliteDatabase(path))) as reader,
        closing(SqliteLogWriter(SqliteDatabase(path))) as writer,
    ):
        last = reader.mark(position)
        assert last is not None
        writer.cut(last, BaselineChange())


async def test_cursors_behind_which_events_are_gone(server: ServerProcess) -> None:
    """Where retention has removed what followed, a cursor is EXPIRED; at the edge it goes on."""
    cursors = await _post_some(server, 5)
    assert server.stop() == 0
    _remove_up_to(server.data_dir / "events.db", Position(3))
    server.start()
    expired = [await _refusal(server, cursor) for cursor in cursors[:2]]
    at_the_edge = await _changes_behind(server, cursors[2])

    assert expired == [(grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")] * 2
    assert at_the_edge == 2
