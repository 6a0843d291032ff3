"""SQLite connections, opened so that the two promises of the stores hold.

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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from service import errors
from service.database import search

_BUSY_TIMEOUT_MS = 2_000
"""Only an outsider can hold the write lock: wait out a backup tool, then say 503."""

_CACHE_KIB = 64 * 1024


def database_path(variable: str, url_text: str) -> Path:
    """The file a `sqlite:///…` URL names. Raises ConfigInvalid for any other URL."""
    try:
        url: URL = make_url(url_text)
    except ArgumentError:
        raise errors.ConfigInvalid(
            variable, "not a database URL: write sqlite:///path/to/file.db"
        ) from None
    if url.get_backend_name() != "sqlite":
        raise errors.ConfigInvalid(
            variable, "only sqlite:/// is offered by this version: leave it unset, or name a file"
        )
    if not url.database or url.database == ":memory:" or "?" in url_text:
        raise errors.ConfigInvalid(
            variable, "must name a file without options: sqlite:///path/to/file.db"
        )
    return Path(url.database).absolute()


def connect_writer(path: Path) -> sqlite3.Connection:
    """The one writing connection of an existing file; its owner begins and ends transactions.

    May be handed to another thread once, before its first use there.
    Raises StoreUnusable if the file cannot be opened as a WAL database.
    """
    connection = _connect(path, "rw")
    try:
        journal_mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        connection.execute("PRAGMA recursive_triggers=ON")
        connection.execute("PRAGMA secure_delete=ON")
    except sqlite3.Error as error:
        connection.close()
        raise errors.StoreUnusable(f"{path} cannot be used: {error}") from error
    if journal_mode != "wal":
        connection.close()
        raise errors.StoreUnusable(
            f"{path} cannot use write-ahead logging: its file system must be a local one"
        )
    return connection


def close_writer(connection: sqlite3.Connection) -> None:
    """Bring all that was committed into the file itself, then close. Never raises.

    A read-only connection that closes later cannot do it, and a copy of the file alone would lack
    what is still in the log beside it. Idempotent.
    """
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """What is written inside is committed at the end, or none of it. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite rolls back by itself after some faults, and refuses to do it again.
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def rewrite(connection: sqlite3.Connection) -> None:
    """Write the file of a writing connection anew. Raises sqlite3.Error.

    Deleted rows are overwritten as they go (`secure_delete`), but a page that was split or joined
    may keep copies of rows which it once held. Takes the file's size again on disk, twice for
    moments; readers go on meanwhile.
    """
    connection.execute("VACUUM")


def wipe(connection: sqlite3.Connection) -> bool:
    """Bring all into the file of a writing connection, and empty the log beside it.

    False if a reader was in the way: then it is to be tried again. Raises sqlite3.Error.
    """
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def holds_trace(connection: sqlite3.Connection, text: str) -> bool:
    """Does the text stand in the connection's file or in the log beside it, in use or not?

    Both are read from end to end, by a process of its own. A text that lies across two pages is
    not found, here or by anybody. Raises sqlite3.Error if they cannot be read.
    """
    file = str(connection.execute("PRAGMA database_list").fetchone()[2])
    found = subprocess.run(  # noqa: S603
        [sys.executable, "-I", search.__file__, file, f"{file}-wal"],
        input=text.encode(),
        capture_output=True,
        check=False,
    )
    if found.returncode not in (0, 1) or found.stderr:
        raise sqlite3.OperationalError(f"{file} cannot be searched: {found.stderr.decode()}")
    return found.returncode == 0


def connect_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection of an existing file; every statement is a transaction of its own.

    Raises StoreUnusable if the file cannot be opened.
    """
    return _connect(path, "ro")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_BUSY_TIMEOUT_MS / 1_000,
        )
        connection.execute("PRAGMA mmap_size=0")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise errors.StoreUnusable(f"{path} cannot be opened: {error}") from error
    return connection
