"""Callbacks on this machine's disk while the log's database is away.

A file of batches in order, each with the number it was, or would have been, appended under. So a
batch whose COMMIT was never heard of stands here like any other, and is sent again under its own
number: the log takes it once (see `postgres`).

    DIRECT    ── a batch fails, or nobody knows whether it did ──▶ SPOOLING
    SPOOLING  ── the last one has been recorded ──▶ DIRECT

While anything is spooled every further batch is, so the log gets them in the order they came. A
batch is on disk (fsync) when `add` returns, and stays until the log is known to hold it: killed at
any moment, at worst it is sent once more.
"""

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from service import errors
from service.database.sqlite import SqliteConnection, SqliteDatabase
from service.domain.events import EventKind, NewEvent

_SCHEMA = 1
_TABLES = """
CREATE TABLE batches (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    appender TEXT NOT NULL,
    number INTEGER NOT NULL,
    event_count INTEGER NOT NULL,
    content_bytes INTEGER NOT NULL,
    oldest_us INTEGER NOT NULL,
    events BLOB NOT NULL
);
CREATE TABLE log (identity TEXT NOT NULL);
"""


class Stored(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An event as it stands in the file."""

    instance: str
    receive_time_us: int
    kind: int
    content: bytes


class Spooled(NamedTuple):
    """Batches of one appender, in order, that may be recorded as one."""

    appender: str
    first_number: int
    last_number: int
    events: list[NewEvent]


class Filling(NamedTuple):
    """How much is spooled."""

    event_count: int
    content_bytes: int
    oldest_us: int
    """Receive time of the oldest one; 0: there is none."""


_EMPTY = Filling(0, 0, 0)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Stored]).decode


class Spool:
    """One file, of one process. Every method may be called from any thread.

    Raises LogUnavailable if the file cannot be written or read.
    """

    def __init__(self, path: Path, bytes_max: int) -> None:
        """Made if it is missing. Raises StoreUnusable for a file that cannot be used."""
        self.path = path
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            raise errors.StoreUnusable(f"{path} cannot be written: {error.strerror}") from error
        self._connection = SqliteDatabase(path).connect_writer()
        self._prepare()
        self._filling = _counted(self._connection)

    def filling(self) -> Filling:
        return self._filling

    def identity(self) -> str:
        """Of the log the callbacks are for; empty if none was ever named."""
        with self._lock, _translated():
            row = self._connection.execute("SELECT identity FROM log").fetchone()
        return str(row[0]) if row else ""

    def belong_to(self, identity: str) -> None:
        """Name the log. Raises StoreUnusable if another one's callbacks are waiting here."""
        with self._lock, _translated(), self._connection.transaction():
            row = self._connection.execute("SELECT identity FROM log").fetchone()
            if row and row[0] != identity and self._filling.event_count:
                raise errors.StoreUnusable(
                    f"{self.path} holds {self._filling.event_count} callbacks for another event "
                    "log: run once with that one, or move the file away"
                )
            self._connection.execute("DELETE FROM log")
            self._connection.execute("INSERT INTO log VALUES (?)", (identity,))

    def add(self, appender: str, number: int, events: Sequence[NewEvent]) -> None:
        """Keep a batch. Raises LogUnavailable, too, if it would be more than the spool may hold."""
        size = sum(len(event.content) for event in events)
        oldest_us = min(event.receive_time_us for event in events)
        stored = _encode(
            [
                Stored(event.instance, event.receive_time_us, event.kind, event.content)
                for event in events
            ]
        )
        with self._lock, _translated():
            before = self._filling
            if before.content_bytes + size > self._bytes_max:
                raise errors.LogUnavailable(
                    f"the spool {self.path} is full: bring the event log's database back"
                )
            with self._connection.transaction():
                self._connection.execute(
                    "INSERT INTO batches (appender, number, event_count, content_bytes, oldest_us,"
                    " events) VALUES (?, ?, ?, ?, ?, ?)",
                    (appender, number, len(events), size, oldest_us, stored),
                )
            self._filling = Filling(
                before.event_count + len(events),
                before.content_bytes + size,
                min(oldest_us, before.oldest_us or oldest_us),
            )

    def first(self, events_max: int, bytes_max: int) -> Spooled | None:
        """The oldest batches, one at least; None if there are none."""
        found: Spooled | None = None
        bytes_left = bytes_max
        with self._lock, _translated():
            rows = self._connection.execute(
                "SELECT appender, number, content_bytes, events FROM batches ORDER BY place"
            )
            for appender, number, size, stored in rows:
                events = [
                    NewEvent(one.instance, one.receive_time_us, EventKind(one.kind), one.content)
                    for one in _decode(stored)
                ]
                if found is None:
                    found = Spooled(appender, number, number, events)
                elif (
                    appender != found.appender
                    or len(found.events) + len(events) > events_max
                    or size > bytes_left
                ):
                    break
                else:
                    found = found._replace(last_number=number, events=[*found.events, *events])
                bytes_left -= size
            rows.close()
        return found

    def remove(self, appender: str, until_number: int) -> None:
        """Forget an appender's batches up to that one: the log holds them."""
        with self._lock, _translated():
            with self._connection.transaction():
                self._connection.execute(
                    "DELETE FROM batches WHERE appender = ? AND number <= ?",
                    (appender, until_number),
                )
            self._filling = _counted(self._connection)
            if not self._filling.event_count:
                # What was deleted is overwritten; beside the file it would still be to be read.
                self._connection.wipe()

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._connection.close()

    def _prepare(self) -> None:
        with _translated():
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if version > _SCHEMA:
                self._connection.close()
                raise errors.StoreUnusable(
                    f"{self.path} was written by a newer plugstatus: run that version"
                )
            if version < _SCHEMA:
                with self._connection.transaction():
                    for statement in _TABLES.split(";\n"):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {_SCHEMA}")


def filling_of(path: Path) -> Filling:
    """Of a file that another process may have open. Raises StoreUnusable, LogUnavailable."""
    with closing(SqliteDatabase(path).connect_reader()) as connection:
        return _counted(connection) if connection.has_table("batches") else _EMPTY


def _counted(connection: SqliteConnection) -> Filling:
    with _translated():
        row = connection.execute(
            "SELECT sum(event_count), sum(content_bytes), min(oldest_us) FROM batches"
        ).fetchone()
    return Filling(*row) if row[0] else _EMPTY


class _translated:  # noqa: N801
    """SQLite's faults as ours."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise errors.LogUnavailable(f"the spool cannot be used: {error}") from error
