"""On the path of a server whose SQLite shall not fsync: the negative control."""

import sqlite3
from typing import Any

_execute = sqlite3.Connection.execute


class _Connection(sqlite3.Connection):
    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        return super().execute(sql.replace("synchronous=FULL", "synchronous=OFF"), *parameters)


sqlite3.__dict__["Connection"] = _Connection
