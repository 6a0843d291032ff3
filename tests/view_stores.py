"""The implementations of the views, for the one suite that all of them pass.

A further implementation is one more entry of VIEW_STORES.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from service.database.schema import Store, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import Mark, Place, Position
from service.domain.status import Status
from service.views.reader import StoredViewsReader
from service.views.store import (
    Checkpoint,
    FeedEntry,
    FeedRow,
    ViewsBatch,
    ViewsReader,
    ViewsWriter,
)
from service.views.writer import StoredViewsWriter
from tests.domain_values import NOW_US
from tests.sqlite_stores import connection_of

LOG = "0123456789abcdef" * 2
"""The log whose views these are."""


class ViewsUnderTest(ABC):
    """New views of LOG, and how their database would answer."""

    @abstractmethod
    def __init__(self, folder: Path) -> None: ...

    @abstractmethod
    def open_writer(self, log_identity: str = LOG) -> ViewsWriter: ...

    @abstractmethod
    def open_reader(self) -> ViewsReader: ...

    @abstractmethod
    def plans(self, read: Callable[[Any], object]) -> dict[str, list[str]]:
        """Steps of the database's plan of each statement that a read runs on a reader."""

    @abstractmethod
    def write_plans(self, read: Callable[[Any], object]) -> dict[str, list[str]]:
        """The same of a read on a writer."""


class SqliteViews(ViewsUnderTest):
    def __init__(self, folder: Path) -> None:
        self._path = folder / "views.db"
        upgrade(Store.VIEWS, SqliteDatabase(self._path))

    def open_writer(self, log_identity: str = LOG) -> ViewsWriter:
        return StoredViewsWriter(SqliteDatabase(self._path), log_identity)

    def open_reader(self) -> ViewsReader:
        return StoredViewsReader(SqliteDatabase(self._path))

    def plans(self, read: Callable[[Any], object]) -> dict[str, list[str]]:
        return self._plans(StoredViewsReader(SqliteDatabase(self._path)), read)

    def write_plans(self, read: Callable[[Any], object]) -> dict[str, list[str]]:
        return self._plans(StoredViewsWriter(SqliteDatabase(self._path), LOG), read)

    def _plans(
        self, store: StoredViewsReader | StoredViewsWriter, read: Callable[[Any], object]
    ) -> dict[str, list[str]]:
        ran: list[str] = []
        with closing(store):
            connection_of(store).set_trace_callback(ran.append)
            read(store)
        with closing(sqlite3.connect(self._path)) as connection:
            return {
                sql: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
                for sql in ran
            }


VIEW_STORES: dict[str, type[ViewsUnderTest]] = {"sqlite": SqliteViews}


def mark(position: int) -> Mark:
    """The mark of an event received `position` seconds after NOW_US."""
    return Mark(Position(position), NOW_US + position * 1_000_000)


def batch(since: Checkpoint, until: int, **given: Any) -> ViewsBatch:
    """A batch from a checkpoint to an event, with nothing but what is given."""
    values: dict[str, Any] = {
        "messages": (),
        "recipients": (),
        "feed": (),
        "quarantine": (),
        "webhooks": (),
        "instances": (),
    }
    return ViewsBatch(since=since, until=mark(until), **(values | given))


def feed_entry(position: int, index: int = 0, **given: Any) -> FeedEntry:
    """A changed feed row of the message M of acme."""
    values: dict[str, Any] = {
        "place": Place(Position(position), index),
        "receive_time_us": mark(position).receive_time_us,
        "instance": "acme",
        "message_id": "M",
        "phone": "5544999999999",
        "status": Status.SENT,
        "changed": True,
        "change": b"change",
    }
    row = FeedRow(**(values | given))
    return FeedEntry(row, b"report %d %d" % (position, index))
