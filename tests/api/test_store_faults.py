"""What callers see while a store cannot be used, and that it passes."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import grpc.aio
import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, error_info, fresh_id, post
from tests.server_process import ServerProcess


@contextmanager
def write_lock_of(path: Path) -> Iterator[None]:
    """Hold the database's write lock, as a careless tool would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def test_views_behind(server: ServerProcess, http: httpx.AsyncClient, api: Api) -> None:
    """While the views cannot be written, callbacks are recorded and min_cursor gives up in time."""
    message_id = fresh_id()
    with write_lock_of(server.data_dir / "views.db"):
        cursor = await post(http, callback(message_id))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await api.status.GetMessageStatus(
                pb.GetMessageStatusRequest(message_id=message_id, min_cursor=cursor), timeout=1
            )
        # Lag alone never makes a server unready; views that cannot be written do.
        async with asyncio.timeout(20):
            while (await http.get("/readyz")).status_code == 200:
                pass
    message = await api.get(message_id, min_cursor=cursor)
    async with asyncio.timeout(20):
        while (await http.get("/readyz")).status_code == 503:
            pass

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error_info(caught.value).reason == "VIEWS_BEHIND"
    assert message.status == pb.STATUS_SENT


async def test_watcher_survives_a_locked_view_store(
    server: ServerProcess, http: httpx.AsyncClient, api: Api
) -> None:
    """A watcher opened meanwhile gets what was posted, once the views can be written again."""
    stream = api.watch(pb.WatchStatusesRequest(from_now=True))
    await stream.until("caught_up")
    message_ids = [fresh_id() for _ in range(3)]
    with write_lock_of(server.data_dir / "views.db"):
        late = api.watch(pb.WatchStatusesRequest(from_now=True))
        await late.until("opened")
        for message_id in message_ids:
            await post(http, callback(message_id))
    changes = [await stream.changes(3), await late.changes(3)]
    stream.cancel()
    late.cancel()

    assert [[c.message.message_id for c in seen] for seen in changes] == [message_ids] * 2


async def test_log_unavailable(server: ServerProcess, http: httpx.AsyncClient, api: Api) -> None:
    """While the log cannot be written a callback gets 503, is not there, and later ones are."""
    refused, accepted = fresh_id(), fresh_id()
    with write_lock_of(server.data_dir / "events.db"):
        answer = await http.post("/instancia/acme/status", json=callback(refused))
        ready = await http.get("/readyz")
    cursor = await post(http, callback(accepted))
    await api.get(accepted, min_cursor=cursor)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.get(refused)
    ready_again = await http.get("/readyz")

    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert answer.headers["content-type"] == "application/problem+json"
    assert (ready.status_code, ready_again.status_code) == (503, 200)
    assert error_info(caught.value).reason == "MESSAGE_NOT_FOUND"
