"""Schema revisions of the two stores: read, upgraded, or refused with a sentence.

A store names in its table `served_revision` the programs that may still use it: the revision it
was created for, and each later one whose migration only added to it. So a newer process can
upgrade a store under an older one, and a program refuses a store that no longer serves it.
"""

import enum
import sqlite3
from pathlib import Path
from typing import NamedTuple

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, NullPool, create_engine, event

from service import errors
from service.database.sqlite import connect_reader, connect_writer


class Store(enum.Enum):
    """A store's name for people, and the folder of its migrations."""

    EVENT_LOG = ("event log", "eventlog")
    VIEWS = ("views", "views")

    @property
    def label(self) -> str:
        return self.value[0]

    @property
    def folder(self) -> str:
        return self.value[1]

    @property
    def short_name(self) -> str:
        """As the settings have it: EVENTS_URL, VIEWS_URL."""
        return "events" if self is Store.EVENT_LOG else "views"


class StoreState(NamedTuple):
    """What a store runs on, for people."""

    name: str
    engine: str
    engine_version: str
    revision: str


def sqlite_state(store: Store, path: Path) -> StoreState:
    """Raises StoreUnusable if the file cannot be read."""
    return StoreState(store.short_name, "sqlite", sqlite3.sqlite_version, _stored_revision(path))


def known_revision(store: Store) -> str:
    """The newest revision this program brings."""
    head = ScriptDirectory.from_config(_alembic_config(store)).get_current_head()
    assert head is not None
    return head


def upgrade_sqlite(store: Store, path: Path) -> str:
    """Create the file if it is missing, bring it to the newest revision, and return that.

    Each migration is one transaction: killed in the middle, it has not happened.
    Raises SchemaNewer if the store no longer serves this program, StoreUnusable if the file or
    its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise errors.StoreUnusable(f"{path} cannot be written: {error.strerror}") from error
    connect_writer(path).close()
    if not _is_current(store, path):
        # A pool would keep a second writing connection of the file alive.
        engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin_immediate)
        with engine.begin() as connection:
            config = _alembic_config(store)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    return known_revision(store)


def require_current_sqlite(store: Store, path: Path) -> None:
    """Raises SchemaOlder, SchemaNewer or StoreUnusable unless this program can use the file."""
    if not path.exists():
        raise errors.SchemaOlder(store.label, "", known_revision(store))
    if not _is_current(store, path):
        raise errors.SchemaOlder(store.label, _stored_revision(path), known_revision(store))


def _is_current(store: Store, path: Path) -> bool:
    stored, known = _stored_revision(path), known_revision(store)
    if stored == known:
        return True
    scripts = ScriptDirectory.from_config(_alembic_config(store))
    revisions = {script.revision for script in scripts.walk_revisions()}
    if stored == "" or stored in revisions:
        return False
    if known in _served_revisions(path):
        return True
    raise errors.SchemaNewer(store.label, stored, known)


def _stored_revision(path: Path) -> str:
    rows = _rows_or_none(path, "SELECT version_num FROM alembic_version")
    return str(rows[0][0]) if rows else ""


def _served_revisions(path: Path) -> set[str]:
    return {str(row[0]) for row in _rows_or_none(path, "SELECT revision FROM served_revision")}


def _rows_or_none(path: Path, sql: str) -> list[tuple[object, ...]]:
    """The rows, or none where the table is missing. Raises StoreUnusable for a damaged file."""
    connection = connect_reader(path)
    try:
        return connection.execute(sql).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise errors.StoreUnusable(f"{path} cannot be read: {error}") from error
    except sqlite3.DatabaseError as error:
        raise errors.StoreUnusable(f"{path} is not a usable database: {error}") from error
    finally:
        connection.close()


def _alembic_config(store: Store) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations_folder() / store.folder))
    config.set_main_option("path_separator", "os")
    return config


def _migrations_folder() -> Path:
    """Beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def _leave_transactions_to_us(connection: sqlite3.Connection, _: object) -> None:
    # The driver would begin some transactions by itself, and take the write lock late.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
