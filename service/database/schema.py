"""Schema revisions of the two stores: read, upgraded, or refused with a sentence.

A store names in its table `served_revision` the programs that may still use it: the revision it
was created for, and each later one whose migration only added to it. So a newer process can
upgrade a store under an older one, and a program refuses a store that no longer serves it.
"""

import enum
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from service import errors
from service.database.database import Connection, Database


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


class _Found(NamedTuple):
    revision: str
    """Empty: there is no store."""
    served: frozenset[str]


def state(store: Store, database: Database) -> StoreState:
    """Raises StoreUnusable if the database cannot be read."""
    with closing(database.connect_reader()) as connection:
        found = _found(connection, database)
        engine, version = connection.dialect.value, connection.engine_version
    return StoreState(store.short_name, engine, version, found.revision)


COPYING = "copying"
"""In place of a revision: a copy into this store is not finished."""


def stored_revision(connection: Connection) -> str:
    """Empty: there is no store. Raises what the driver does."""
    if not connection.has_table("alembic_version"):
        return ""
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""


def mark(connection: Connection, revision: str) -> None:
    """Raises what the driver does."""
    connection.execute(f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608


def known_revision(store: Store) -> str:
    """The newest revision this program brings."""
    return max(_revisions(store))


def upgrade(store: Store, database: Database) -> str:
    """Create the store if it is missing, bring it to the newest revision, and return that.

    All of it is one transaction: killed in the middle, it has not happened. Several at once wait
    for each other, and the later ones find nothing to do.
    Raises SchemaNewer if the store no longer serves this program, StoreUnusable if the database
    cannot be written.
    """
    if not database.exists() or not _is_current(store, database):
        # Alembic takes a tenth of a start to be imported, and nearly every start finds a store that
        # is what it should be.
        from service.database import migration

        with database.migrating() as connection:
            migration.upgrade(_migrations_folder() / store.folder, connection)
    return known_revision(store)


def require_current(store: Store, database: Database) -> None:
    """Raises SchemaOlder, SchemaNewer or StoreUnusable unless this program can use the store."""
    if not database.exists():
        raise errors.SchemaOlder(store.label, "", known_revision(store))
    if not _is_current(store, database):
        raise errors.SchemaOlder(store.label, _stored(database).revision, known_revision(store))


def _is_current(store: Store, database: Database) -> bool:
    found, known = _stored(database), known_revision(store)
    if found.revision == known:
        return True
    if found.revision == "" or found.revision in _revisions(store):
        return False
    if found.revision == COPYING:
        raise errors.StoreUnusable(
            f"{database.name}: a copy into this {store.label} was not finished: run "
            "`plugstatus copy` again"
        )
    if known in found.served:
        return True
    raise errors.SchemaNewer(store.label, found.revision, known)


def _stored(database: Database) -> _Found:
    with closing(database.connect_reader()) as connection:
        return _found(connection, database)


def _found(connection: Connection, database: Database) -> _Found:
    try:
        revision, served = stored_revision(connection), frozenset[str]()
        if connection.has_table("served_revision"):
            rows = connection.execute("SELECT revision FROM served_revision").fetchall()
            served = frozenset(str(row[0]) for row in rows)
    except connection.faults as error:
        raise errors.StoreUnusable(f"{database.name} is not a usable database: {error}") from error
    return _Found(revision, served)


def _revisions(store: Store) -> set[str]:
    """As the migrations' file names begin with them: rising, one line without branches."""
    versions = _migrations_folder() / store.folder / "versions"
    return {file.stem.partition("_")[0] for file in versions.glob("*.py")}


def _migrations_folder() -> Path:
    """Beside the package in a checkout, inside it when installed from a wheel."""
    package = Path(__file__).parents[1]
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"
