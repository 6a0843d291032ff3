"""The stores of a test's data folder: files in it, or a fresh PostgreSQL database for it.

Which of them, PLUGSTATUS_TEST_STORES says: `sqlite`, the default, or `postgres`. Modules marked
`both_stores` run once with each; child processes are told by the same variable.
"""

import os
from pathlib import Path
from typing import Any

from service import config
from service.config import Config, Limits
from service.database.schema import Store, upgrade
from service.eventlog.log import LogWriter
from service.stores import Stores
from tests.postgres import connected, database_url

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


def without_views(data_dir: Path) -> None:
    """Delete the views, and make empty ones in their place."""
    if on_postgres():
        with connected(database_url(data_dir)) as connection:
            connection.execute("DROP SCHEMA plugstatus_views CASCADE")
    else:
        for file in data_dir.glob("views.db*"):
            file.unlink()
    upgrade(Store.VIEWS, stores_of(data_dir).views)


def rows(data_dir: Path, store: Store, sql: str) -> list[tuple[Any, ...]]:
    """What a query finds in a store, past what the service makes of it."""
    stores = stores_of(data_dir)
    database = stores.events if store is Store.EVENT_LOG else stores.views
    connection = database.connect_reader()
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
