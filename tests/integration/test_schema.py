"""Schemas of the embedded stores: created, upgraded whole or not at all, or refused."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, MetaData, NullPool, create_engine

from service import errors
from service.database.opening import database_of
from service.database.schema import (
    Store,
    known_revision,
    require_current,
    upgrade,
)
from service.database.sqlite import SqliteDatabase
from service.eventlog import tables as eventlog_tables
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from service.views import tables as views_tables
from tests.killed_upgrades import UPGRADE_KILLED_AT
from tests.logs import new_event
from tests.processes import ROOT, child, lines
from tests.sqlite_stores import pragmas_of

SYNCHRONOUS_FULL = 2


@pytest.fixture(params=list(Store), ids=lambda store: store.folder)
def store(request: pytest.FixtureRequest) -> Store:
    assert isinstance(request.param, Store)
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "store.db"


def _schema(path: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()


def _execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


def test_an_upgrade_creates_the_store(store: Store, path: Path) -> None:
    """A missing file and its folder are created with the newest schema, for their owner only."""
    revision = upgrade(store, SqliteDatabase(path))

    require_current(store, SqliteDatabase(path))

    assert known_revision(store) == revision
    assert 0o600 == path.stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("store", "tables"),
    [(Store.EVENT_LOG, eventlog_tables.metadata), (Store.VIEWS, views_tables.views.metadata)],
    ids=["eventlog", "views"],
)
def test_the_tables_are_those_the_statements_are_built_from(
    store: Store, tables: MetaData, path: Path
) -> None:
    """Migrations make exactly the tables, columns and indexes that the code describes."""
    upgrade(store, SqliteDatabase(path))
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)

    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), tables)

    only_there = [each for each in differences if each[0] != "remove_table"]
    unknown = [each[1].name for each in differences if each[0] == "remove_table"]

    assert [] == only_there
    assert ["served_revision"] == unknown


def test_file_names_say_which_revision_is_the_newest(store: Store) -> None:
    """What a start looks at is what Alembic finds in the files."""
    scripts = ScriptDirectory(str(ROOT / "migrations" / store.folder))

    assert scripts.get_current_head() == known_revision(store)
    assert all(
        Path(script.path).name.startswith(f"{script.revision}_")
        for script in scripts.walk_revisions()
    )


def test_a_start_over_current_stores_needs_no_migration_tool(store: Store, path: Path) -> None:
    """Alembic is not even imported."""
    upgrade(store, SqliteDatabase(path))
    script = (
        "import sys; from pathlib import Path; from service.database import schema, sqlite\n"
        f"database = sqlite.SqliteDatabase(Path({str(path)!r}))\n"
        f"schema.upgrade(schema.Store[{store.name!r}], database)\n"
        "print('alembic' in sys.modules)"
    )

    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert said.stdout == "False\n"


def test_an_upgrade_of_a_current_store_changes_nothing(store: Store, path: Path) -> None:
    """A second upgrade leaves schema and content as they are."""
    upgrade(store, SqliteDatabase(path))
    schema = _schema(path)
    content = path.read_bytes()

    revision = upgrade(store, SqliteDatabase(path))

    assert known_revision(store) == revision
    assert schema == _schema(path)
    assert content == path.read_bytes()


def test_a_log_keeps_its_identity_and_events_over_upgrades(path: Path) -> None:
    """An upgrade of a log that is in use keeps who it is and what it holds."""
    upgrade(Store.EVENT_LOG, SqliteDatabase(path))
    with (
        closing(SqliteLogWriter(SqliteDatabase(path))) as writer,
        closing(StoredLogReader(SqliteDatabase(path))) as reader,
    ):
        writer.append([new_event()])
        identity = reader.identity

    upgrade(Store.EVENT_LOG, SqliteDatabase(path))

    with closing(StoredLogReader(SqliteDatabase(path))) as reader:
        assert (identity, 1) == (reader.identity, reader.head().position)


@pytest.mark.parametrize("name", ["a b", "a%20b", "a?b", "a#b", "é", "a:b@c", "a'b\"c"])
def test_a_folder_of_any_name_holds_the_store(store: Store, tmp_path: Path, name: str) -> None:
    """Characters that mean something in a URL are only characters in a folder's name."""
    path = tmp_path / name / "store.db"

    upgrade(store, SqliteDatabase(path))
    require_current(store, SqliteDatabase(path))

    assert [name] == [entry.name for entry in tmp_path.iterdir()]


