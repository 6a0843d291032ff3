"""Backups: taken while callbacks come, put back under the same identity, and never half."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, error_info, post
from tests.command import plugstatus
from tests.server_process import ServerProcess
from tests.stores import settings_of


class Site:
    """A running server and its clients."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.api = Api(server.grpc)
        self.http = httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=30)

    async def ids_behind(self, cursor: str) -> list[str]:
        """What a watcher gets that resumes there, up to the head."""
        stream = self.api.watch(pb.WatchStatusesRequest(cursor=cursor))
        await stream.until("caught_up")
        stream.cancel()
        return [
            change.message.message_id
            for response in stream.responses
            for change in response.changes.changes
        ]

    async def reason(self, cursor: str) -> str:
        """Why a cursor cannot be resumed from."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.api.watch(pb.WatchStatusesRequest(cursor=cursor)).next()
        return str(error_info(caught.value).reason)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are named as people do, from where they are."""
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def serving(data_dir: Path) -> AsyncIterator[Site]:
    with ServerProcess(data_dir) as server:
        site = Site(server)
        try:
            yield site
        finally:
            await site.http.aclose()
            await site.api.channel.close()
        server.stop()


def run(data_dir: Path, *arguments: str) -> Any:
    return plugstatus(*arguments, **settings_of(data_dir))


async def made(data_dir: Path, backup: Path) -> tuple[list[str], list[str], list[str]]:
    """A store of some callbacks, backed up while others come, and then grown.

    The cursors of the first ones, of those that came meanwhile, and of those from behind.
    """
    async with serving(data_dir) as site:
        first = [await post(site.http, callback(f"first-{n}")) for n in range(20)]
        meanwhile: list[str] = []
        running = asyncio.ensure_future(asyncio.to_thread(run, data_dir, "backup", backup.name))
        while not running.done():
            meanwhile.append(await post(site.http, callback(f"meanwhile-{len(meanwhile)}")))
        told = await running
        assert told.returncode == 0, told.stderr
        assert told.stdout.startswith(f"backed up to {backup}, up to position ")
        later = [await post(site.http, callback(f"later-{n}")) for n in range(5)]
    return first, meanwhile, later


@pytest.mark.parametrize("with_views", [True, False])
async def test_a_backup_brings_the_log_back(tmp_path: Path, with_views: bool) -> None:
    """Cursors up to it go on; those of the lost future are ahead, and diverge once overgrown."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    first, meanwhile, later = await made(data, backup)
    described = json.loads((backup / "backup.json").read_text())
    if not with_views:
        (backup / "views.db").unlink()
        described["files"] = [one for one in described["files"] if one["name"] == "events.db"]
        (backup / "backup.json").write_text(json.dumps(described))
    restored = run(data, "restore", str(backup))
    kept = described["head_position"] - len(first)
    async with serving(data) as site:
        status = await site.api.admin.GetServiceStatus(pb.GetServiceStatusRequest())
        behind_first = await site.ids_behind(first[9])
        ahead = await site.reason(later[-1])
        for number in range(len(meanwhile) + len(later)):
            await post(site.http, callback(f"new-{number}"))
        diverged = await site.reason(later[-1])
    checked = run(data, "rebuild", "--check")

    assert restored.returncode == 0, restored.stderr
    assert "what was there is kept as *.before-" in restored.stdout
    assert len(list(data.glob("events.db.before-*Z"))) == 1
    assert status.log_id == described["log_id"]
    assert status.log_head_position == described["head_position"]
    assert behind_first == [
        *(f"first-{n}" for n in range(10, 20)),
        *(f"meanwhile-{n}" for n in range(kept)),
    ]
    assert (ahead, diverged) == ("CURSOR_AHEAD", "CURSOR_DIVERGED")
    assert checked.returncode == 0, checked.stdout


async def test_a_restore_asks_for_what_it_needs(tmp_path: Path) -> None:
    """It refuses a damaged backup, half a one, and stores in use, and leaves what is there."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    await made(data, backup)
    before = (data / "events.db").read_bytes()
    damaged, half = tmp_path / "damaged", tmp_path / "half"
    shutil.copytree(backup, damaged)
    content = bytearray((damaged / "events.db").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "events.db").write_bytes(content)
    shutil.copytree(backup, half)
    (half / "backup.json").unlink()

    refused = [run(data, "restore", str(folder)) for folder in (damaged, half, tmp_path / "none")]
    again = run(data, "backup", str(backup))
    async with serving(data):
        in_use = await asyncio.to_thread(run, data, "restore", str(backup))
    after = (data / "events.db").read_bytes()

    assert [one.returncode for one in refused] == [1, 1, 1]
    assert "is not what was backed up" in refused[0].stderr
    assert "holds no backup that was finished" in refused[1].stderr
    assert (again.returncode, "is not empty" in again.stderr) == (1, True)
    assert (in_use.returncode, "in use by" in in_use.stderr) == (1, True)
    assert after == before
    assert not list(data.glob("*.restoring"))


