"""The event log in one SQLite file: how it is appended to."""

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import cast

from service.database.database import Database
from service.domain.events import Mark, NewEvent, Position, checksum_of
from service.eventlog.faults import translated
from service.eventlog.writer import StoredLogWriter

_AT_ONCE_ROWS = 512
_AT_ONCE_BYTES = 256 * 1024
"""What a statement inserts at most, but for a single event. SQLite keeps the values of one that is
kept prepared, and there are some thirty."""

_COLUMNS = ("instance", "receive_time_us", "receive_time_max_us", "kind", "checksum", "content")
_ROW = f"({', '.join('?' * len(_COLUMNS))})"
_NO_ROW = (None,) * len(_COLUMNS)


class SqliteLogWriter(StoredLogWriter):
    """The file's one writing connection."""

    holding = True

    def __init__(self, database: Database) -> None:
        """Raises StoreUnusable if the file cannot be opened."""
        super().__init__(database)
        with translated(self._connection):
            head = self._connection.execute(self._sql.head).fetchone()
        self._receive_time_max_us: int = head[2] if head else 0

    def append(self, events: Sequence[NewEvent]) -> Position:
        assert events
        first, *others = _pieces(events)
        with translated(self._connection):
            if not others:
                # By itself the one statement is the transaction. BEGIN and COMMIT of our own would
                # be two more of the moments at which this thread has to get the interpreter back
                # from the loop.
                return self._insert(first)
            with self._connection.transaction():
                position = self._insert(first)
                for piece in others:
                    self._insert(piece)
            return position

    def _insert(self, events: Sequence[NewEvent]) -> Position:
        receive_time_max_us = self._receive_time_max_us
        values: list[str | int | bytes | None] = []
        for event in events:
            receive_time_max_us = max(receive_time_max_us, event.receive_time_us)
            values += (
                event.instance,
                event.receive_time_us,
                receive_time_max_us,
                event.kind,
                checksum_of(event.instance, event.receive_time_us, event.kind, event.content),
                event.content,
            )
        size = _size_for(len(events))
        values += _NO_ROW * (size - len(events))
        values.append(len(events))
        inserted = cast(sqlite3.Cursor, self._connection.execute(_insert_of(size), values))
        assert inserted.lastrowid is not None
        self._receive_time_max_us = receive_time_max_us
        return Position(inserted.lastrowid - len(events) + 1)

    def _expire(self, until: Mark) -> int:
        self._keep_from(until)
        return self._connection.execute(self._sql.expire, (until.position,)).rowcount

    def purge(self, span_us: int) -> bool:
        """`cut` has removed them already."""
        return False

    def hold(self) -> None:
        """Nobody else appends."""

    def release(self) -> None:
        """Nobody else appends."""


def _pieces(events: Sequence[NewEvent]) -> list[Sequence[NewEvent]]:
    """In order, each of what a statement inserts."""
    if len(events) <= _AT_ONCE_ROWS and sum([len(one.content) for one in events]) <= _AT_ONCE_BYTES:
        # Nearly always.
        return [events]
    pieces: list[Sequence[NewEvent]] = []
    begin = size = 0
    for place, event in enumerate(events):
        size += len(event.content)
        if place > begin and (place - begin == _AT_ONCE_ROWS or size > _AT_ONCE_BYTES):
            pieces.append(events[begin:place])
            begin, size = place, len(event.content)
    return [*pieces, events[begin:]]


def _size_for(rows: int) -> int:
    """So many rows, or up to a quarter more: sizes of which there are few.

    To prepare a statement takes as long as to run it, so those that were prepared have to serve
    again; the connection keeps them.
    """
    step = max(1, (1 << (rows - 1).bit_length()) // 8)
    return -(-rows // step) * step


@cache
def _insert_of(size: int) -> str:
    """One statement a batch, for up to so many rows; the last parameter says for how many.

    Rows keep the order of the values, so positions do too. So many are within the 32,766 parameters
    that SQLite takes since 3.32 (https://sqlite.org/limits.html).
    """
    rows = ", ".join([_ROW] * size)
    return f"INSERT INTO events ({', '.join(_COLUMNS)}) SELECT * FROM (VALUES {rows}) LIMIT ?"  # noqa: S608
