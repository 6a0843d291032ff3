"""SQLAlchemy statements, compiled once to the driver's own form."""

import re
from typing import Any, NamedTuple

from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement

_SQLITE = sqlite.dialect(paramstyle="named")
_PLACEHOLDER = re.compile(r":(\w+)")


class Statement(NamedTuple):
    """SQL text with positional parameters, in the order of `parameters`."""

    sql: str
    parameters: tuple[str, ...]


def for_sqlite(clause: ClauseElement, **compile_options: Any) -> Statement:
    """Compile for a raw sqlite3 cursor.

    Parameters named by `bindparam` or by column become `?`, in order of appearance. Integers the
    statement was built with (a LIMIT, and the OFFSET the dialect adds to it) become literals.
    """
    compiled = clause.compile(dialect=_SQLITE, **compile_options)
    parameters: list[str] = []

    def placeholder(match: re.Match[str]) -> str:
        constant = compiled.params[match[1]]
        if isinstance(constant, int):
            return str(int(constant))
        parameters.append(match[1])
        return "?"

    return Statement(_PLACEHOLDER.sub(placeholder, str(compiled)), tuple(parameters))
