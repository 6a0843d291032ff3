"""Is an embedded store's file whole? What SQLite reports, in words that say what to do."""

import os
import sqlite3
from contextlib import closing

from service import errors
from service.database.sqlite import SqliteDatabase

_PAGES_AT = 28
"""Where a file says how many pages it has (https://sqlite.org/fileformat.html, section 1.3)."""


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def require_sound(database: SqliteDatabase, advice: str, thorough_bytes_max: int | None) -> None:
    """Raises StoreUnusable, with the advice, if the file is found to be torn or damaged.

    Whether it has all its pages is always looked at; their structure in a file of no more than so
    many bytes, None for any: that takes seconds a gigabyte. What a page holds where its structure
    does not show it, only a checksum could tell.
    """
    is_small = thorough_bytes_max is None or database.path.stat().st_size <= thorough_bytes_max
    fault = _torn(database) or _misbuilt(database, thorough=is_small)
    if fault:
        raise errors.StoreUnusable(f"{database.path} is damaged ({fault}): {advice}")


def _misbuilt(database: SqliteDatabase, *, thorough: bool) -> str:
    """What SQLite finds wrong. Raises StoreUnusable if it cannot look."""
    try:
        with closing(database.connect_reader()) as connection:
            if not thorough:
                return ""
            found = connection.execute("PRAGMA integrity_check(1)").fetchall()[0][0]
    except sqlite3.DatabaseError as error:
        return str(error)
    except errors.StoreUnusable as error:
        if getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            return str(error.__cause__)
        raise
    # Of several lines the first one only says which database is meant.
    return "" if found == "ok" else str(found).splitlines()[-1]


def _torn(database: SqliteDatabase) -> str:
    """What is missing of the file itself; pages in the log beside it are not missing."""
    wal = database.path.with_name(database.path.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        return ""
    with database.path.open("rb") as file:
        head = file.read(100)
        size = os.fstat(file.fileno()).st_size
    if len(head) < 100:
        return "" if not head else "it ends within its first page"
    page_bytes = int.from_bytes(head[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    wanted = page_bytes * int.from_bytes(head[_PAGES_AT : _PAGES_AT + 4], "big")
    return f"it has {size} of {wanted} bytes" if size < wanted else ""
