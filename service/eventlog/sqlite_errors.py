"""SQLite's faults as ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from service import errors


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise errors.LogUnavailable(f"the event log cannot be used: {error}") from error
