"""The event log in one SQLite file: how it is appended to."""

import sqlite3
from collections.abc import Sequence
from functools import cache
from typing import cast

from service.database.database import Database
from service.domain.events import Mark, NewEvent, Position, checksum_of
from service.eventlog.faults import translated
from service.eventlog.writer import StoredLogWriter

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
        # By itself the one statement is the transaction. BEGIN and COMMIT of our own would be two
        # more of the moments at which this thread has to get the interpreter back from the loop.
        assert events
        with translated(self._connection):
            return self._insert(events)

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

    Rows keep the order of the values, so positions do too. A batch of 4,096 is within the 32,766
    parameters that SQLite takes since 3.32 (https://sqlite.org/limits.html).
    """
    rows = ", ".join([_ROW] * size)
    return f"INSERT INTO events ({', '.join(_COLUMNS)}) SELECT * FROM (VALUES {rows}) LIMIT ?"  # noqa: S608
