"""`copy` carries a log to another database: whole, exactly, and again after a kill."""

import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.database.schema import Store
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests import stores
from tests.calls import Api, callback
from tests.command import plugstatus
from tests.fold_model import Teller
from tests.postgres import empty_database_url
from tests.processes import child, lines
from tests.retention_site import RetentionSite
from tests.server_process import ServerProcess

EVENTS = 120


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def original(tmp_path: Path, dice: random.Random) -> Path:
    """A data folder whose log has a baseline, erasures and every kind of event."""
    site = RetentionSite(tmp_path / "original", dice)
    site.tell(EVENTS)
    site.cut(EVENTS // 3)
    site.close()
    return tmp_path / "original"


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder / 'events.db'}"


def copied(source: str, target: str) -> str:
    run = plugstatus("copy", "--from", source, "--to", target)
    assert run.returncode == 0, run.stderr
    return run.stdout


def contents(folder: Path) -> list[list[tuple[Any, ...]]]:
    """All that a SQLite log holds, past the service."""
    return [
        stores.rows(folder, Store.EVENT_LOG, f"SELECT * FROM {table}")
        for table in (
            "log",
            "events ORDER BY position",
            "baseline ORDER BY kind, instance, id, part",
        )
    ]


def test_there_and_back_again(original: Path, tmp_path: Path) -> None:
    """SQLite to PostgreSQL and from there to SQLite: every row of the log is what it was."""
    between = empty_database_url(tmp_path)
    told = copied(sqlite_url(original), between)
    copied(between, sqlite_url(tmp_path / "back"))

    assert told == f"copied, up to position {EVENTS}\n"
    assert contents(tmp_path / "back") == contents(original)
    assert len(contents(original)[1]) == EVENTS - EVENTS // 3 + 1


async def test_old_cursors_go_on(tmp_path: Path) -> None:
    """A cursor from SQLite resumes on PostgreSQL, behind the same change."""
    url = empty_database_url(tmp_path)
    with ServerProcess(tmp_path / "old") as server:
        api = Api(server.grpc)
        stream = api.watch(pb.WatchStatusesRequest(from_now=True))
        await stream.until("caught_up")
        bodies = [callback("A", "SENT"), callback("B", "SENT"), callback("A", "READ")]
        async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
            for body in bodies:
                (await http.post("/instancia/acme/status", json=body)).raise_for_status()
        heard = await stream.changes(3)
        await api.channel.close()
    copied(sqlite_url(tmp_path / "old"), url)
    settings = {"EVENTS_URL": url}
    plugstatus("migrate", DATA_DIR=str(tmp_path / "new"), **settings)
    with ServerProcess(tmp_path / "new", settings) as server:
        api = Api(server.grpc)
        stream = api.watch(pb.WatchStatusesRequest(cursor=heard[0].cursor))
        again = await stream.changes(2)
        async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
            answer = await http.post("/instancia/acme/status", json=callback("C"))
        later = await stream.changes(1)
        await api.channel.close()

    assert again == heard[1:]
    assert answer.json()["outcome"] == "recorded"
    assert later[0].message.message_id == "C"


KILLED = """
import os, signal, sys
from service.eventlog import copying
from service.stores import copying as begin

copying._CHUNK_EVENTS = 7
with begin(sys.argv[1], sys.argv[2]) as steps:
    for number, _ in enumerate(steps):
        print(number, flush=True)
        if number == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_copy_goes_on(original: Path, tmp_path: Path, dice: random.Random) -> None:
    """Killed behind any step, again and again: nobody serves it, and the next run ends it."""
    between = empty_database_url(tmp_path)
    steps: list[int] = []
    for _ in range(3):
        with child(KILLED, sqlite_url(original), between, str(dice.randrange(4))) as process:
            steps.append(len(list(lines(process))))
    refused = plugstatus("serve", EVENTS_URL=between, DATA_DIR=str(tmp_path / "serve"))
    copied(sqlite_url(original), between)
    copied(between, sqlite_url(tmp_path / "back"))

    assert all(steps)
    assert refused.returncode == 1
    assert "run `plugstatus copy` again" in refused.stderr
    assert contents(tmp_path / "back") == contents(original)


def test_what_was_appended_since_is_carried_too(
    original: Path, tmp_path: Path, dice: random.Random
) -> None:
    """Run again after the first log has grown, it carries the rest."""
    between = empty_database_url(tmp_path)
    copied(sqlite_url(original), between)
    told = Teller(dice).told().event
    writer = stores.log_writer(original)
    writer.append([told])
    writer.close()
    again = copied(sqlite_url(original), between)
    copied(between, sqlite_url(tmp_path / "back"))

    assert again == f"copied, up to position {EVENTS + 1}\n"
    assert contents(tmp_path / "back") == contents(original)


def test_another_log_is_not_written_into(original: Path, tmp_path: Path) -> None:
    """Neither one that holds events of its own, nor one whose events were removed since."""
    other = RetentionSite(tmp_path / "other", random.Random(1))
    other.tell(3)
    other.close()
    holds = contents(tmp_path / "other")
    refused = plugstatus(
        "copy", "--from", sqlite_url(original), "--to", sqlite_url(tmp_path / "other")
    )
    same = plugstatus("copy", "--from", sqlite_url(original), "--to", sqlite_url(original))
    missing = plugstatus(
        "copy", "--from", sqlite_url(tmp_path / "no"), "--to", sqlite_url(original)
    )

    assert (refused.returncode, same.returncode, missing.returncode) == (1, 2, 2)
    assert "holds events: name an empty database" in refused.stderr
    assert "there is no event log" in missing.stderr
    assert contents(tmp_path / "other") == holds
