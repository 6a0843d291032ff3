"""Two tables compared row by row, a page at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Table

from service.views.store import Comparison, Difference

Row = tuple[Any, ...]
Page = Callable[[Row], list[Row]]
"""So many rows behind a key, in order of key."""


def compared(
    name: str, table: Table, live_page: Page, spare_page: Page, rows_max: int
) -> Iterator[Comparison]:
    """Rows of both, matched by key.

    Between two pages both may change, in the same way: what stands at a key is read from both at
    once.
    """
    width = len(table.primary_key)
    after: Row = tuple(_LEAST[column.type.python_type] for column in table.primary_key)
    # Of messages' rows the last column only says whether the one before it counts.
    columns = [column.name for column in table.columns if column.name != "encoded_reports"]
    while True:
        live, spare = live_page(after), spare_page(after)
        ends = [rows[-1][:width] for rows in (live, spare) if len(rows) == rows_max]
        end = min(ends, default=None)
        of_live, of_spare = (
            {row[:width]: row for row in rows if end is None or row[:width] <= end}
            for rows in (live, spare)
        )
        keys = of_live.keys() | of_spare.keys()
        yield Comparison(
            len(keys),
            [
                Difference(name, tuple(map(str, key)), fault)
                for key in sorted(keys)
                if (fault := _fault(columns, of_live.get(key), of_spare.get(key)))
            ],
        )
        if end is None:
            return
        after = end


_LEAST: dict[type, Any] = {str: "", int: -1}
"""Before every value that a key of this type has."""


def _fault(columns: Sequence[str], live: Row | None, spare: Row | None) -> str:
    if live is None:
        return "only rebuilt"
    if spare is None:
        return "only live"
    # NULL: not made yet, which says nothing.
    differing = [
        column
        for column, one, other in zip(columns, live, spare, strict=True)
        if one != other and None not in (one, other)
    ]
    return f"differs in {', '.join(differing)}" if differing else ""
