"""SQLite connections, opened so that the promises of the stores hold.

Durable: WAL with synchronous=FULL, so a COMMIT returns after fsync. In batches NORMAL gains
nothing, and it would lose acknowledged events on power loss.

Uncorrupted: SQLite 3.7.0 to 3.51.2 can corrupt a database when two connections write or
checkpoint at once (https://sqlite.org/wal.html, "The WAL-Reset Bug"). So a file has exactly
one writing connection, and readers open it read-only, which keeps them from checkpointing.

Forgotten: what is deleted is overwritten, so that erasure leaves nothing behind in free pages.
"""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import sqlalchemy
from sqlalchemy import URL, NullPool, Table, create_engine, event

from service import errors
from service.database import search
from service.database.database import Database, Dialect, Parameters, Row, committed
from service.database.statements import compiler

_BUSY_TIMEOUT_MS = 2_000
"""Only an outsider can hold the write lock: wait out a backup tool, then say 503."""

_CACHE_KIB = 64 * 1024
_LOGGED_PAGES = 1_000
_REWRITTEN_PAGES = 16_000
"""4 and 64 MiB: so much may stand in the log beside the file before it goes into the file."""


_PRIMARY_CODE = 0xFF
_ADVICE = {
    sqlite3.SQLITE_FULL: "make room on its disk; nothing has to be restarted",
    sqlite3.SQLITE_READONLY: "its file or file system may not be written: change that, and start "
    "again",
    sqlite3.SQLITE_IOERR: "its disk reports an error, or is full: the system's log says more",
    sqlite3.SQLITE_CORRUPT: "its file is damaged: see Damage in docs/operating.md",
    sqlite3.SQLITE_NOTADB: "its file is damaged, or another one: see Damage in docs/operating.md",
    sqlite3.SQLITE_BUSY: "another program holds its lock: end that one",
}


_OLDEST = (3, 32)
"""Since then a statement takes 32,766 parameters: a transaction of the log is one."""


class SqliteConnection(sqlite3.Connection):
    """A reading one. Every statement outside a transaction is one of its own."""

    dialect = Dialect.SQLITE
    faults = (sqlite3.Error,)
    usable = True
    engine_version = sqlite3.sqlite_version
    _logged_pages = _LOGGED_PAGES

    def explained(self, fault: Exception) -> str:
        advice = _ADVICE.get(getattr(fault, "sqlite_errorcode", 0) & _PRIMARY_CODE)
        return f"{fault}: {advice}" if advice else str(fault)

    def each(self, sql: str, parameters: Iterable[Parameters]) -> Iterator[list[Row]]:
        for one in parameters:
            yield self.execute(sql, one).fetchall()

    def bounded(
        self, sql: str, parameters: Parameters, order: str, size: str, bytes_max: int
    ) -> list[Row]:
        """As it is read, row by row."""
        found: list[Row] = []
        bytes_left = bytes_max
        rows = self.execute(sql, parameters)
        for row in rows:
            found.append(row)
            bytes_left -= len(row[-1])
            if bytes_left <= 0:
                break
        # An unfinished statement would keep its read transaction, and the WAL from shrinking.
        rows.close()
        return found

    @contextmanager
    def transaction(self, meanwhile: Callable[[], None] | None = None) -> Iterator[None]:
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            committed(lambda: self.execute("COMMIT"), meanwhile)
        except BaseException:
            # SQLite rolls back by itself after some faults, and refuses to do it again.
            with suppress(sqlite3.Error):
                self.execute("ROLLBACK")
            raise

    def load(self, table: Table, rows: Sequence[Row]) -> None:
        self.executemany(compiler(self.dialect).insert(table), rows)

    @contextmanager
    def unguarded(self, table: str) -> Iterator[None]:
        guards = self.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?", (table,)
        ).fetchall()
        for name, _ in guards:
            self.execute(f"DROP TRIGGER {name}")
        yield
        for _, sql in guards:
            self.execute(sql)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self.execute("BEGIN")
        try:
            yield
        finally:
            self.execute("ROLLBACK")

    def expect_rewrites(self, *, many: bool) -> None:
        """With many, leave pages in the log beside the file for longer: one that is written ten
        times goes into the file once. It takes a tenth of a second to bring them all there, or a
        whole one on a slow disk, so this is for when more waits anyway.
        """
        pages = _REWRITTEN_PAGES if many else _LOGGED_PAGES
        if pages != self._logged_pages:
            self.execute(f"PRAGMA wal_autocheckpoint={pages}")
            self._logged_pages = pages

    def grown(self, tables: Sequence[str], rows: int) -> None:
        """Ways are chosen by the statement alone."""

    def notify(self, channel: str) -> None:
        """There are no others."""

    def listen(self, channels: Sequence[str], stopped: Callable[[], bool]) -> Iterator[str]:
        """There are no others."""
        return iter(())

    def has_table(self, name: str) -> bool:
        found = self.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)
        )
        return found.fetchone() is not None

    def rewrite(self) -> None:
        """Deleted rows are overwritten as they go (`secure_delete`), but a page that was split or
        joined may keep copies of rows which it once held. Takes the file's size again on disk,
        twice for moments; readers go on meanwhile.
        """
        self.execute("VACUUM")

    def wipe(self) -> bool:
        """Bring all into the file, and empty the log beside it."""
        busy, _, _ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def holds_trace(self, text: str) -> bool:
        """The file and the log beside it are read from end to end, by a process of its own.

        A text that lies across two pages is not found, here or by anybody.
        """
        file = str(self.execute("PRAGMA database_list").fetchone()[2])
        found = subprocess.run(  # noqa: S603
            [sys.executable, "-I", search.__file__, file, f"{file}-wal"],
            input=text.encode(),
            capture_output=True,
            check=False,
        )
        if found.returncode not in (0, 1) or found.stderr:
            raise sqlite3.OperationalError(f"{file} cannot be searched: {found.stderr.decode()}")
        return found.returncode == 0


