"""The stores of a test's data folder: files in it, or a fresh PostgreSQL database for it.

Which of them, PLUGSTATUS_TEST_STORES says: `sqlite`, the default, or `postgres`. Modules marked
`both_stores` run once with each; child processes are told by the same variable.
"""

import itertools
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from service import config
from service.config import Config, Limits
from service.database.database import Database
from service.database.schema import Store, upgrade
from service.eventlog.log import LogWriter
from service.stores import Stores
from tests.postgres import connected, copied_database, database_url

VARIABLE = "PLUGSTATUS_TEST_STORES"


def on_postgres() -> bool:
    return os.environ.get(VARIABLE) == "postgres"


def settings_of(data_dir: Path) -> dict[str, str]:
    """By setting name."""
    settings = {"DATA_DIR": str(data_dir)}
    return settings | {"EVENTS_URL": database_url(data_dir)} if on_postgres() else settings


def loaded(data_dir: Path, **more: str) -> Config:
    return config.load(settings_of(data_dir) | more)


def stores_of(data_dir: Path) -> Stores:
    """Made if they are missing."""
    stores = Stores(loaded(data_dir))
    if stores.embedded and not stores.exist():
        data_dir.mkdir(parents=True, exist_ok=True)
        stores.upgrade()
    return stores


def log_writer(data_dir: Path) -> LogWriter:
    return stores_of(data_dir).log_writer_opener(None, Limits())()


def copied(original: Path, data_dir: Path) -> Path:
    """A copy of a data folder, stores and all; nobody has them open. Its path."""
    shutil.copytree(original, data_dir)
    if on_postgres():
        copied_database(original, data_dir)
    return data_dir


def without_views(data_dir: Path) -> None:
    """Delete the views, and make empty ones in their place."""
    if on_postgres():
        with connected(database_url(data_dir)) as connection:
            connection.execute("DROP SCHEMA plugstatus_views CASCADE")
    else:
        for file in data_dir.glob("views.db*"):
            file.unlink()
    upgrade(Store.VIEWS, stores_of(data_dir).views)


def change(data_dir: Path, store: Store, sql: str, *parameters: Any) -> int:
    """Do something to a store past the service, `?` for parameters; how many rows it changed."""
    numbers = itertools.count(1)
    if on_postgres():
        sql = re.sub(r"\?", lambda _: f"${next(numbers)}", sql)
        sql = re.sub(r"x'(\w+)'", r"'\\x\1'", sql)
    with closing(_database(data_dir, store).connect_writer()) as connection:
        return connection.execute(sql, parameters).rowcount


@contextmanager
def views_held(data_dir: Path) -> Iterator[None]:
    """Nobody can write the views meanwhile."""
    if on_postgres():
        with connected(database_url(data_dir)) as shared, shared.transaction():
            shared.execute("LOCK TABLE plugstatus_views.generations IN EXCLUSIVE MODE")
            yield
    else:
        path = data_dir / "views.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as views:
            views.execute("BEGIN IMMEDIATE")
            yield
            views.execute("ROLLBACK")


def rows(data_dir: Path, store: Store, sql: str) -> list[tuple[Any, ...]]:
    """What a query finds in a store, past what the service makes of it."""
    with closing(_database(data_dir, store).connect_reader()) as connection:
        return connection.execute(sql).fetchall()


def _database(data_dir: Path, store: Store) -> Database:
    stores = stores_of(data_dir)
    return stores.events if store is Store.EVENT_LOG else stores.views
