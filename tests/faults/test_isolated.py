"""A client that takes nothing costs the others nothing, and the server little."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service.api.access import LOCAL
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, fresh_id, post
from tests.faults.load import STRETCH_BYTES
from tests.faults.others import rss_bytes
from tests.server_process import ServerProcess
from tests.watch_site import CALL, WatchSite, watch_site

NOW = pb.WatchStatusesRequest(from_now=True)
_SOME = 30


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[WatchSite]:
    async with watch_site(tmp_path / "data") as made:
        for _ in range(_SOME):
            await made.post(fresh_id())
        yield made


@pytest.mark.parametrize("kind", ["opened", "changes", "snapshot_end", "caught_up"])
async def test_nobody_awaits_a_transport_that_takes_nothing(site: WatchSite, kind: str) -> None:
    """Blocked for ever behind its first frame of a kind: live, caught up or not, all others go on.

    No time is measured: whatever awaited the blocked transport would never go on.
    """

    async def block(response: pb.WatchStatusesResponse) -> None:
        if response.WhichOneof("frame") == kind:
            await asyncio.Event().wait()

    blocked = site.watch(pb.WatchStatusesRequest(snapshot=True), block)
    await blocked.until(kind)
    live = site.watch(NOW)
    await live.until("caught_up")
    message_ids = [fresh_id() for _ in range(_SOME)]
    wait = asyncio.create_task(site.statuses.wait(_until_read(message_ids[-1]), CALL))
    cursors = [await site.post(message_id, "READ") for message_id in message_ids]
    await live.until_changes(_SOME)
    behind = await site.all_from(pb.WatchStatusesRequest(snapshot=True))
    answer = pb.WaitForStatusResponse.FromString(await wait).message
    asked = await site.get(message_ids[0], min_cursor=cursors[-1])
    site.core.hub.drain()
    await live.until("closing")
    kinds = blocked.kinds()
    await blocked.leave()

    assert live.ids() == message_ids
    assert len(behind.ids()) == 2 * _SOME
    assert answer.message_id == message_ids[-1]
    assert asked.status == pb.STATUS_READ
    assert kinds[-1] == kind


async def test_live_watchers_that_block_leave_the_hub(site: WatchSite) -> None:
    """However many they are: what waits for each is bounded, and one who reads gets everything."""
    hold = asyncio.Event()

    async def block(response: pb.WatchStatusesResponse) -> None:
        if response.changes.changes:
            await hold.wait()

    blocked = [site.watch(NOW, block) for _ in range(20)]
    live = site.watch(NOW)
    for watching in (*blocked, live):
        await watching.until("caught_up")
    count = site.shared.limits.watcher_queue_frames_max + 10
    message_ids = [fresh_id() for _ in range(count)]
    await asyncio.gather(*(site.append(callback(message_id)) for message_id in message_ids))
    for _ in range(3):
        await site.append(callback("", "FAILED", ids=_ids(2_000), error="x" * 1_000))
    await live.until_changes(count + 3 * 2_000)
    queued = [state.queued_bytes for state in site.watchers.states(LOCAL)]
    hold.set()
    for watching in blocked:
        await watching.until_changes(count + 3 * 2_000)

    assert max(queued) <= site.shared.limits.watcher_queue_bytes_max + STRETCH_BYTES
    assert {"fell_behind"} <= set(blocked[0].kinds())
    assert [watching.ids() == live.ids() for watching in blocked] == [True] * len(blocked)


async def test_a_socket_that_is_never_read(tmp_path: Path) -> None:
    """With windows wide open, so that only the socket is full: bounded, and others get all."""
    with ServerProcess(tmp_path / "data") as server:
        api = Api(server.grpc)
        sockets = [_never_reading(server.grpc) for _ in range(5)]
        reading = api.watch(NOW)
        await reading.until("caught_up")
        await _until_open(api, len(sockets) + 1)
        before = rss_bytes(server.pid)
        async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=60) as http:
            sent = []
            for _ in range(8):
                sent += (ids := _ids(2_500))
                await post(http, callback("", "FAILED", ids=ids, error="x" * 1_000))
        changes = await reading.changes(len(sent))
        status = await api.admin.GetServiceStatus(pb.GetServiceStatusRequest(), timeout=20)
        grown = rss_bytes(server.pid) - before
        reading.cancel()
        await api.channel.close()
        for one in sockets:
            one.close()

    assert [change.message.message_id for change in changes] == sent
    assert max(one.queued_bytes for one in status.watchers) <= (
        status.watcher_queue_bytes_max + STRETCH_BYTES
    )
    assert len(status.watchers) == len(sockets) + 1
    # What was posted comes to some 30 MB for each of them.
    assert grown < 150 * 2**20


def _until_read(message_id: str) -> pb.WaitForStatusRequest:
    return pb.WaitForStatusRequest(message_id=message_id, at_least=pb.STATUS_READ)


def _ids(count: int) -> list[str]:
    return [fresh_id() for _ in range(count)]


def _never_reading(target: str) -> socket.socket:
    """A watcher from now on that opens all windows of HTTP/2 and then reads nothing.

    RFC 9113: the preface, SETTINGS, WINDOW_UPDATE of the connection, HEADERS, DATA. Headers are
    literals without indexing (RFC 7541, 6.2.2).
    """
    host, port = target.rsplit(":", 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect((host, int(port)))
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/plugchat.status.v1.MessageStatusService/WatchStatuses",
        ":authority": target,
        "te": "trailers",
        "content-type": "application/grpc",
    }
    block = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    request = NOW.SerializeToString()
    most = 2**31 - 1
    connection.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(4, 0, 0, struct.pack(">HI", 4, most))
        + _frame(8, 0, 0, struct.pack(">I", most - 65_535))
        + _frame(1, 4, 1, block)
        + _frame(0, 1, 1, b"\0" + struct.pack(">I", len(request)) + request)
    )
    return connection


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def _until_open(api: Api, count: int) -> None:
    """Ask until the server counts so many live streams."""
    async with asyncio.timeout(20):
        while True:
            status = await api.admin.GetServiceStatus(pb.GetServiceStatusRequest(), timeout=20)
            live = [one for one in status.watchers if one.phase == pb.WATCHER_PHASE_LIVE]
            if len(live) == count:
                return
