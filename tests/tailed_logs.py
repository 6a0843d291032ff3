"""Logs that a reader can follow while others append: the service's, and one that loses events."""

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import uuid4

import psycopg

from service import errors
from service.database.schema import Store
from service.domain.events import EventKind, NewEvent, Position
from service.eventlog.postgres import PostgresLogWriter
from service.eventlog.reader import StoredLogReader
from tests.domain_values import NOW_US
from tests.postgres import connected, store_at

_PLENTY = 1 << 30


class Log(ABC):
    """How to append to a log, and how to follow it."""

    name: ClassVar[str]

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def make(self) -> None: ...

    @abstractmethod
    def append(self, contents: Sequence[bytes]) -> None:
        """Once it returns they are acknowledged."""

    @abstractmethod
    def insert(self, connection: "psycopg.Connection[Any]", contents: Sequence[bytes]) -> None:
        """The same inside somebody's transaction."""

    @abstractmethod
    def read(self, after: int) -> list[tuple[int, bytes]]:
        """The next events behind that position, as a tailing reader gets them."""

    @abstractmethod
    def close(self) -> None:
        """What the reader has open."""

    @abstractmethod
    def everything(self) -> list[tuple[int, bytes]]:
        """In the end, in order of position."""


class OurLog(Log):
    name = "ours"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._own = threading.local()
        self._reader: StoredLogReader | None = None

    def make(self) -> None: ...

    def append(self, contents: Sequence[bytes]) -> None:
        writer: PostgresLogWriter | None = getattr(self._own, "writer", None)
        if writer is None:
            writer = self._own.writer = PostgresLogWriter(store_at(self.url, Store.EVENT_LOG))
        try:
            writer.append([NewEvent("acme", NOW_US, EventKind.CALLBACK, one) for one in contents])
        except errors.LogUnavailable:
            writer.close()
            self._own.writer = None
            raise

    def insert(self, connection: "psycopg.Connection[Any]", contents: Sequence[bytes]) -> None:
        connection.execute("SET LOCAL search_path = plugstatus_events")
        count = len(contents)
        connection.execute(
            "SELECT append_events($1, 0, 1, $2::text[], $3::bigint[], $4::integer[], $5::bytea[])",
            (uuid4().hex, ["acme"] * count, [NOW_US] * count, [1] * count, [*contents]),
        )

    def read(self, after: int) -> list[tuple[int, bytes]]:
        try:
            if self._reader is None:
                self._reader = StoredLogReader(store_at(self.url, Store.EVENT_LOG))
            found = self._reader.read(Position(after), 500, _PLENTY)
        except (errors.LogUnavailable, errors.StoreUnusable):
            # It was the one to be cut off.
            self.close()
            self._reader = None
            return []
        return [(event.position, event.content) for event in found]

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def everything(self) -> list[tuple[int, bytes]]:
        with connected(self.url) as connection:
            return connection.execute(
                "SELECT position, content FROM plugstatus_events.events ORDER BY position"
            ).fetchall()


class NaiveLog(Log):
    """Positions from a sequence, read behind the last one seen: what it takes to lose events."""

    name = "naive"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._held = contextlib.ExitStack()
        self._reading: psycopg.Connection[tuple[Any, ...]] | None = None

    def make(self) -> None:
        with connected(self.url) as connection:
            connection.execute(
                "CREATE TABLE naive (position bigserial PRIMARY KEY, content bytea NOT NULL)"
            )

    def append(self, contents: Sequence[bytes]) -> None:
        with connected(self.url) as connection, connection.transaction():
            self.insert(connection, contents)

    def insert(self, connection: "psycopg.Connection[Any]", contents: Sequence[bytes]) -> None:
        connection.execute(
            "INSERT INTO naive (content) SELECT * FROM unnest($1::bytea[])", ([*contents],)
        )

    def read(self, after: int) -> list[tuple[int, bytes]]:
        if self._reading is None:
            self._reading = self._held.enter_context(connected(self.url))
        return self._reading.execute(
            "SELECT position, content FROM naive WHERE position > $1 ORDER BY position LIMIT 500",
            (after,),
        ).fetchall()

    def close(self) -> None:
        self._held.close()

    def everything(self) -> list[tuple[int, bytes]]:
        with connected(self.url) as connection:
            return connection.execute(
                "SELECT position, content FROM naive ORDER BY position"
            ).fetchall()


LOGS: dict[str, type[Log]] = {log.name: log for log in (OurLog, NaiveLog)}