async def test_a_restore_that_was_killed_is_not_served(tmp_path: Path) -> None:
    """A new log beside it would take callbacks that belong into the old one."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    await made(data, backup)
    (data / "events.db.restoring").write_bytes(b"half of it")
    (data / "events.db").rename(data / "events.db.before-20260101T000000000000Z")

    refused = plugstatus("serve", **settings_of(data), HTTP_BIND="127.0.0.1:0")
    checked = run(data, "check")
    damaged = tmp_path / "damaged"
    shutil.copytree(backup, damaged)
    (damaged / "events.db").write_bytes(b"not what was backed up")
    failed = run(data, "restore", str(damaged))
    still = plugstatus("serve", **settings_of(data), HTTP_BIND="127.0.0.1:0")
    again = run(data, "restore", str(backup))
    async with serving(data) as site:
        status = await site.api.admin.GetServiceStatus(pb.GetServiceStatusRequest())

    assert refused.returncode == still.returncode == 1
    assert "run `plugstatus restore` again" in refused.stderr
    assert "run `plugstatus restore` again" in still.stderr
    assert (checked.returncode, failed.returncode) == (1, 1)
    assert again.returncode == 0, again.stderr
    assert status.log_head_position > 0


async def test_what_another_restore_left_is_not_put_in_place(tmp_path: Path) -> None:
    """Of a backup without views there are none, whatever a killed attempt has left."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    await made(data, backup)
    (backup / "views.db").unlink()
    described = json.loads((backup / "backup.json").read_text())
    described["files"] = [one for one in described["files"] if one["name"] == "events.db"]
    (backup / "backup.json").write_text(json.dumps(described))
    (data / "views.db.restoring").write_bytes(b"half of it")

    restored = run(data, "restore", str(backup))

    assert restored.returncode == 0, restored.stderr
    assert not (data / "views.db").exists()
    assert not list(data.glob("*.restoring"))


async def test_the_log_of_postgresql_is_backed_up_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While callbacks come; restored into an empty database, and served there."""
    monkeypatch.setenv("PLUGSTATUS_TEST_STORES", "postgres")
    data, backup, other = tmp_path / "data", tmp_path / "backup", tmp_path / "other"
    first, _, later = await made(data, backup)
    migrated = run(other, "migrate")
    restored = run(other, "restore", str(backup))
    full = run(other, "restore", str(tmp_path / "none"))
    async with serving(other) as site:
        behind_first = await site.ids_behind(first[9])
        ahead = await site.reason(later[-1])

    assert migrated.returncode == 0, migrated.stderr
    assert restored.returncode == 0, restored.stderr
    assert behind_first[:10] == [f"first-{n}" for n in range(10, 20)]
    assert ahead == "CURSOR_AHEAD"
    assert full.returncode == 1
