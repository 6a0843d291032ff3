"""What tests see of a store's SQLite connection."""

from typing import Protocol, cast

from service.database.database import Connection
from service.database.sqlite import SqliteConnection


class _Store(Protocol):
    _connection: Connection


def connection_of(store: _Store) -> SqliteConnection:
    """The very connection of an embedded store."""
    connection = store._connection
    assert isinstance(connection, SqliteConnection)
    return connection


def any_connection_of(store: object) -> Connection:
    """The same of any store."""
    return cast("_Store", store)._connection


def pragmas_of(store: _Store) -> dict[str, str | int]:
    """What it runs with: the journal mode and the synchronous level."""
    return {
        name: connection_of(store).execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    }
