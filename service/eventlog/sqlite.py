"""The event log in one SQLite file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from sqlalchemy import bindparam, delete, select, update

from service.database import statements
from service.database.sqlite import (
    close_writer,
    connect_reader,
    connect_writer,
    holds_trace,
    rewrite,
    transaction,
    wipe,
)
from service.domain.events import BEFORE_FIRST, ORIGIN, Event, EventKind, Mark, NewEvent, Position
from service.eventlog import sqlite_baseline
from service.eventlog.log import BaselineChange, Removals
from service.eventlog.sqlite_baseline import SqliteBaseline
from service.eventlog.sqlite_errors import translated
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
_LAST_REMOVED = statements.for_sqlite(select(log.c.kept_from, log.c.cut_time_us)).sql
_REMOVALS = statements.for_sqlite(
    select(
        log.c.erased_event_count,
        log.c.expired_event_count,
        log.c.last_erasure_time_us,
        select(events.c.receive_time_us)
        .order_by(events.c.position)
        .limit(1)
        .scalar_subquery()
        .label("oldest"),
        log.c.cut_time_max_us,
    )
).sql
_KEEP_FROM = statements.for_sqlite(
    update(log).values(
        kept_from=bindparam("first_kept"),
        cut_time_us=bindparam("until_time_us"),
        cut_time_max_us=select(events.c.receive_time_max_us)
        .where(events.c.position == bindparam("until"))
        .scalar_subquery(),
    )
).sql
_EXPIRE = statements.for_sqlite(delete(events).where(events.c.position <= bindparam("until"))).sql
_COUNT_EXPIRED = statements.for_sqlite(
    update(log).values(expired_event_count=log.c.expired_event_count + bindparam("more"))
).sql
_BURY = statements.for_sqlite(
    update(events)
    .values(kind=bindparam("as_kind"), content=bindparam("tombstone"))
    .where(events.c.position == bindparam("of_position"))
).sql
_KIND = statements.for_sqlite(
    select(events.c.kind).where(events.c.position == bindparam("position"))
).sql
_COUNT_ERASED = statements.for_sqlite(
    update(log).values(
        erased_event_count=log.c.erased_event_count + bindparam("more"),
        last_erasure_time_us=bindparam("erase_time_us"),
    )
).sql


class SqliteLogWriter:
    """The file's one writing connection."""

    def __init__(self, path: Path) -> None:
        """Raises StoreUnusable if the file cannot be opened."""
        self._connection = connect_writer(path)
        with translated():
            head = self._connection.execute(_HEAD).fetchone()
        self._receive_time_max_us: int = head[2] if head else 0

    def append(self, events: Sequence[NewEvent]) -> Position:
        assert events
        with self._transaction():
            return self._insert(events)

    def cut(self, until: Mark, baseline: BaselineChange) -> None:
        with self._transaction():
            connection = self._connection
            connection.execute(
                _KEEP_FROM, (until.position + 1, until.receive_time_us, until.position)
            )
            removed = connection.execute(_EXPIRE, (until.position,)).rowcount
            connection.execute(_COUNT_EXPIRED, (removed,))
            sqlite_baseline.write(connection, baseline)

    def erase(
        self,
        tombstones: Sequence[tuple[Position, bytes]],
        erasure: NewEvent,
        baseline: BaselineChange,
    ) -> Position:
        with self._transaction():
            connection = self._connection
            erased = 0
            for position, tombstone in tombstones:
                kind = connection.execute(_KIND, (position,)).fetchone()[0]
                erased += kind != EventKind.TOMBSTONE
                connection.execute(_BURY, (EventKind.TOMBSTONE, tombstone, position))
            connection.execute(_COUNT_ERASED, (erased, erasure.receive_time_us))
            sqlite_baseline.write(connection, baseline)
            return self._insert([erasure])

    def rewrite(self) -> None:
        with translated():
            rewrite(self._connection)

    def wipe(self) -> bool:
        with translated():
            return wipe(self._connection)

    def pragmas(self) -> dict[str, str | int]:
        """What this very connection runs with: the journal mode and the synchronous level."""
        return {
            name: self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        }

    def close(self) -> None:
        close_writer(self._connection)

    def _insert(self, events: Sequence[NewEvent]) -> Position:
        """Inside a transaction."""
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
        encoded = msgspec.json.encode(rows).decode()
        last = self._connection.execute(_INSERT, (contents, encoded)).lastrowid
        assert last is not None
        self._receive_time_max_us = receive_time_max_us
        return Position(last - len(rows) + 1)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translated(), transaction(self._connection):
            yield


class SqliteLogReader:
    """A read-only connection of the log's file."""

    def __init__(self, path: Path) -> None:
        """Raises StoreUnusable if the file cannot be opened."""
        self._connection = connect_reader(path)
        with translated():
            self._identity = str(self._connection.execute(_IDENTITY).fetchone()[0])

    @property
    def identity(self) -> str:
        return self._identity

    def head(self) -> Mark:
        with translated():
            row = self._connection.execute(_HEAD).fetchone()
        return Mark(row[0], row[1]) if row else ORIGIN

    def mark(self, position: Position) -> Mark | None:
        if position == BEFORE_FIRST:
            return ORIGIN
        with translated():
            row = self._connection.execute(_MARK, (position,)).fetchone()
        return Mark(*row) if row else None

    def event(self, position: Position) -> Event | None:
        found = self.read(Position(position - 1), events_max=1, bytes_max=1)
        return found[0] if found and found[0].position == position else None

    def kept_from(self) -> Position:
        return Position(self.last_removed().position + 1)

    def last_removed(self) -> Mark:
        with translated():
            kept_from, cut_time_us = self._connection.execute(_LAST_REMOVED).fetchone()
        return Mark(Position(kept_from - 1), cut_time_us)

    def removals(self) -> Removals:
        with translated():
            row = self._connection.execute(_REMOVALS).fetchone()
        return Removals(row[0], row[1], row[2], row[3] or 0, row[4])

    def baseline(self) -> SqliteBaseline:
        return SqliteBaseline(self._connection)

    def read(self, after: Position, events_max: int, bytes_max: int) -> list[Event]:
        found: list[Event] = []
        bytes_left = bytes_max
        with translated():
            rows = self._connection.execute(_READ, (after, events_max))
            for position, instance, receive_time_us, kind, content in rows:
                found.append(Event(position, instance, receive_time_us, _kind(kind), content))
                bytes_left -= len(content)
                if bytes_left <= 0:
                    break
            # An unfinished statement would keep its read transaction, and the WAL from shrinking.
            rows.close()
        return found

    def holds_trace(self, text: str) -> bool:
        with translated():
            return holds_trace(self._connection, text)

    def received_from(self, time_us: int) -> Position | None:
        """Bisects over positions: about 25 point reads for ten million events."""
        head = self.head()
        low, high = 1, head.position + 1
        while low < high:
            middle = (low + high) // 2
            with translated():
                row = self._connection.execute(_RECEIVED, (middle,)).fetchone()
            if row is None or row[1] >= time_us:
                high = middle
            else:
                low = row[0] + 1
        # Everything below `low` came before; what stands there, if anything, is the answer.
        with translated():
            row = self._connection.execute(_RECEIVED, (low,)).fetchone()
        return Position(row[0]) if row else None

    def close(self) -> None:
        self._connection.close()


def _kind(number: int) -> EventKind:
    try:
        return EventKind(number)
    except ValueError:
        return EventKind.UNKNOWN
