"""The implementations of the event log, for the one suite that all of them pass.

A further implementation is one more entry of LOGS.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from service.database.schema import Store, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import Event, EventKind, NewEvent, Position
from service.eventlog.log import LogReader, LogWriter
from service.eventlog.postgres import PostgresLogWriter
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from tests.domain_values import NOW_US
from tests.postgres import bring_back, connected, database_url, store_at, take_away


class LogUnderTest(ABC):
    """One empty log, and ways to reach its database past the service."""

    refusals: ClassVar[tuple[type[Exception], ...]]
    """What a foreign connection gets when the database itself refuses a statement."""

    forbidden: ClassVar[tuple[str, ...]]
    """Statements beside the portable ones that would rewrite the log, whose head is at 5."""

    @abstractmethod
    def __init__(self, folder: Path) -> None: ...

    @abstractmethod
    def open_writer(self) -> LogWriter: ...

    @abstractmethod
    def open_reader(self) -> LogReader: ...

    @abstractmethod
    def execute(self, sql: str) -> None:
        """Run a statement on a connection that is not the service's."""

    @abstractmethod
    def positions(self) -> list[int]:
        """Of every event in the table, whether or not retention shows it still."""

    @abstractmethod
    def erase(self, position: Position, tombstone: bytes) -> None:
        """What erasure does to an event."""

    @abstractmethod
    def keep_from(self, position: Position) -> None:
        """What retention does: say what is kept, then remove what stands before it."""

    @abstractmethod
    def refuse(self, instance: str) -> None:
        """Make the database refuse every further event of the instance."""

    @abstractmethod
    def take_away(self) -> None:
        """Make the database one that cannot be opened. Nobody has it open."""

    @abstractmethod
    def bring_back(self) -> None:
        """Undo `take_away`."""


_POSITIONS = "SELECT position FROM events ORDER BY position"
_COLUMNS = "position, instance, receive_time_us, receive_time_max_us, kind, content"
_VALUES = f"'acme', {NOW_US}, {NOW_US}, 1, x'00'"
_POSTGRES_VALUES = f"'acme', {NOW_US}, {NOW_US}, 1, '0'"


class SqliteLog(LogUnderTest):
    refusals = (sqlite3.IntegrityError,)
    forbidden = (
        f"INSERT OR REPLACE INTO events ({_COLUMNS}) VALUES (3, {_VALUES})",
        f"REPLACE INTO events ({_COLUMNS}) VALUES (5, {_VALUES})",
        f"INSERT INTO events ({_COLUMNS}) VALUES (3, {_VALUES}) "
        "ON CONFLICT (position) DO UPDATE SET content = excluded.content",
        f"INSERT INTO events ({_COLUMNS}) VALUES (3, {_VALUES}) "
        "ON CONFLICT DO UPDATE SET position = 9",
        "UPDATE OR REPLACE events SET position = 4 WHERE position = 3",
        "UPDATE events SET rowid = 9 WHERE position = 5",
        "INSERT OR REPLACE INTO log (identity, kept_from) VALUES ('0', 9)",
    )

    def __init__(self, folder: Path) -> None:
        self._path = folder / "events.db"
        upgrade(Store.EVENT_LOG, SqliteDatabase(self._path))

    def open_writer(self) -> LogWriter:
        return SqliteLogWriter(SqliteDatabase(self._path))

    def open_reader(self) -> LogReader:
        return StoredLogReader(SqliteDatabase(self._path))

    def execute(self, sql: str) -> None:
        self._run((sql, ()))

    def positions(self) -> list[int]:
        with closing(sqlite3.connect(self._path)) as connection:
            return [row[0] for row in connection.execute(_POSITIONS)]

    def erase(self, position: Position, tombstone: bytes) -> None:
        sql = "UPDATE events SET kind = ?, content = ? WHERE position = ?"
        self._run((sql, (EventKind.TOMBSTONE, tombstone, position)))

    def keep_from(self, position: Position) -> None:
        self._run(
            ("UPDATE log SET kept_from = ?", (position,)),
            ("DELETE FROM events WHERE position < ?", (position,)),
        )

    def refuse(self, instance: str) -> None:
        self.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.instance = '{instance}' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )

    def take_away(self) -> None:
        self._path.rename(self._path.with_suffix(".away"))

    def bring_back(self) -> None:
        self._path.with_suffix(".away").rename(self._path)

    def _run(self, *statements: tuple[str, Sequence[Any]]) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            for sql, parameters in statements:
                connection.execute(sql, parameters)


class PostgresLog(LogUnderTest):
    refusals = (psycopg.errors.IntegrityError,)
    forbidden = (
        f"INSERT INTO events ({_COLUMNS}) VALUES (3, {_POSTGRES_VALUES}) "
        "ON CONFLICT (position) DO UPDATE SET content = excluded.content",
        f"INSERT INTO events ({_COLUMNS}) VALUES (0, {_POSTGRES_VALUES})",
        "MERGE INTO events USING (SELECT 3 AS at) AS given ON position = at "
        "WHEN MATCHED THEN DELETE",
        "TRUNCATE events",
        "TRUNCATE log",
        "SELECT * FROM append_events('a', 0, 1, '{acme}', '{1}', '{NULL}', '{a}')",
    )

    def __init__(self, folder: Path) -> None:
        self._url = database_url(folder)
        self._database = store_at(self._url, Store.EVENT_LOG)

    def open_writer(self) -> LogWriter:
        return PostgresLogWriter(self._database)

    def open_reader(self) -> LogReader:
        return StoredLogReader(self._database)

    def execute(self, sql: str) -> None:
        self._run((sql, ()))

    def positions(self) -> list[int]:
        with connected(self._url) as connection:
            connection.execute("SET search_path = plugstatus_events")
            return [row[0] for row in connection.execute(_POSITIONS)]

    def erase(self, position: Position, tombstone: bytes) -> None:
        sql = "UPDATE events SET kind = $1, content = $2 WHERE position = $3"
        self._run((sql, (int(EventKind.TOMBSTONE), tombstone, position)))

    def keep_from(self, position: Position) -> None:
        self._run(
            ("UPDATE log SET kept_from = $1", (position,)),
            ("DELETE FROM events WHERE position < $1", (position,)),
        )

    def refuse(self, instance: str) -> None:
        self.execute(
            f"CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW "
            f"WHEN (NEW.instance = '{instance}') EXECUTE FUNCTION refuse('refused')"
        )

    def take_away(self) -> None:
        take_away(self._url)

    def bring_back(self) -> None:
        bring_back(self._url)

    def _run(self, *statements: tuple[str, Sequence[Any]]) -> None:
        with connected(self._url) as connection, connection.transaction():
            connection.execute("SET LOCAL search_path = plugstatus_events")
            for sql, parameters in statements:
                connection.execute(sql.encode(), parameters)


LOGS: dict[str, type[LogUnderTest]] = {"sqlite": SqliteLog, "postgres": PostgresLog}


def new_event(content: bytes = b"{}", **given: Any) -> NewEvent:
    """A callback of acme, received at NOW_US."""
    values: dict[str, Any] = {
        "instance": "acme",
        "receive_time_us": NOW_US,
        "kind": EventKind.CALLBACK,
    }
    return NewEvent(content=content, **(values | given))


def appended(log: LogUnderTest, *events: NewEvent) -> list[Event]:
    """Append the events as one batch with a writer of its own, and say how they read."""
    with closing(log.open_writer()) as writer:
        first = writer.append(events)
    return [
        Event(
            Position(first + offset),
            event.instance,
            event.receive_time_us,
            event.kind,
            event.content,
        )
        for offset, event in enumerate(events)
    ]
