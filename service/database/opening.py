"""From a URL in the settings to the database it names."""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from service import errors
from service.database.database import Database
from service.database.schema import Store
from service.database.sqlite import SqliteDatabase

_POSTGRES = {"postgresql", "postgresql+psycopg"}
_SCHEMAS = {Store.EVENT_LOG: "plugstatus_events", Store.VIEWS: "plugstatus_views"}


def is_postgres(url_text: str) -> bool:
    return url_text.partition(":")[0] in _POSTGRES


def database_of(variable: str, url_text: str, store: Store) -> Database:
    """Raises ConfigInvalid, without showing the URL: it may hold a password."""
    try:
        url = make_url(url_text)
    except ArgumentError:
        raise errors.ConfigInvalid(
            variable,
            "not a database URL: write sqlite:///path/to/file.db or "
            "postgresql://user@host/database",
        ) from None
    if url.get_backend_name() == "sqlite":
        return SqliteDatabase(_path(variable, url, url_text))
    if url.drivername not in _POSTGRES:
        raise errors.ConfigInvalid(
            variable, "is neither sqlite:/// nor postgresql://: leave it unset, or name one of them"
        )
    if not url.database:
        raise errors.ConfigInvalid(
            variable, "names no database: write postgresql://user@host/database"
        )
    # Not at the top: the driver takes a tenth of a second to load, and SQLite needs none of it.
    from service.database.postgres import PostgresDatabase

    return PostgresDatabase(url.set(drivername="postgresql+psycopg"), _SCHEMAS[store])


def _path(variable: str, url: URL, url_text: str) -> Path:
    if not url.database or url.database == ":memory:" or "?" in url_text:
        raise errors.ConfigInvalid(
            variable, "must name a file without options: sqlite:///path/to/file.db"
        )
    return Path(url.database).absolute()
