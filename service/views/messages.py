"""Writing messages: of a row that is there already, only what changes.

SQLite writes each index of which a column is set, to whatever value, and a page for it: most of
what a small transaction costs. PostgreSQL looks at the values by itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from functools import cache

from service.database.database import Dialect
from service.database.statements import compiler
from service.domain.message import Message, MessageKey
from service.views.rows import Row, message_row
from service.views.tables import TABLES


class Staying(IntEnum):
    """What stays of a row."""

    NOTHING = 0
    """For all that is known."""
    PHONE = 1
    LISTED = 2
    """Also where it stands in every list."""


_COLUMNS: dict[Staying, tuple[str, ...]] = {
    Staying.NOTHING: (),
    Staying.PHONE: ("phone",),
    Staying.LISTED: ("phone", "status", "changed_position", "changed_index"),
}


@cache
def upserts(dialect: Dialect, slot: str) -> list[str]:
    """A statement for each `Staying`; of a row that is not there it makes a whole one."""
    upsert = compiler(dialect).upsert
    return [upsert(TABLES[slot].messages, _COLUMNS[staying]) for staying in Staying]


def parted(
    messages: Iterable[Message],
    encoded: Mapping[MessageKey, bytes],
    stored: Mapping[MessageKey, Message],
) -> list[Sequence[Row]]:
    """Rows for each of the statements. `stored`: those rows as they are, as far as is known."""
    parts: list[list[Row]] = [[] for _ in Staying]
    for message in messages:
        key = MessageKey(message.instance, message.message_id)
        parts[_staying(stored.get(key), message)].append(message_row(message, encoded.get(key)))
    return [*parts]


def _staying(before: Message | None, after: Message) -> Staying:
    if before is None or before.phone != after.phone:
        return Staying.NOTHING
    if (before.status, before.changed_at) != (after.status, after.changed_at):
        return Staying.PHONE
    return Staying.LISTED
