"""The event log in one SQLite file."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from sqlalchemy import bindparam, select

from service import errors
from service.database import statements
from service.database.sqlite import close_writer, connect_reader, connect_writer
from service.domain.events import BEFORE_FIRST, ORIGIN, Event, EventKind, Mark, NewEvent, Position
from service.eventlog.tables import events, log

# One statement a batch. The bodies travel joined in one blob and are cut out by place and
# length, because a JSON function handed the bodies themselves would rewrite them. The rows keep
# the order of the array, so positions do too. One byte leads the blob: a part of an empty one
# would be NULL.
_INSERT = """
INSERT INTO events (instance, receive_time_us, receive_time_max_us, kind, content)
SELECT json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]'),
       json_extract(value, '$[5]'),
       substr(?1, json_extract(value, '$[0]'), json_extract(value, '$[1]'))
FROM json_each(?2)
"""
_LEAD = b"\0"

_HEAD = statements.for_sqlite(
    select(events.c.position, events.c.receive_time_us, events.c.receive_time_max_us)
    .order_by(events.c.position.desc())
    .limit(1)
).sql
_MARK = statements.for_sqlite(
    select(events.c.position, events.c.receive_time_us).where(
        events.c.position == bindparam("position")
    )
).sql
_READ = statements.for_sqlite(
    select(
        events.c.position,
        events.c.instance,
        events.c.receive_time_us,
        events.c.kind,
        events.c.content,
    )
    .where(events.c.position > bindparam("after"))
    .order_by(events.c.position)
    .limit(bindparam("events_max"))
).sql
_RECEIVED = statements.for_sqlite(
    select(events.c.position, events.c.receive_time_max_us)
    .where(events.c.position >= bindparam("position"))
    .order_by(events.c.position)
    .limit(1)
).sql
_IDENTITY = statements.for_sqlite(select(log.c.identity)).sql
_KEPT_FROM = statements.for_sqlite(select(log.c.kept_from)).sql


class SqliteLogWriter:
    """The file's one writing connection."""

    def __init__(self, path: Path) -> None:
        """Raises StoreUnusable if the file cannot be opened."""
        self._connection = connect_writer(path)
        with _translated():
            head = self._connection.execute(_HEAD).fetchone()
        self._receive_time_max_us: int = head[2] if head else 0

    def append(self, events: Sequence[NewEvent]) -> Position:
        assert events
        receive_time_max_us = self._receive_time_max_us
        offset = len(_LEAD) + 1
        rows = []
        for event in events:
            receive_time_max_us = max(receive_time_max_us, event.receive_time_us)
            length = len(event.content)
            rows.append(
                (
                    offset,
                    length,
                    event.instance,
                    event.receive_time_us,
                    receive_time_max_us,
                    event.kind,
                )
            )
            offset += length
        contents = b"".join([_LEAD, *[event.content for event in events]])
        with _translated():
            last = self._insert(contents, msgspec.json.encode(rows).decode())
        self._receive_time_max_us = receive_time_max_us
        return Position(last - len(rows) + 1)

    def pragmas(self) -> dict[str, str | int]:
        """What this very connection runs with: the journal mode and the synchronous level."""
        return {
            name: self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        }

    def close(self) -> None:
        close_writer(self._connection)

    def _insert(self, contents: bytes, rows: str) -> int:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            last = connection.execute(_INSERT, (contents, rows)).lastrowid
            connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself after some faults, and then refuses to do it again.
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        assert last is not None
        return last


class SqliteLogReader:
    """A read-only connection of the log's file."""

    def __init__(self, path: Path) -> None:
        """Raises StoreUnusable if the file cannot be opened."""
        self._connection = connect_reader(path)
        with _translated():
            self._identity = str(self._connection.execute(_IDENTITY).fetchone()[0])

    @property
    def identity(self) -> str:
        return self._identity

    def head(self) -> Mark:
        with _translated():
            row = self._connection.execute(_HEAD).fetchone()
        return Mark(row[0], row[1]) if row else ORIGIN

    def mark(self, position: Position) -> Mark | None:
        if position == BEFORE_FIRST:
            return ORIGIN
        with _translated():
            row = self._connection.execute(_MARK, (position,)).fetchone()
        return Mark(*row) if row else None

    def event(self, position: Position) -> Event | None:
        found = self.read(Position(position - 1), events_max=1, bytes_max=1)
        return found[0] if found and found[0].position == position else None

    def kept_from(self) -> Position:
        with _translated():
            return Position(self._connection.execute(_KEPT_FROM).fetchone()[0])

    def read(self, after: Position, events_max: int, bytes_max: int) -> list[Event]:
        found: list[Event] = []
        bytes_left = bytes_max
        with _translated():
            rows = self._connection.execute(_READ, (after, events_max))
            for position, instance, receive_time_us, kind, content in rows:
                found.append(Event(position, instance, receive_time_us, _kind(kind), content))
                bytes_left -= len(content)
                if bytes_left <= 0:
                    break
            # An unfinished statement would keep its read transaction, and the WAL from shrinking.
            rows.close()
        return found

    def received_from(self, time_us: int) -> Position | None:
        """Bisects over positions: about 25 point reads for ten million events."""
        head = self.head()
        low, high = 1, head.position + 1
        while low < high:
            middle = (low + high) // 2
            with _translated():
                row = self._connection.execute(_RECEIVED, (middle,)).fetchone()
            if row is None or row[1] >= time_us:
                high = middle
            else:
                low = row[0] + 1
        # Everything below `low` came before; what stands there, if anything, is the answer.
        with _translated():
            row = self._connection.execute(_RECEIVED, (low,)).fetchone()
        return Position(row[0]) if row else None

    def close(self) -> None:
        self._connection.close()


def _kind(number: int) -> EventKind:
    try:
        return EventKind(number)
    except ValueError:
        return EventKind.UNKNOWN


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise errors.LogUnavailable(f"the event log cannot be used: {error}") from error
