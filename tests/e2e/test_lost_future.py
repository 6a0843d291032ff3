"""A failover that loses the last transactions: what is told of what never happened."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests import stores
from tests.calls import Api, callback, error_info
from tests.postgres import database_url, go_back, kept_copy
from tests.server_process import ServerProcess

SPOOLED_MAX = 10
"""Callbacks posted until one is recorded again, each once the ones before have been."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    monkeypatch.setenv(stores.VARIABLE, "postgres")
    with ServerProcess(tmp_path / "data") as process:
        yield process


@pytest.fixture
async def http(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
async def api(server: ServerProcess) -> AsyncIterator[Api]:
    client = Api(server.grpc)
    yield client
    await client.channel.close()


async def recorded(http: httpx.AsyncClient, name: str) -> str:
    """Post until it is not spooled any more; the last one's cursor."""
    for number in range(SPOOLED_MAX):
        while (await http.get("/metrics")).text.find("plugstatus_spool_callbacks 0.0") < 0:
            pass
        body = callback(f"{name}{number}")
        answer = (await http.post("/instancia/acme/status", json=body)).json()
        if answer["outcome"] == "recorded":
            return str(answer["cursor"])
    raise AssertionError("the database did not come back")


async def told(api: Api, cursor: str) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.watch(pb.WatchStatusesRequest(cursor=cursor)).next()
    return caught.value.code(), error_info(caught.value).reason


async def test_cursors_of_what_was_lost_are_known(
    server: ServerProcess, http: httpx.AsyncClient, api: Api
) -> None:
    """Streams that were told of it end; their cursors are AHEAD, then DIVERGED, and older ones go
    on with what came instead."""
    url = database_url(server.data_dir)
    before = await recorded(http, "A")
    copy = kept_copy(url)
    stream = api.watch(pb.WatchStatusesRequest(from_now=True))
    await stream.until("caught_up")
    lost = [await recorded(http, "lost") for _ in range(2 * SPOOLED_MAX)][-1]
    while (await stream.next()).cursor != lost:
        pass
    go_back(url, copy)
    await recorded(http, "instead")
    await stream.until("closing")
    ahead = await told(api, lost)
    end = [await recorded(http, "instead") for _ in range(3 * SPOOLED_MAX)][-1]
    diverged = await told(api, lost)
    goes_on = api.watch(pb.WatchStatusesRequest(cursor=before))
    while (await goes_on.next()).cursor != end:
        pass
    heard = {
        change.message.message_id
        for response in goes_on.responses
        for change in response.changes.changes
    }
    goes_on.cancel()

    assert ahead == (grpc.StatusCode.FAILED_PRECONDITION, "CURSOR_AHEAD")
    assert diverged == (grpc.StatusCode.FAILED_PRECONDITION, "CURSOR_DIVERGED")
    assert "instead0" in heard
    assert not [one for one in heard if one.startswith("lost")]
