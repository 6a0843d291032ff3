"""The views in one SQLite file."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Table, bindparam, select, tuple_, update
from sqlalchemy.dialects.sqlite import insert

from service import errors
from service.database import statements
from service.database.sqlite import connect_reader, connect_writer
from service.domain.events import Mark, Place, Point, end_of
from service.domain.instance import Instance
from service.domain.message import Message, Recipient
from service.domain.webhook import WebhookState, WebhookUpdate
from service.views import rows
from service.views.store import (
    Checkpoint,
    CheckpointMoved,
    FeedFilter,
    FeedPage,
    FeedRow,
    MessageKey,
    RecipientKey,
    ViewsBatch,
)
from service.views.tables import SLOTS, TABLES, generations, views


def _upsert(table: Table) -> str:
    keys = [column.name for column in table.primary_key]
    statement = insert(table)
    return statements.for_sqlite(
        statement.on_conflict_do_update(
            index_elements=keys,
            set_={
                column.name: statement.excluded[column.name]
                for column in table.columns
                if column.name not in keys
            },
        )
    ).sql


def _by_key(table: Table) -> str:
    return statements.for_sqlite(
        select(table).where(*(column == bindparam(column.name) for column in table.primary_key))
    ).sql


class _Statements(NamedTuple):
    """Every statement over one slot's tables, as SQL with positional parameters."""

    message: str
    messages_by_id: str
    recipient: str
    feed: str
    webhook: str
    last_webhook: str
    webhook_by_request: str
    webhooks_by_state: str
    upsert_message: str
    upsert_recipient: str
    insert_feed: str
    upsert_quarantine: str
    upsert_webhook: str
    instance: str
    instances: str
    upsert_instance: str


def _statements(slot: str) -> _Statements:
    messages, recipients, feed, quarantine, webhooks, instances = TABLES[slot]
    last_first = webhooks.c.attempt_position.desc()
    return _Statements(
        message=_by_key(messages),
        messages_by_id=statements.for_sqlite(
            select(messages)
            .where(messages.c.message_id == bindparam("message_id"))
            .order_by(messages.c.instance)
            .limit(bindparam("messages_max"))
        ).sql,
        recipient=_by_key(recipients),
        feed=statements.for_sqlite(
            select(*(column for column in feed.c if column.name != "report"))
            .where(
                tuple_(feed.c.position, feed.c.report_index)
                > tuple_(bindparam("position"), bindparam("report_index")),
                feed.c.position <= bindparam("until"),
            )
            .order_by(feed.c.position, feed.c.report_index)
            .limit(bindparam("rows_max"))
        ).sql,
        webhook=_by_key(webhooks),
        last_webhook=statements.for_sqlite(
            select(webhooks)
            .where(webhooks.c.instance == bindparam("instance"))
            .order_by(last_first)
            .limit(1)
        ).sql,
        webhook_by_request=statements.for_sqlite(
            select(webhooks)
            .where(webhooks.c.request_id == bindparam("request_id"))
            .order_by(last_first)
            .limit(1)
        ).sql,
        webhooks_by_state=statements.for_sqlite(
            select(webhooks)
            .where(webhooks.c.state == bindparam("state"))
            .order_by(webhooks.c.attempt_position)
        ).sql,
        upsert_message=_upsert(messages),
        upsert_recipient=_upsert(recipients),
        insert_feed=statements.for_sqlite(insert(feed)).sql,
        upsert_quarantine=_upsert(quarantine),
        upsert_webhook=_upsert(webhooks),
        instance=_by_key(instances),
        instances=statements.for_sqlite(
            select(instances)
            .where(instances.c.instance > bindparam("after"))
            .order_by(instances.c.instance)
            .limit(bindparam("instances_max"))
        ).sql,
        upsert_instance=_upsert(instances),
    )


_BY_SLOT = {slot: _statements(slot) for slot in SLOTS}
_LIVE = statements.for_sqlite(
    select(
        views.c.live_slot,
        generations.c.generation,
        generations.c.position,
        generations.c.receive_time_us,
    ).where(generations.c.slot == views.c.live_slot)
).sql
_LOG_IDENTITY = statements.for_sqlite(select(views.c.log_identity)).sql
_SET_LOG_IDENTITY = statements.for_sqlite(
    update(views).values(log_identity=bindparam("identity"))
).sql
_ADVANCE = statements.for_sqlite(
    update(generations)
    .values(position=bindparam("until"), receive_time_us=bindparam("until_time_us"))
    .where(
        generations.c.slot == bindparam("of_slot"),
        generations.c.generation == bindparam("of_generation"),
        generations.c.position == bindparam("since"),
    )
).sql


