"""The baseline in the event log's SQLite file."""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, select, tuple_
from sqlalchemy.dialects.sqlite import insert

from service.database import statements
from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient, RecipientKey
from service.domain.webhook import WebhookUpdate
from service.eventlog import baseline as rows
from service.eventlog.baseline import BaselineKey, BaselineKind, BaselinePart, BaselineRow
from service.eventlog.log import BaselineChange
from service.eventlog.sqlite_errors import translated
from service.eventlog.tables import baseline

_KEY = (baseline.c.kind, baseline.c.instance, baseline.c.id, baseline.c.part)
_GET = statements.for_sqlite(
    select(baseline.c.content).where(*(column == bindparam(column.name) for column in _KEY))
).sql
_PAGE = statements.for_sqlite(
    select(*_KEY, baseline.c.content)
    .where(tuple_(*_KEY) > tuple_(*(bindparam(f"after_{column.name}") for column in _KEY)))
    .order_by(*_KEY)
    .limit(bindparam("rows_max"))
).sql
_OF_KIND = statements.for_sqlite(
    select(baseline.c.content).where(baseline.c.kind == bindparam("of_kind"))
).sql
_RECIPIENTS_OF = statements.for_sqlite(
    select(baseline.c.content).where(
        *(column == bindparam(f"of_{column.name}") for column in _KEY[:3])
    )
).sql
_put = insert(baseline)
_PUT = statements.for_sqlite(
    _put.on_conflict_do_update(index_elements=_KEY, set_={"content": _put.excluded.content})
).sql
_DROP = statements.for_sqlite(
    delete(baseline).where(*(column == bindparam(f"of_{column.name}") for column in _KEY))
).sql
_END = statements.for_sqlite(
    delete(baseline).where(
        *(column == bindparam(f"of_{column.name}") for column in _KEY[:3]),
    )
).sql
_BEFORE_ALL = BaselineKey(BaselineKind.MESSAGE, "", "", "")


class SqliteBaseline:
    """Reads on a connection that someone else owns."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def messages(self, keys: Collection[MessageKey]) -> dict[MessageKey, Message]:
        found = ((key, self._content(rows.message_key(key))) for key in keys)
        return {key: rows.MESSAGES.decode(content) for key, content in found if content}

    def recipients(self, keys: Collection[RecipientKey]) -> dict[RecipientKey, Recipient]:
        found = (
            (key, self._content(rows.recipient_key(MessageKey(*key[:2]), key.participant)))
            for key in keys
        )
        return {key: rows.RECIPIENTS.decode(content) for key, content in found if content}

    def recipients_of(self, key: MessageKey) -> list[Recipient]:
        with translated():
            found = self._connection.execute(_RECIPIENTS_OF, (BaselineKind.RECIPIENT, *key))
            return [rows.RECIPIENTS.decode(row[0]) for row in found]

    def webhooks(self) -> list[WebhookUpdate]:
        with translated():
            found = self._connection.execute(_OF_KIND, (BaselineKind.WEBHOOK,)).fetchall()
        return [rows.WEBHOOKS.decode(row[0]) for row in found]

    def last_webhook(self, instance: str) -> WebhookUpdate | None:
        own = (update for update in self.webhooks() if update.instance == instance)
        return max(own, key=lambda update: update.attempt_position, default=None)

    def webhook(self, update_id: str) -> WebhookUpdate | None:
        return next((one for one in self.webhooks() if one.update_id == update_id), None)

    def instance(self, name: str) -> Instance | None:
        content = self._content(BaselineKey(BaselineKind.INSTANCE, name, "", ""))
        return rows.INSTANCES.decode(content) if content else None

    def parts(self, rows_max: int) -> Iterator[BaselinePart]:
        after = _BEFORE_ALL
        while True:
            with translated():
                found = self._connection.execute(_PAGE, (*after, rows_max)).fetchall()
            if not found:
                return
            page = [BaselineRow(_key(row), row[4]) for row in found]
            yield rows.part_of(page)
            after = page[-1].key

    def _content(self, key: BaselineKey) -> bytes | None:
        with translated():
            row = self._connection.execute(_GET, key).fetchone()
        return row[0] if row else None


def write(connection: sqlite3.Connection, change: BaselineChange) -> None:
    """Inside the transaction of whoever calls."""
    for kind in (BaselineKind.MESSAGE, BaselineKind.RECIPIENT):
        connection.executemany(_END, [(kind, *key) for key in change.ended])
    connection.executemany(_DROP, change.dropped)
    connection.executemany(_PUT, [(*row.key, row.content) for row in change.put])


def _key(row: Sequence[Any]) -> BaselineKey:
    return BaselineKey(BaselineKind(row[0]), row[1], row[2], row[3])