def test_a_newer_store_is_refused(store: Store, path: Path) -> None:
    """A schema newer than the program, which no longer serves it, is refused with a sentence."""
    known = upgrade(store, SqliteDatabase(path))
    _execute(path, "UPDATE alembic_version SET version_num = 'z9999'")
    _execute(path, "DELETE FROM served_revision")
    content = _schema(path)
    expected = (
        f"the schema revision of the {store.label} is z9999, and this program knows only {known}: "
        "it was written by a newer plugstatus, so run that version or a later one"
    )

    for use in (upgrade, require_current):
        with pytest.raises(errors.SchemaNewer) as raised:
            use(store, SqliteDatabase(path))

        assert expected == str(raised.value)
    assert content == _schema(path)


def test_a_newer_store_that_still_serves_us_is_used(store: Store, path: Path) -> None:
    """A newer schema that names the program's revision as served is used, and left as it is."""
    upgrade(store, SqliteDatabase(path))
    _execute(path, "UPDATE alembic_version SET version_num = 'z9999'")
    _execute(path, "INSERT INTO served_revision VALUES ('z9999')")

    upgrade(store, SqliteDatabase(path))
    require_current(store, SqliteDatabase(path))

    with closing(SqliteDatabase(path).connect_reader()) as connection:
        stored = connection.execute("SELECT version_num FROM alembic_version").fetchone()

    assert ("z9999",) == stored


@pytest.mark.parametrize("exists", [True, False], ids=["empty", "missing"])
def test_an_older_store_is_refused_with_the_command(
    store: Store, tmp_path: Path, exists: bool
) -> None:
    """A store without the schema the program needs is refused with the command to run."""
    path = tmp_path / "store.db"
    if exists:
        sqlite3.connect(path).close()
        path.touch()
    expected = (
        f"the schema revision of the {store.label} is none, and this program needs "
        f"{known_revision(store)}: run `plugstatus migrate`"
    )

    with pytest.raises(errors.SchemaOlder) as raised:
        require_current(store, SqliteDatabase(path))

    assert expected == str(raised.value)
    assert exists == path.exists()