class _Connection:
    """What writer and reader share: the live slot, and reads by key."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        self._connection.close()

    def log_identity(self) -> str:
        return str(self._required(_LOG_IDENTITY)[0])

    def checkpoint(self) -> Checkpoint:
        return self._live()[1]

    def last_webhook(self, instance: str) -> WebhookUpdate | None:
        row = self._one(self._sql().last_webhook, (instance,))
        return rows.webhook_of(row) if row else None

    def _live(self) -> tuple[str, Checkpoint]:
        slot, generation, position, receive_time_us = self._required(_LIVE)
        return slot, Checkpoint(generation, Mark(position, receive_time_us))

    def _sql(self) -> _Statements:
        # Asked for at every read: a switch to another slot must be seen at the next one. A slot
        # that was left stays whole until the next rebuild, so rows read just after are sound.
        return _BY_SLOT[self._live()[0]]

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> Sequence[Any] | None:
        with _translated():
            row: Sequence[Any] | None = self._connection.execute(sql, parameters).fetchone()
        return row

    def _required(self, sql: str) -> Sequence[Any]:
        row = self._one(sql)
        assert row is not None
        return row

    def _all(self, sql: str, parameters: Sequence[Any]) -> list[Sequence[Any]]:
        with _translated():
            return self._connection.execute(sql, parameters).fetchall()


class SqliteViewsWriter(_Connection):
    """The file's one writing connection."""

    def __init__(self, path: Path, log_identity: str) -> None:
        """Raises StoreUnusable if the file cannot be opened, or holds the views of another log."""
        super().__init__(connect_writer(path))
        stored = self.log_identity()
        if stored == "":
            with _translated():
                self._connection.execute(_SET_LOG_IDENTITY, (log_identity,))
        elif stored != log_identity:
            self.close()
            raise errors.StoreUnusable(
                f"{path} holds the views of another event log: move it away, and the views are "
                "built again from this one"
            )

    def messages(self, keys: Collection[MessageKey]) -> dict[MessageKey, Message]:
        found = self._each(self._sql().message, keys)
        return {MessageKey(row[0], row[1]): rows.message_of(row) for row in found}

    def recipients(self, keys: Collection[RecipientKey]) -> dict[RecipientKey, Recipient]:
        found = self._each(self._sql().recipient, keys)
        return {RecipientKey(row[0], row[1], row[2]): rows.recipient_of(row) for row in found}

    def webhook(self, update_id: str) -> WebhookUpdate | None:
        row = self._one(self._sql().webhook, (update_id,))
        return rows.webhook_of(row) if row else None

    def instance(self, name: str) -> Instance | None:
        row = self._one(self._sql().instance, (name,))
        return rows.instance_of(row) if row else None

    def apply(self, batch: ViewsBatch) -> None:
        connection = self._connection
        with _translated():
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._write(batch)
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def _write(self, batch: ViewsBatch) -> None:
        slot, checkpoint = self._live()
        since, until = batch.since, batch.until
        advanced = self._connection.execute(
            _ADVANCE,
            (until.position, until.receive_time_us, slot, since.generation, since.mark.position),
        )
        if advanced.rowcount != 1:
            raise CheckpointMoved(
                f"the views stand at {checkpoint}, and the batch begins at {since}"
            )
        sql = _BY_SLOT[slot]
        many = self._connection.executemany
        many(sql.upsert_message, map(rows.message_row, batch.messages))
        many(sql.upsert_recipient, (rows.recipient_row(*pair) for pair in batch.recipients))
        many(sql.insert_feed, map(rows.feed_row, batch.feed))
        many(sql.upsert_quarantine, batch.quarantine)
        many(sql.upsert_webhook, map(rows.webhook_row, batch.webhooks))
        many(sql.upsert_instance, map(rows.instance_row, batch.instances))

    def _each(self, sql: str, keys: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        execute = self._connection.execute
        with _translated():
            for key in keys:
                row = execute(sql, key).fetchone()
                if row is not None:
                    yield row


class SqliteViewsReader(_Connection):
    """A read-only connection of the views' file."""

    def __init__(self, path: Path) -> None:
        """Raises StoreUnusable if the file cannot be opened."""
        super().__init__(connect_reader(path))

    def message(self, key: MessageKey) -> Message | None:
        row = self._one(self._sql().message, key)
        return rows.message_of(row) if row else None

    def messages_by_id(self, message_id: str, messages_max: int) -> list[Message]:
        found = self._all(self._sql().messages_by_id, (message_id, messages_max))
        return [rows.message_of(row) for row in found]

    def feed(
        self, after: Place, until: Mark, wanted: FeedFilter, rows_max: int, bytes_max: int
    ) -> FeedPage:
        found: list[FeedRow] = []
        looked = 0
        bytes_left = bytes_max
        end = Point(after, 0)
        with _translated():
            cursor = self._connection.execute(
                self._sql().feed, (after.position, after.index, until.position, rows_max)
            )
            for raw in cursor:
                row = rows.feed_of(raw)
                looked += 1
                end = Point(row.place, row.receive_time_us)
                if wanted.matches(row):
                    found.append(row)
                    bytes_left -= len(row.change)
                    if bytes_left <= 0:
                        break
            # An unfinished statement would keep its read transaction, and the WAL from shrinking.
            cursor.close()
        exhausted = looked < rows_max and bytes_left > 0
        return FeedPage(found, end_of(until) if exhausted else end)

    def webhook_by_request(self, request_id: str) -> WebhookUpdate | None:
        row = self._one(self._sql().webhook_by_request, (request_id,))
        return rows.webhook_of(row) if row else None

    def pending_webhooks(self) -> list[WebhookUpdate]:
        found = self._all(self._sql().webhooks_by_state, (int(WebhookState.PENDING),))
        return [rows.webhook_of(row) for row in found]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise errors.ViewsUnavailable(f"the views cannot be used: {error}") from error
