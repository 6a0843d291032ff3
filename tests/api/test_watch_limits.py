"""Bounds of watching: how many, and how slow."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, error_info, fresh_id, post, post_each
from tests.server_process import ServerProcess

NOW = pb.WatchStatusesRequest(from_now=True)


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    settings = {"WATCHERS_MAX": "2", "WATCHER_STALL_S": "1"}
    with ServerProcess(tmp_path / "data", settings) as server:
        yield server


async def test_too_many_watchers(limited: ServerProcess) -> None:
    """One watcher too many is refused instead of Opened; a place that got free is given again."""
    api = Api(limited.grpc)
    first, second = api.watch(NOW), api.watch(NOW)
    await first.until("caught_up")
    await second.until("caught_up")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await api.watch(NOW).next()
    first.cancel()
    third = await _opened_in_time(api)
    await api.channel.close()

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    info = error_info(caught.value)
    assert (info.reason, info.metadata["limit"]) == ("TOO_MANY_WATCHERS", "watchers_max")
    assert third.opened.views_generation > 0


async def _opened_in_time(api: Api) -> pb.WatchStatusesResponse:
    """The server notices a cancelled stream a moment later: ask until then."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await api.watch(NOW).next()
            except grpc.aio.AioRpcError as error:
                if error_info(error).reason != "TOO_MANY_WATCHERS":
                    raise


async def test_client_that_never_reads_ends_stalled(limited: ServerProcess) -> None:
    """A transport that accepts nothing ends its stream; another watcher gets everything."""
    api, stalled_api = Api(limited.grpc), Api(limited.grpc)
    stalled = stalled_api.watch(NOW)
    await stalled.until("caught_up")
    reading = api.watch(NOW)
    await reading.until("caught_up")
    message_ids = await _post_much(limited)
    changes = await reading.changes(len(message_ids))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        # The server has given up by now; what it had sent before is still to be read.
        await _slowly(stalled.call, limited)
    await api.channel.close()
    await stalled_api.channel.close()

    assert [change.message.message_id for change in changes] == message_ids
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error_info(caught.value).reason == "WATCHER_STALLED"


async def _slowly(call: Any, server: ServerProcess) -> None:
    """Read only once the server has counted the stream as ended."""
    ended = 'grpc_server_handled_total{grpc_code="UNAVAILABLE",grpc_method="WatchStatuses"'
    async with (
        asyncio.timeout(60),
        httpx.AsyncClient(base_url=server.ops, trust_env=False) as ops,
    ):
        while ended not in (await ops.get("/metrics")).text:
            pass
    while await call.read() != grpc.aio.EOF:
        pass
    await call.code()


async def test_slow_client_falls_behind_and_misses_nothing(server: ServerProcess) -> None:
    """A client that pauses is told that it fell behind, and then gets all of it, in order."""
    api = Api(server.grpc)
    stream = api.watch(NOW)
    await stream.until("caught_up")
    message_ids = await _post_much(server)
    await api.get(message_ids[-1], min_cursor=await _head(server))
    changes = await stream.changes(len(message_ids))
    kinds = [kind for kind in stream.kinds() if kind not in ("changes", "progress")]
    if kinds[-1] == "fell_behind":
        kinds.append(str((await stream.until("caught_up")).WhichOneof("frame")))
    stream.cancel()
    await api.channel.close()

    assert [change.message.message_id for change in changes] == message_ids
    assert kinds[:2] == ["opened", "caught_up"]
    assert len(kinds) > 2
    assert kinds[2::2] == ["fell_behind"] * len(kinds[2::2])
    assert kinds[3::2] == ["caught_up"] * len(kinds[2::2])


async def _post_much(server: ServerProcess) -> list[str]:
    """Callbacks whose changes are some 40 MB together: more than all buffers on the way hold."""
    batches = [[fresh_id() for _ in range(3_000)] for _ in range(8)]
    async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=60) as http:
        await post_each(
            http,
            [callback("", "FAILED", ids=ids, error="x" * 1_000, phone="p" * 64) for ids in batches],
        )
    return [message_id for ids in batches for message_id in ids]


async def _head(server: ServerProcess) -> str:
    """The cursor of a callback posted now."""
    async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=60) as http:
        return await post(http, {"type": "ConnectedCallback"})
