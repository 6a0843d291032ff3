"""Damaged files, disks that are full: found, told with what to do, never stepped over unseen."""

import asyncio
import resource
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, post, post_each
from tests.command import plugstatus
from tests.server_process import ServerProcess

PAGE = 4_096
MARK = b"the-one-that-is-damaged"


def _truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - PAGE)


def _page_zeroed(path: Path) -> None:
    # Inside of the table's tree: the first page is the schema.
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // PAGE // 2 * PAGE)
        file.write(bytes(PAGE))


def _pages_swapped(path: Path) -> None:
    content = path.read_bytes()
    pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
    pages[-1], pages[-2] = pages[-2], pages[-1]
    path.write_bytes(b"".join(pages))


def _head_overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"no database at all..")


DAMAGES = [_truncated, _page_zeroed, _pages_swapped, _head_overwritten]


async def _filled(data_dir: Path, count: int = 300) -> list[str]:
    """A store that was served and stopped; the answers' cursors."""
    with ServerProcess(data_dir) as server:
        async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
            cursors = [
                await post(http, callback(f"M{number}", phone="5" * 60)) for number in range(count)
            ]
        server.stop()
    return cursors


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("store", ["events", "views"])
async def test_a_damaged_file_is_not_served(
    tmp_path: Path, store: str, damage: Callable[[Path], None]
) -> None:
    """`check` and `serve` name the file and what to do; views are built again once moved away."""
    data = tmp_path / "data"
    await _filled(data)
    damage(data / f"{store}.db")
    given = {"DATA_DIR": str(data), "HTTP_BIND": "127.0.0.1:0", "GRPC_BIND": "127.0.0.1:0"}

    served = await asyncio.to_thread(plugstatus, "serve", **given)
    checked = await asyncio.to_thread(plugstatus, "check", DATA_DIR=str(data))

    label = "event log" if store == "events" else "views"
    line = next(one for one in checked.stdout.splitlines() if f" {label}: " in one)
    assert (served.returncode, checked.returncode) == (1, 1)
    assert line.startswith("FAILED")
    for text in (line, served.stderr):
        assert f"{store}.db" in text
        assert ("restore a backup" if store == "events" else "move it away") in text
    if store == "views":
        (data / "views.db").rename(tmp_path / "views.db")
        with ServerProcess(data) as server:
            api = Api(server.grpc)
            stream = api.watch(pb.WatchStatusesRequest(snapshot=True))
            await stream.until("caught_up")
            await api.channel.close()
        assert sum(len(frame.changes.changes) for frame in stream.responses) == 300


async def test_a_damaged_body_is_found_told_and_kept_apart(tmp_path: Path) -> None:
    """One bit in one body: SQLite sees nothing, the checksum does. All other events are served."""
    data = tmp_path / "data"
    with ServerProcess(data) as server:
        async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
            bodies = [callback(f"M{n}", said=MARK.decode() if n == 7 else "") for n in range(20)]
            await post_each(http, bodies)
        server.stop()
    path = data / "events.db"
    content = path.read_bytes()
    assert content.count(MARK) == 1
    path.write_bytes(content.replace(MARK, MARK[:-1] + b"e"))
    (data / "views.db").unlink()

    checked = await asyncio.to_thread(plugstatus, "check", DATA_DIR=str(data))
    with ServerProcess(data) as server:
        api = Api(server.grpc)
        stream = api.watch(pb.WatchStatusesRequest(snapshot=True))
        await stream.until("caught_up")
        quarantined = await api.admin.ListQuarantinedCallbacks(
            pb.ListQuarantinedCallbacksRequest(), timeout=20
        )
        await api.channel.close()
        metrics = await _until_metric(server, "plugstatus_damaged_events 1.0")
        told = [line for line in server.log if "is damaged" in line]
    seen = {
        change.message.message_id for frame in stream.responses for change in frame.changes.changes
    }

    assert checked.returncode == 1
    assert "1 of 20 events are not what was recorded, the first one at position 8" in checked.stdout
    assert seen == {f"M{n}" for n in range(20)} - {"M7"}
    assert [one.reason for one in quarantined.callbacks] == [pb.QUARANTINE_REASON_UNREADABLE]
    assert MARK[:-1] in quarantined.callbacks[0].raw
    assert told
    assert "plugstatus_log_unreadable 0.0" in metrics


async def _until_metric(server: ServerProcess, sample: str) -> str:
    """The page once it has the sample, and the whole log was read."""
    async with (
        asyncio.timeout(20),
        httpx.AsyncClient(base_url=server.ops, trust_env=False) as ops,
    ):
        while True:
            page = (await ops.get("/metrics")).text
            if sample in page and "plugstatus_log_read_timestamp_seconds 0.0" not in page:
                return page


async def test_a_full_disk_is_told_and_got_over(tmp_path: Path) -> None:
    """503 while nothing can be written, 200 again once there is room, without a restart."""
    data = tmp_path / "data"
    with ServerProcess(data) as server:
        acknowledged = []
        async with (
            httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=30) as http,
            httpx.AsyncClient(base_url=server.ops, trust_env=False, timeout=30) as ops,
        ):
            acknowledged.append(await post(http, callback("M0")))
            largest = max(file.stat().st_size for file in data.iterdir())
            unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (largest + 64 * 1024, unlimited[1]))
            refused = None
            for number in range(1, 2_000):
                answer = await http.post("/instancia/acme/status", json=callback(f"M{number}"))
                if answer.status_code != httpx.codes.OK:
                    refused = answer
                    break
                acknowledged.append(answer.json()["cursor"])
            ready = await ops.get("/readyz")
            alive = await ops.get("/healthz")
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
            after = await post(http, callback("after"))
            api = Api(server.grpc)
            message = await api.get("after", min_cursor=after)
            async with asyncio.timeout(20):
                while (await ops.get("/readyz")).status_code != httpx.codes.OK:
                    pass
            await api.channel.close()
        code = server.stop()
    with closing(sqlite3.connect(data / "events.db")) as connection:
        held = connection.execute("SELECT count(*) FROM events").fetchall()[0][0]

    assert refused is not None
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert (ready.status_code, alive.status_code) == (503, 200)
    assert "the event log cannot be written" in ready.text
    assert any("full" in line and "cannot be written" in line for line in server.log)
    assert message.message_id == "after"
    assert held >= len(acknowledged) + 1
    assert code == 0
