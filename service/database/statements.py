"""SQLAlchemy statements, compiled once to the driver's own form."""

import re
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect as SqlDialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.dml import Insert

from service.database.database import Dialect

_PLACEHOLDER = re.compile(r"(?<!:):(\w+)")
_Inserting = Callable[[Table], Any]


class Compiler:
    """Statements as text with positional parameters, in order of appearance, for one dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._numbered = dialect is Dialect.POSTGRES
        self._dialect: SqlDialect
        self._insert: _Inserting
        if dialect is Dialect.POSTGRES:
            self._dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
            self._insert = postgresql.insert
        else:
            self._dialect = sqlite.dialect(paramstyle="named")
            self._insert = sqlite.insert

    def __call__(self, clause: ClauseElement) -> str:
        """Parameters are those named by `bindparam` or by column.

        Integers the statement was built with (a LIMIT, and the OFFSET the dialect adds to it)
        become literals.
        """
        compiled = clause.compile(dialect=self._dialect)
        parameters = 0

        def placeholder(match: re.Match[str]) -> str:
            nonlocal parameters
            constant = compiled.params[match[1]]
            if isinstance(constant, int):
                return str(int(constant))
            parameters += 1
            return f"${parameters}" if self._numbered else "?"

        return _PLACEHOLDER.sub(placeholder, str(compiled))

    def insert(self, table: Table) -> str:
        """A whole row, in the order of the table's columns."""
        statement: Insert = self._insert(table)
        return self(statement)

    def upsert(self, table: Table, staying: Collection[str] = ()) -> str:
        """The same, or instead of the row with its key; there the columns of these names stay.

        SQLite writes the entries of an index again if a column of it is set, to whatever value.
        """
        keys = [column.name for column in table.primary_key]
        statement = self._insert(table)
        return self(
            statement.on_conflict_do_update(
                index_elements=keys,
                set_={
                    column.name: statement.excluded[column.name]
                    for column in table.columns
                    if column.name not in keys and column.name not in staying
                },
            )
        )


@cache
def compiler(dialect: Dialect) -> Compiler:
    return Compiler(dialect)
