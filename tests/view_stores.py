"""The implementations of the views, for the one suite that all of them pass.

A further implementation is one more entry of VIEW_STORES.
"""

import re
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from service.database.database import Connection
from service.database.schema import Store, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import Mark, Position
from service.domain.message import Message
from service.domain.status import Status
from service.views.feed import FeedEntry, FeedRow
from service.views.reader import StoredViewsReader
from service.views.store import Checkpoint, EncodedMessage, ViewsBatch, ViewsReader, ViewsWriter
from service.views.writer import StoredViewsWriter
from service.wire import encode
from service.wire.cursor import CursorCodec
from tests.domain_values import NOW_US
from tests.postgres import connected, database_url, store_at
from tests.sqlite_stores import connection_of

_SMALL_TABLES = {"views", "generations"}

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
    def finds_by_index(self, plan: Sequence[str]) -> bool:
        """No step looks at a whole table or sorts, but for tables of a row or two."""

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

    def finds_by_index(self, plan: Sequence[str]) -> bool:
        return all(
            re.match(r"SEARCH \w+ USING |(CORRELATED )?SCALAR SUBQUERY|LIST SUBQUERY", step)
            # The list that was given, as a table.
            or step.startswith("SCAN given VIRTUAL TABLE")
            or ((scan := re.fullmatch(r"SCAN (\w+)", step)) and scan[1] in _SMALL_TABLES)
            for step in plan
        )

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


class PostgresViews(ViewsUnderTest):
    def __init__(self, folder: Path) -> None:
        self._url = database_url(folder)
        self._database = store_at(self._url, Store.VIEWS)

    def open_writer(self, log_identity: str = LOG) -> ViewsWriter:
        return StoredViewsWriter(self._database, log_identity)

    def open_reader(self) -> ViewsReader:
        return StoredViewsReader(self._database)

    def finds_by_index(self, plan: Sequence[str]) -> bool:
        text = "\n".join(plan)
        scanned = re.findall(r"Seq Scan on (\w+)", text)
        return set(scanned) <= _SMALL_TABLES and "Sort" not in text

    def plans(self, read: Callable[[Any], object]) -> dict[str, list[str]]:
        return self._plans(StoredViewsReader(self._database), read)

    def write_plans(self, read: Callable[[Any], object]) -> dict[str, list[str]]:
        return self._plans(StoredViewsWriter(self._database, LOG), read)

    def _plans(
        self, store: StoredViewsReader | StoredViewsWriter, read: Callable[[Any], object]
    ) -> dict[str, list[str]]:
        ran: dict[str, tuple[Any, ...]] = {}
        with closing(store):
            overheard = _Overhearing(store._connection, ran)
            store._connection = overheard
            read(store)
        with connected(self._url) as connection:
            connection.execute("SET search_path = plugstatus_views")
            # Small tables are read whole, which says nothing of large ones.
            for way in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin"):
                connection.execute(f"SET enable_{way} = off".encode())
            return {
                sql: [row[0] for row in connection.execute(f"EXPLAIN {sql}".encode(), parameters)]
                for sql, parameters in ran.items()
            }


class _Overhearing:
    """A connection that notes the queries it is asked."""

    def __init__(self, connection: Connection, ran: dict[str, tuple[Any, ...]]) -> None:
        self._connection = connection
        self._ran = ran

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        self._ran[sql] = tuple(parameters)
        return self._connection.execute(sql, parameters)

    def each(self, sql: str, parameters: Any) -> Any:
        every = list(parameters)
        if every:
            self._ran[sql] = tuple(every[0])
        return self._connection.each(sql, every)


VIEW_STORES: dict[str, type[ViewsUnderTest]] = {
    "sqlite": SqliteViews,
    "postgres": PostgresViews,
}


def as_told(message: Message) -> EncodedMessage:
    """What the reader has to say of it."""
    encoded = encode.message(message, CursorCodec(LOG))
    return EncodedMessage(message.instance, message.message_id, int(message.status), encoded)


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
        "position": position,
        "report_index": index,
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
