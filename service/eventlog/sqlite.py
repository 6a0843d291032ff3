"""The event log in one SQLite file: how it is appended to."""

import sqlite3
from collections.abc import Sequence
from typing import cast

import msgspec

from service.database.database import Database
from service.domain.events import Mark, NewEvent, Position, checksum_of
from service.eventlog.faults import translated
from service.eventlog.writer import StoredLogWriter

# One statement a batch. The bodies travel joined in one blob and are cut out by place and
# length, because a JSON function handed the bodies themselves would rewrite them. The rows keep
# the order of the array, so positions do too. One byte leads the blob: a part of an empty one
# would be NULL.
_INSERT = """
INSERT INTO events (instance, receive_time_us, receive_time_max_us, kind, checksum, content)
SELECT json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]'),
       json_extract(value, '$[5]'), json_extract(value, '$[6]'),
       substr(?1, json_extract(value, '$[0]'), json_extract(value, '$[1]'))
FROM json_each(?2)
"""
_LEAD = b"\0"


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
                    checksum_of(event.instance, event.receive_time_us, event.kind, event.content),
                )
            )
            offset += length
        contents = b"".join([_LEAD, *[event.content for event in events]])
        encoded = msgspec.json.encode(rows).decode()
        inserted = cast(sqlite3.Cursor, self._connection.execute(_INSERT, (contents, encoded)))
        assert inserted.lastrowid is not None
        self._receive_time_max_us = receive_time_max_us
        return Position(inserted.lastrowid - len(rows) + 1)

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