@pytest.mark.parametrize(
    "content", [b"not a database\n" * 500, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database_is_refused(
    store: Store, tmp_path: Path, content: bytes
) -> None:
    """A file that is something else is refused by name, and is not written to."""
    path = tmp_path / "store.db"
    path.write_bytes(content)

    for use in (upgrade, require_current):
        with pytest.raises(errors.StoreUnusable, match=r"store\.db"):
            use(store, SqliteDatabase(path))

    assert content == path.read_bytes()


def test_a_place_that_cannot_be_written_is_refused(store: Store, tmp_path: Path) -> None:
    """A path below a file, or one that is a folder, is refused by name."""
    (tmp_path / "file").touch()

    for path in (tmp_path / "file" / "store.db", tmp_path):
        with pytest.raises(errors.StoreUnusable, match=str(path)):
            upgrade(store, SqliteDatabase(path))


KILLED_UPGRADES = f"""{UPGRADE_KILLED_AT}
import sqlite3, sys
from pathlib import Path
from service.database.schema import Store

store, path, step = Store[sys.argv[1]], Path(sys.argv[2]), int(sys.argv[3])

for moment in itertools.count(1, step):
    child = os.fork()
    if child == 0:
        upgrade_killed_at(moment)
    _, status = os.waitpid(child, 0)
    connection = sqlite3.connect(path)
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    connection.close()
    if not os.WIFSIGNALED(status):
        print("finished", tables > 0, os.waitstatus_to_exitcode(status), flush=True)
        break
    print("killed", tables, flush=True)
"""


def test_an_upgrade_that_is_killed_has_not_happened(store: Store, tmp_path: Path) -> None:
    """Killed before any of its statements or its commit, an upgrade leaves nothing."""
    path = tmp_path / "store.db"
    step = "1" if store is Store.EVENT_LOG else "7"

    with child(KILLED_UPGRADES, store.name, str(path), step) as process:
        told = list(lines(process))

    assert ["killed 0"] * (len(told) - 1) + ["finished True 0"] == told
    assert len(told) > 5
    require_current(store, SqliteDatabase(path))


@pytest.mark.parametrize("before", ["new", "upgraded", "not in WAL mode"])
def test_the_appender_syncs_every_commit(path: Path, before: str) -> None:
    """The appender's own connection runs with WAL and synchronous=FULL, whatever came before."""
    upgrade(Store.EVENT_LOG, SqliteDatabase(path))
    if before == "upgraded":
        upgrade(Store.EVENT_LOG, SqliteDatabase(path))
    if before == "not in WAL mode":
        _execute(path, "PRAGMA journal_mode=DELETE")

    with closing(SqliteLogWriter(SqliteDatabase(path))) as writer:
        opened = pragmas_of(writer)
        writer.append([new_event()])
        used = pragmas_of(writer)

    expected = {"journal_mode": "wal", "synchronous": SYNCHRONOUS_FULL}

    assert [expected, expected] == [opened, used]


def test_every_writer_syncs_and_replaces_by_the_triggers(store: Store, path: Path) -> None:
    """A writing connection of either store is durable, and REPLACE asks the delete triggers."""
    upgrade(store, SqliteDatabase(path))

    with closing(SqliteDatabase(path).connect_writer()) as connection:
        pragmas = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "recursive_triggers", "mmap_size")
        ]

    assert ["wal", SYNCHRONOUS_FULL, 1, 0] == pragmas


def test_a_reader_cannot_write(store: Store, path: Path) -> None:
    """A reading connection is read-only, so it neither writes nor checkpoints."""
    upgrade(store, SqliteDatabase(path))

    with (
        closing(SqliteDatabase(path).connect_reader()) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("DELETE FROM served_revision")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/lib/a.db", "/var/lib/a.db"),
        ("sqlite:////var/a%20b/%3F.db", "/var/a b/?.db"),
        ("sqlite+pysqlite:////var/a.db", "/var/a.db"),
    ],
)
def test_a_database_url_names_a_file(url: str, expected: str) -> None:
    """A SQLite URL gives the path it names, escapes undone."""

    database = database_of("PLUGSTATUS_EVENTS_URL", url, Store.EVENT_LOG)

    assert isinstance(database, SqliteDatabase)
    assert Path(expected) == database.path


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////var/a.db?mode=ro",
        "sqlite:////var/a?b/c.db",
        "mysql://user:5ecr3t@host/db",
        "postgresql+asyncpg://user:5ecr3t@host/db",
        "postgresql://user:5ecr3t@host/",
        "/var/a.db",
        "",
    ],
)
def test_another_database_url_is_refused_by_variable(url: str) -> None:
    """Any other URL is refused with its variable and without its password."""
    with pytest.raises(errors.ConfigInvalid) as raised:
        database_of("PLUGSTATUS_EVENTS_URL", url, Store.EVENT_LOG)

    assert "PLUGSTATUS_EVENTS_URL" == raised.value.variable
    assert "5ecr3t" not in str(raised.value)


def test_a_library_that_is_too_old_is_refused(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written: transactions of the log take more parameters than it does."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))

    with pytest.raises(errors.StoreUnusable, match=r"needs 3\.32 or newer: take a newer Python"):
        upgrade(store, SqliteDatabase(path))
