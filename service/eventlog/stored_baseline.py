"""The baseline in the event log's database."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from service.database.database import Connection
from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient, RecipientKey
from service.domain.webhook import WebhookUpdate
from service.eventlog import baseline as rows
from service.eventlog import statements
from service.eventlog.baseline import BaselineKey, BaselineKind, BaselinePart, BaselineRow
from service.eventlog.faults import translated
from service.eventlog.log import BaselineChange

_BEFORE_ALL = BaselineKey(BaselineKind.MESSAGE, "", "", "")


class StoredBaseline:
    """Reads on a connection that someone else owns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sql = statements.of(connection.dialect)

    def messages(self, keys: Collection[MessageKey]) -> dict[MessageKey, Message]:
        found = self._contents([rows.message_key(key) for key in keys])
        return {key: rows.MESSAGES.decode(one) for key, one in zip(keys, found, strict=True) if one}

    def recipients(self, keys: Collection[RecipientKey]) -> dict[RecipientKey, Recipient]:
        found = self._contents(
            [rows.recipient_key(MessageKey(*key[:2]), key.participant) for key in keys]
        )
        return {
            key: rows.RECIPIENTS.decode(one) for key, one in zip(keys, found, strict=True) if one
        }

    def recipients_of(self, key: MessageKey) -> list[Recipient]:
        with translated(self._connection):
            found = self._connection.execute(
                self._sql.baseline_recipients_of, (BaselineKind.RECIPIENT, *key)
            )
            return [rows.RECIPIENTS.decode(row[0]) for row in found]

    def webhooks(self) -> list[WebhookUpdate]:
        with translated(self._connection):
            found = self._connection.execute(
                self._sql.baseline_of_kind, (BaselineKind.WEBHOOK,)
            ).fetchall()
        return [rows.WEBHOOKS.decode(row[0]) for row in found]

    def last_webhook(self, instance: str) -> WebhookUpdate | None:
        own = (update for update in self.webhooks() if update.instance == instance)
        return max(own, key=lambda update: update.attempt_position, default=None)

    def webhook(self, update_id: str) -> WebhookUpdate | None:
        return next((one for one in self.webhooks() if one.update_id == update_id), None)

    def instance(self, name: str) -> Instance | None:
        content = self._contents([BaselineKey(BaselineKind.INSTANCE, name, "", "")])[0]
        return rows.INSTANCES.decode(content) if content else None

    def parts(self, rows_max: int) -> Iterator[BaselinePart]:
        after = _BEFORE_ALL
        while True:
            with translated(self._connection):
                found = self._connection.execute(
                    self._sql.baseline_page, (*after, rows_max)
                ).fetchall()
            if not found:
                return
            page = [BaselineRow(_key(row), row[4]) for row in found]
            yield rows.part_of(page)
            after = page[-1].key

    def _contents(self, keys: Sequence[BaselineKey]) -> list[bytes | None]:
        with translated(self._connection):
            found = self._connection.each(self._sql.baseline_get, keys)
            return [each[0][0] if each else None for each in found]


def write(connection: Connection, change: BaselineChange) -> None:
    """Inside the transaction of whoever calls."""
    sql = statements.of(connection.dialect)
    for kind in (BaselineKind.MESSAGE, BaselineKind.RECIPIENT):
        connection.executemany(sql.baseline_end, [(kind, *key) for key in change.ended])
    connection.executemany(sql.baseline_drop, change.dropped)
    connection.executemany(sql.baseline_put, [(*row.key, row.content) for row in change.put])


def _key(row: Sequence[Any]) -> BaselineKey:
    return BaselineKey(BaselineKind(row[0]), row[1], row[2], row[3])