class SqliteWritingConnection(SqliteConnection):
    """The one writing connection of a file."""

    def close(self) -> None:
        """Bring all that was committed into the file itself, then close.

        A read-only connection that closes later cannot do it, and a copy of the file alone would
        lack what is still in the log beside it.
        """
        with suppress(sqlite3.Error):
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        super().close()


_ConnectionT = TypeVar("_ConnectionT", bound=SqliteConnection)


class SqliteDatabase:
    """One file, one store."""

    dialect = Dialect.SQLITE

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return str(self.path)

    def same_place(self, other: Database) -> bool:
        return isinstance(other, SqliteDatabase) and self.path == other.path

    def exists(self) -> bool:
        return self.path.exists()

    def connect_reader(self) -> SqliteConnection:
        """Read-only; the file has to exist."""
        return self._connect(SqliteConnection, "ro")

    def connect_writer(self, reply_s: float = 60.0) -> SqliteWritingConnection:
        """The one writing connection of an existing file.

        May be handed to another thread once, before its first use there. StoreUnusable is raised
        too if the file cannot be a WAL database.
        """
        connection = self._connect(SqliteWritingConnection, "rw")
        try:
            journal_mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            connection.execute("PRAGMA recursive_triggers=ON")
            connection.execute("PRAGMA secure_delete=ON")
        except sqlite3.Error as error:
            connection.close()
            raise errors.StoreUnusable(f"{self.path} cannot be used: {error}") from error
        if journal_mode != "wal":
            connection.close()
            raise errors.StoreUnusable(
                f"{self.path} cannot use write-ahead logging: its file system must be a local one"
            )
        return connection

    @contextmanager
    def migrating(self) -> Iterator[sqlalchemy.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
        except OSError as error:
            raise errors.StoreUnusable(
                f"{self.path} cannot be written: {error.strerror}"
            ) from error
        self.connect_writer().close()
        # A pool would keep a second writing connection of the file alive.
        engine = create_engine(URL.create("sqlite", database=str(self.path)), poolclass=NullPool)
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin_immediate)
        with engine.begin() as connection:
            yield connection

    def _connect(self, kind: type[_ConnectionT], mode: str) -> _ConnectionT:
        if sqlite3.sqlite_version_info < _OLDEST:
            raise errors.StoreUnusable(
                f"this Python has SQLite {sqlite3.sqlite_version}, and plugstatus needs "
                f"{'.'.join(map(str, _OLDEST))} or newer: take a newer Python"
            )
        connection: _ConnectionT | None = None
        try:
            connection = sqlite3.connect(
                f"{self.path.as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=_BUSY_TIMEOUT_MS / 1_000,
                factory=kind,
            )
            connection.execute("PRAGMA mmap_size=0")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise errors.StoreUnusable(f"{self.path} cannot be opened: {error}") from error
        return connection


def _leave_transactions_to_us(connection: sqlite3.Connection, _: object) -> None:
    # The driver would begin some transactions by itself, and take the write lock late.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")


def _begin_immediate(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
