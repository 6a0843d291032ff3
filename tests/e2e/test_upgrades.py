"""Stores of every earlier revision, with data in them, are upgraded and served.

`tests/data/<revision>.sql` is a dump of a store as the last program of that revision left it. A
migration without the dump of the revision before it fails here.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory

from service.database.schema import Store, known_revision, upgrade
from service.database.sqlite import SqliteDatabase
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api
from tests.command import plugstatus
from tests.killed_upgrades import UPGRADE_KILLED_AT
from tests.processes import child, lines
from tests.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"

FIRST_CURSOR = "AZ4mQ54SaUKwAAAAAAAAAAH_____CDTMI6efECA"
"""What the first callback of the dumps was answered with."""

CHANGE_CURSOR = "AZ4mQ54SaUKwAAAAAAAAAAIAAAAACDXqxhaz85c"
"""Of the change that made A READ."""


def _revisions(store: Store) -> list[Any]:
    scripts = ScriptDirectory(str(ROOT / "migrations" / store.folder))
    return [one for one in scripts.walk_revisions() if one.down_revision is not None]


MIGRATIONS = [
    pytest.param(store, str(one.down_revision), id=f"{one.down_revision}-{one.revision}")
    for store in Store
    for one in _revisions(store)
]


def _restore(revision: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((DATA / f"{revision}.sql").read_text())


def _columns(path: Path) -> dict[str, str]:
    """Those of all tables that hold data."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(
            "SELECT t.name, group_concat(c.name) FROM sqlite_master t, pragma_table_info(t.name) c "
            "WHERE t.type = 'table' GROUP BY t.name"
        ).fetchall()
    no_data = {"alembic_version", "served_revision", "baseline"}
    return {name: columns for name, columns in found if name not in no_data}


def _rows(path: Path, columns: dict[str, str]) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return {
            name: connection.execute(f"SELECT {these} FROM {name}").fetchall()
            for name, these in columns.items()
        }


@pytest.mark.parametrize(("store", "revision"), MIGRATIONS)
def test_an_upgrade_keeps_every_row(store: Store, revision: str, tmp_path: Path) -> None:
    """From any earlier revision to the newest: the same rows, and who the store is."""
    path = tmp_path / "store.db"
    _restore(revision, path)
    columns = _columns(path)
    before = _rows(path, columns)

    reached = upgrade(store, SqliteDatabase(path))

    assert known_revision(store) == reached
    assert before == _rows(path, columns)
    assert any(len(rows) > 5 for rows in before.values())


KILLED = f"""{UPGRADE_KILLED_AT}
import shutil, sys
from pathlib import Path
from service.database.schema import Store, state

store, original, path = Store[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3])

for moment in itertools.count(1):
    for file in path.parent.glob(path.name + "*"):
        file.unlink()
    shutil.copy(original, path)
    child = os.fork()
    if child == 0:
        upgrade_killed_at(moment)
    _, status = os.waitpid(child, 0)
    revision = state(store, SqliteDatabase(path)).revision
    print("killed" if os.WIFSIGNALED(status) else "finished", revision, flush=True)
    if not os.WIFSIGNALED(status):
        break
"""


@pytest.mark.parametrize(("store", "revision"), MIGRATIONS)
def test_an_upgrade_that_is_killed_has_not_happened(
    store: Store, revision: str, tmp_path: Path
) -> None:
    """Killed before any of its statements or its commit, the store is at the revision before."""
    original, path = tmp_path / "original.db", tmp_path / "store" / "store.db"
    _restore(revision, original)
    path.parent.mkdir()

    with child(KILLED, store.name, str(original), str(path)) as process:
        told = list(lines(process))

    assert [f"killed {revision}"] * (len(told) - 1) + [f"finished {known_revision(store)}"] == told
    assert len(told) > 5


@pytest.fixture
def upgraded(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server on stores of the first revisions."""
    _restore("e0001", tmp_path / "events.db")
    _restore("v0001", tmp_path / "views.db")
    with ServerProcess(tmp_path) as server:
        yield server


async def test_stores_of_the_first_revisions_are_served(upgraded: ServerProcess) -> None:
    """What was known before the upgrade is known after it, and cursors keep their meaning."""
    api = Api(upgraded.grpc)
    message = await api.get("A")
    group = await api.get("G")
    failed = await api.get("F")
    reports = await api.status.ListStatusReports(pb.ListStatusReportsRequest(message_id="A"))
    webhook = await api.admin.GetWebhook(pb.GetWebhookRequest(instance="acme"))
    quarantine = await api.admin.ListQuarantinedCallbacks(pb.ListQuarantinedCallbacksRequest())
    status = await api.admin.GetServiceStatus(pb.GetServiceStatusRequest())
    stream = api.watch(pb.WatchStatusesRequest(cursor=FIRST_CURSOR))
    changes = await stream.changes(4)
    stream.cancel()
    await api.channel.close()

    assert (message.status, message.report_count) == (pb.STATUS_READ, 3)
    assert (message.cursor, group.recipient_count) == (CHANGE_CURSOR, 2)
    assert failed.failure.reason == "number not on WhatsApp"
    assert all(report.raw.startswith(b'{"type":') for report in reports.reports)
    assert webhook.webhook.state == pb.WEBHOOK_STATE_UNKNOWN
    assert [one.raw for one in quarantine.callbacks] == [b'{"type":"Attendance","id":"A"}']
    assert [change.message.message_id for change in changes] == ["A", "G", "G", "F"]
    assert [one.connection_state for one in status.instances] == [
        pb.CONNECTION_STATE_UNSPECIFIED,
        pb.CONNECTION_STATE_DISCONNECTED,
    ]
    assert (status.removals.erased_event_count, status.removals.expired_event_count) == (0, 0)


def test_stores_of_the_first_revisions_can_be_rebuilt_and_erased(upgraded: ServerProcess) -> None:
    """Views that the program of the first revision made are what this one makes of its log."""
    target = {"API_TARGET": upgraded.grpc}
    same = plugstatus("rebuild", "--check", **target)
    forgotten = plugstatus("forget", "--phone", "5511900000001", **target)
    still = plugstatus("rebuild", "--check", **target)
    found = plugstatus("get", "A", **target)

    assert (same.returncode, still.returncode) == (0, 0), same.stdout + still.stdout
    assert forgotten.stdout.startswith("erased 4 callbacks, 2 messages"), forgotten.stdout
    assert found.returncode == 1


def test_migrate_upgrades_both(tmp_path: Path) -> None:
    """`migrate` upgrades both, and says to which revisions; a second run changes nothing."""
    _restore("e0001", tmp_path / "events.db")
    _restore("v0001", tmp_path / "views.db")
    first = plugstatus("migrate", DATA_DIR=str(tmp_path))
    again = plugstatus("migrate", DATA_DIR=str(tmp_path))

    assert first.returncode == again.returncode == 0
    assert first.stdout == again.stdout
    assert known_revision(Store.EVENT_LOG) in first.stdout
    assert known_revision(Store.VIEWS) in first.stdout
