"""The event log, read."""

from service.database.database import Database, opening
from service.domain.events import (
    BEFORE_FIRST,
    ORIGIN,
    Event,
    EventKind,
    Mark,
    Position,
    checksum_of,
)
from service.eventlog import statements
from service.eventlog.faults import translated
from service.eventlog.log import Removals
from service.eventlog.stored_baseline import StoredBaseline


class StoredLogReader:
    """A read-only connection of the log."""

    def __init__(self, database: Database) -> None:
        """Raises StoreUnusable if the log cannot be opened."""
        self._connection = database.connect_reader()
        self._sql = statements.of(database.dialect)
        with opening(self._connection, database.name):
            self._identity = str(self._connection.execute(self._sql.identity).fetchall()[0][0])

    @property
    def usable(self) -> bool:
        return self._connection.usable

    @property
    def identity(self) -> str:
        return self._identity

    def head(self) -> Mark:
        with translated(self._connection):
            row = self._connection.execute(self._sql.head).fetchone()
        return Mark(row[0], row[1]) if row else ORIGIN

    def mark(self, position: Position) -> Mark | None:
        if position == BEFORE_FIRST:
            return ORIGIN
        with translated(self._connection):
            row = self._connection.execute(self._sql.mark, (position,)).fetchone()
        return Mark(*row) if row else None

    def event(self, position: Position) -> Event | None:
        found = self.read(Position(position - 1), events_max=1, bytes_max=1)
        return found[0] if found and found[0].position == position else None

    def kept_from(self) -> Position:
        return Position(self.last_removed().position + 1)

    def last_removed(self) -> Mark:
        with translated(self._connection):
            row = self._connection.execute(self._sql.last_removed).fetchall()[0]
        kept_from, cut_time_us = row
        return Mark(Position(kept_from - 1), cut_time_us)

    def removals(self) -> Removals:
        with translated(self._connection):
            row = self._connection.execute(self._sql.removals).fetchall()[0]
        return Removals(row[0], row[1], row[2], row[3] or 0, row[4])

    def baseline(self) -> StoredBaseline:
        return StoredBaseline(self._connection)

    def read(self, after: Position, events_max: int, bytes_max: int) -> list[Event]:
        with translated(self._connection):
            rows = self._connection.bounded(
                self._sql.read, (after, events_max), "position", "content", bytes_max
            )
        return [
            Event(
                position,
                instance,
                receive_time_us,
                _kind(kind),
                content,
                # An erasure by a program that knew no checksums left the old one.
                checksum is not None
                and kind != EventKind.TOMBSTONE
                and checksum != checksum_of(instance, receive_time_us, kind, content),
            )
            for position, instance, receive_time_us, kind, checksum, content in rows
        ]

    def holds_trace(self, text: str) -> bool:
        with translated(self._connection):
            return self._connection.holds_trace(text)

    def received_from(self, time_us: int) -> Position | None:
        """Bisects over positions: about 25 point reads for ten million events."""
        head = self.head()
        low, high = 1, head.position + 1
        while low < high:
            middle = (low + high) // 2
            with translated(self._connection):
                row = self._connection.execute(self._sql.received, (middle,)).fetchone()
            if row is None or row[1] >= time_us:
                high = middle
            else:
                low = row[0] + 1
        # Everything below `low` came before; what stands there, if anything, is the answer.
        with translated(self._connection):
            row = self._connection.execute(self._sql.received, (low,)).fetchone()
        return Position(row[0]) if row else None

    def close(self) -> None:
        self._connection.close()


def _kind(number: int) -> EventKind:
    try:
        return EventKind(number)
    except ValueError:
        return EventKind.UNKNOWN
