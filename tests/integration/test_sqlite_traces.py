"""Deleted rows leave no trace in a store's files, and looking for one does no harm."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from service.database import search
from service.database.sqlite import SqliteDatabase

TEXT = "5511987654321"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    path.touch()
    with closing(SqliteDatabase(path).connect_writer()) as connection:
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, content BLOB)")
    return path


def _stands_in(path: Path) -> bool:
    return any(TEXT.encode() in each.read_bytes() for each in path.parent.iterdir())


@pytest.mark.parametrize("size", [1, 3_000, 200_000], ids=["a row", "a page", "overflow pages"])
def test_a_deleted_row_is_overwritten(path: Path, size: int) -> None:
    """After a wipe neither the file nor the log beside it holds what was deleted."""
    with (
        closing(SqliteDatabase(path).connect_writer()) as writer,
        closing(SqliteDatabase(path).connect_reader()) as reader,
    ):
        content = f"{TEXT}{'x' * size}{TEXT}"
        writer.executemany("INSERT INTO rows VALUES (?, ?)", [(1, content), (2, "other")])
        stored = reader.holds_trace(TEXT)
        writer.execute("DELETE FROM rows WHERE id = 1")
        unwiped = reader.holds_trace(TEXT)
        writer.wipe()
        wiped = reader.holds_trace(TEXT)

    assert (True, True, False) == (stored, unwiped, wiped)
    assert not _stands_in(path)


def test_a_whole_wipe_takes_what_older_connections_left(path: Path) -> None:
    """Rows deleted without overwriting stay readable in the file until it is written anew."""
    with closing(sqlite3.connect(path, isolation_level=None)) as careless:
        careless.execute("PRAGMA secure_delete=OFF")
        careless.executemany(
            "INSERT INTO rows VALUES (?, ?)", [(n, f"{TEXT}{'x' * 900}") for n in range(200)]
        )
        careless.execute("DELETE FROM rows")
    with (
        closing(SqliteDatabase(path).connect_writer()) as writer,
        closing(SqliteDatabase(path).connect_reader()) as reader,
    ):
        writer.wipe()
        left = reader.holds_trace(TEXT)
        writer.rewrite()
        writer.wipe()
        gone = not reader.holds_trace(TEXT)

    assert (True, True) == (left, gone)
    assert not _stands_in(path)


def test_a_reader_in_the_way_is_told(path: Path) -> None:
    """A log beside the file that a reader still needs is not emptied, and that is said."""
    with (
        closing(SqliteDatabase(path).connect_writer()) as writer,
        closing(SqliteDatabase(path).connect_reader()) as reader,
    ):
        writer.execute("PRAGMA busy_timeout=0")
        writer.execute("INSERT INTO rows VALUES (1, 'a')")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM rows").fetchall()
        writer.execute("INSERT INTO rows VALUES (2, 'b')")
        beside_a_reader = writer.wipe()
        reader.execute("ROLLBACK")

        assert (False, True) == (beside_a_reader, writer.wipe())


LOCKED = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        # SQLite's shared-lock range: a connection that has the file open holds a part of it.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000002)
    except OSError:
        print("locked")
"""


def test_looking_for_a_trace_keeps_the_locks(path: Path) -> None:
    """The search leaves SQLite's locks on the file alone: another process still sees them."""
    with (
        closing(SqliteDatabase(path).connect_writer()) as writer,
        closing(SqliteDatabase(path).connect_reader()) as reader,
    ):
        writer.execute("INSERT INTO rows VALUES (1, 'a')")
        reader.holds_trace(TEXT)
        seen = subprocess.run(
            [sys.executable, "-c", LOCKED, str(path)], capture_output=True, text=True, check=True
        )

    assert "locked\n" == seen.stdout


@pytest.mark.parametrize("before", [0, 5, 1024 * 1024 - 7, 1024 * 1024, 3 * 1024 * 1024 - 1])
def test_a_text_is_found_wherever_it_stands(tmp_path: Path, before: int) -> None:
    """The search reads in blocks, and finds what lies across two of them."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * before + TEXT.encode() + b"y" * 9)

    assert search.stands_in(file, TEXT.encode())
    assert not search.stands_in(file, TEXT.encode() + b"z")
    assert not search.stands_in(tmp_path / "absent", TEXT.encode())


def test_a_file_that_cannot_be_searched_is_told(path: Path) -> None:
    """A search that fails is an error, and never the answer that there is no trace."""
    with closing(SqliteDatabase(path).connect_reader()) as reader:
        path.with_name("store.db-wal").unlink(missing_ok=True)
        path.with_name("store.db-wal").mkdir()

        with pytest.raises(sqlite3.OperationalError, match="cannot be searched"):
            reader.holds_trace(TEXT)
