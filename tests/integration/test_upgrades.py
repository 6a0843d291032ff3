"""What an upgraded store is: as a new one would be, with all that the older one held.

`tests/data/<revision>.sql` is a store as the last program of that revision left it.
"""

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory

from service.config import Limits
from service.database.schema import Store, known_revision, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import EventKind, Position
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from service.projector.follower import Follower
from service.projector.rebuild import Rebuild
from service.projector.retention import Retention
from service.projector.task import Hands
from service.views.writer import StoredViewsWriter
from service.wire.cursor import CursorCodec
from tests.clock import FakeClock
from tests.fold_model import Teller
from tests.retention_site import live_rows

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
SERVED = {"e0003": {"e0002", "e0003"}, "v0004": {"v0002", "v0003", "v0004"}}
"""Programs that may use a store of each revision: older ones only where a migration only adds."""

NOT_DATA = {"alembic_version", "served_revision", "sqlite_sequence"}


def _scripts(store: Store) -> list[Any]:
    scripts = ScriptDirectory(str(ROOT / "migrations" / store.folder))
    return list(scripts.walk_revisions())


MIGRATED = [
    pytest.param(store, str(one.down_revision), id=f"{one.down_revision}-{one.revision}")
    for store in Store
    for one in _scripts(store)
    if one.down_revision is not None
]


def _restored(revision: str, path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((DATA / f"{revision}.sql").read_text())
    return path


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def _tables(path: Path) -> set[str]:
    found = _rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    return {str(row[0]) for row in found} - NOT_DATA


@pytest.mark.parametrize(("store", "revision"), MIGRATED)
def test_every_migration_is_tried_on_a_store_that_was_used(
    store: Store, revision: str, tmp_path: Path
) -> None:
    """The revision before it has a dump: of that very revision, with rows in every table that is
    filled by then, and events of every kind."""
    assert (DATA / f"{revision}.sql").is_file(), f"dump a used store of {revision} there"
    path = _restored(revision, tmp_path / "store.db")
    # The slot that is not live holds rows only while views are rebuilt.
    tables = {name for name in _tables(path) if not name.endswith("_b")}
    empty = {name for name in tables if not _rows(path, f"SELECT 1 FROM {name} LIMIT 1")}

    assert _rows(path, "SELECT version_num FROM alembic_version") == [(revision,)]
    assert empty == set()
    if store is Store.EVENT_LOG:
        kinds = {row[0] for row in _rows(path, "SELECT kind FROM events")}
        assert kinds >= {EventKind.CALLBACK, EventKind.WEBHOOK_ATTEMPT, EventKind.WEBHOOK_OUTCOME}


@pytest.mark.parametrize(("store", "revision"), MIGRATED)
def test_an_upgraded_store_is_made_like_a_new_one(
    store: Store, revision: str, tmp_path: Path
) -> None:
    """The same tables, indexes and triggers; and the programs served are those that it says."""
    old, new = _restored(revision, tmp_path / "old.db"), tmp_path / "new.db"
    for path in (old, new):
        upgrade(store, SqliteDatabase(path))
    made = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
    served = {row[0] for row in _rows(old, "SELECT revision FROM served_revision")}

    assert _plain(_rows(old, made)) == _plain(_rows(new, made))
    assert served == SERVED[known_revision(store)], "say in SERVED which programs still may"


def _plain(made: list[tuple[Any, ...]]) -> list[tuple[str, str, str]]:
    """Without differences of blanks."""
    return [(kind, name, " ".join((sql or "").split())) for kind, name, sql in made]


def test_an_upgraded_log_is_told_of_cut_and_rebuilt(tmp_path: Path) -> None:
    """On stores of the first revisions: new events, removals, a rebuild, views built anew."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    events = _restored("e0001", tmp_path / "events.db")
    views = _restored("v0001", tmp_path / "views.db")
    upgrade(Store.EVENT_LOG, SqliteDatabase(events))
    upgrade(Store.VIEWS, SqliteDatabase(views))
    teller = Teller(random.Random(seed))
    kept, rows = [], []
    with (
        closing(StoredLogReader(SqliteDatabase(events))) as log,
        closing(SqliteLogWriter(SqliteDatabase(events))) as writer,
    ):
        old_head = log.head().position
        with closing(StoredViewsWriter(SqliteDatabase(views), log.identity)) as live:
            for keep_from in (3, old_head, old_head + 20):
                writer.append([teller.told().event for _ in range(20)])
                _followed(log, live)
                hands = Hands(log, live)
                codec = CursorCodec(log.identity)
                removal = Retention(Position(keep_from), lambda act: act(writer), codec, Limits())(
                    hands
                )
                checks = Rebuild(codec, FakeClock(), Limits(), check=True)(hands)
                kept.append([*removal, *checks][-1].note)
        rows.append(live_rows(tmp_path))
        views.unlink()
        upgrade(Store.VIEWS, SqliteDatabase(views))
        with closing(StoredViewsWriter(SqliteDatabase(views), log.identity)) as live:
            _followed(log, live)
        rows.append(live_rows(tmp_path))

    assert all(note.startswith("no difference") for note in kept), kept
    assert rows[0] == rows[1]


def _followed(log: StoredLogReader, views: StoredViewsWriter) -> None:
    follower = Follower(log, views, CursorCodec(log.identity), Limits(), 7)
    follower.begin()
    while waiting := follower.waiting():
        follower.advance(waiting)
