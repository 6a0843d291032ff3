"""The views in one SQLite file."""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from service import errors
from service.database.sqlite import close_writer, connect_reader, connect_writer
from service.domain.events import Mark, Place, Point, Position, QuarantineReason, end_of
from service.domain.instance import Instance
from service.domain.message import Message, Recipient
from service.domain.webhook import WebhookState, WebhookUpdate
from service.views import rows
from service.views import sqlite_statements as sql
from service.views.sqlite_statements import Statements
from service.views.store import (
    Checkpoint,
    FeedFilter,
    FeedPage,
    FeedRow,
    ListedReport,
    MessageFilter,
    MessageKey,
    MessagePage,
    QuarantineRow,
    RecipientKey,
    ViewsBatch,
)


class _Connection:
    """What writer and reader share: the live slot, and reads by key."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        self._connection.close()

    def log_identity(self) -> str:
        return str(self._required(sql.LOG_IDENTITY)[0])

    def checkpoint(self) -> Checkpoint:
        return self._live()[1]

    def last_webhook(self, instance: str) -> WebhookUpdate | None:
        row = self._one(self._sql().last_webhook, (instance,))
        return rows.webhook_of(row) if row else None

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """The statements inside see one state of the file. Only for a connection that reads."""
        with _translated():
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("ROLLBACK")

    def _live(self) -> tuple[str, Checkpoint]:
        slot, generation, position, receive_time_us = self._required(sql.LIVE)
        return slot, Checkpoint(generation, Mark(position, receive_time_us))

    def _sql(self) -> Statements:
        # Asked for at every read: a switch to another slot must be seen at the next one. A slot
        # that was left stays whole until the next rebuild, so rows read just after are sound.
        return sql.BY_SLOT[self._live()[0]]

    def _one(self, statement: str, parameters: Sequence[Any] = ()) -> Sequence[Any] | None:
        with _translated():
            row: Sequence[Any] | None = self._connection.execute(statement, parameters).fetchone()
        return row

    def _required(self, statement: str) -> Sequence[Any]:
        row = self._one(statement)
        assert row is not None
        return row

    def _all(self, statement: str, parameters: Sequence[Any]) -> list[Sequence[Any]]:
        with _translated():
            return self._connection.execute(statement, parameters).fetchall()


class SqliteViewsWriter(_Connection):
    """The file's one writing connection."""

    def __init__(self, path: Path, log_identity: str) -> None:
        """Raises StoreUnusable if the file cannot be opened, or holds the views of another log."""
        super().__init__(connect_writer(path))
        stored = self.log_identity()
        if stored == "":
            with _translated():
                self._connection.execute(sql.SET_LOG_IDENTITY, (log_identity,))
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

    def close(self) -> None:
        close_writer(self._connection)

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
            sql.ADVANCE,
            (until.position, until.receive_time_us, slot, since.generation, since.mark.position),
        )
        if advanced.rowcount != 1:
            raise errors.CheckpointMoved(
                f"the views stand at {checkpoint}, and the batch begins at {since}"
            )
        into = sql.BY_SLOT[slot]
        many = self._connection.executemany
        many(into.upsert_message, map(rows.message_row, batch.messages))
        many(into.upsert_recipient, (rows.recipient_row(*pair) for pair in batch.recipients))
        many(into.insert_feed, map(rows.feed_row, batch.feed))
        many(into.upsert_quarantine, batch.quarantine)
        many(into.upsert_webhook, map(rows.webhook_row, batch.webhooks))
        many(into.upsert_instance, map(rows.instance_row, batch.instances))

    def _each(self, statement: str, keys: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        execute = self._connection.execute
        with _translated():
            for key in keys:
                row = execute(statement, key).fetchone()
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
        whole: Point | None = None
        with self._snapshot():
            slot, checkpoint = self._live()
            cursor = self._connection.execute(
                sql.BY_SLOT[slot].feed, (after.position, after.index, until.position, rows_max)
            )
            for raw in cursor:
                row = rows.feed_of(raw)
                looked += 1
                if looked > 1 and row.place.position != end.place.position:
                    whole = Point(Place(end.place.position), end.receive_time_us)
                end = Point(row.place, row.receive_time_us)
                if wanted.matches(row):
                    found.append(row)
                    bytes_left -= len(row.change)
                    if bytes_left <= 0:
                        break
            # An unfinished statement would keep its read transaction, and the WAL from shrinking.
            cursor.close()
        if looked < rows_max and bytes_left > 0:
            end = end_of(until)
        elif whole is not None:
            # Stop at the end of an event where there is one: what follows of the last event
            # looked at is read again by the next page.
            end = whole
            while found and found[-1].place > end.place:
                found.pop()
        return FeedPage(checkpoint.generation, found, end)

    def recipients(self, key: MessageKey, after: str, rows_max: int) -> list[Recipient]:
        found = self._all(self._sql().recipients, (*key, after, rows_max))
        return [rows.recipient_of(row) for row in found]

    def reports(self, key: MessageKey, after: Place, rows_max: int) -> list[ListedReport]:
        found = self._all(self._sql().reports, (*key, after.position, after.index, rows_max))
        return [ListedReport(Place(Position(row[0]), row[1]), row[2]) for row in found]

    def last_changed(
        self, wanted: MessageFilter, before: Place, messages_max: int, looked_max: int
    ) -> MessagePage:
        statement, parameters = _narrowest(self._sql(), wanted)
        found: list[Message] = []
        looked = 0
        end = before
        with _translated():
            cursor = self._connection.execute(
                statement, (*parameters, before.position, before.index, looked_max)
            )
            for row in cursor:
                message = rows.message_of(row)
                looked += 1
                end = message.changed_at
                if wanted.matches(message):
                    found.append(message)
                    if len(found) == messages_max:
                        break
            cursor.close()
        more = len(found) == messages_max or looked == looked_max
        return MessagePage(found, end if more else None)

    def quarantine(self, instance: str, before: Position, rows_max: int) -> list[QuarantineRow]:
        found = (
            self._all(self._sql().quarantine_of_instance, (instance, before, rows_max))
            if instance
            else self._all(self._sql().quarantine, (before, rows_max))
        )
        return [
            QuarantineRow(Position(row[0]), row[1], QuarantineReason(row[2]), row[3])
            for row in found
        ]

    def webhook_updates(
        self, instance: str, before: Position, rows_max: int
    ) -> list[WebhookUpdate]:
        found = (
            self._all(self._sql().webhooks_of_instance, (instance, before, rows_max))
            if instance
            else self._all(self._sql().webhooks, (before, rows_max))
        )
        return [rows.webhook_of(row) for row in found]

    def instances(self, after: str, rows_max: int) -> list[Instance]:
        found = self._all(self._sql().instances, (after, rows_max))
        return [rows.instance_of(row) for row in found]

    def webhook_by_request(self, request_id: str) -> WebhookUpdate | None:
        row = self._one(self._sql().webhook_by_request, (request_id,))
        return rows.webhook_of(row) if row else None

    def pending_webhooks(self) -> list[WebhookUpdate]:
        found = self._all(self._sql().webhooks_by_state, (int(WebhookState.PENDING),))
        return [rows.webhook_of(row) for row in found]


def _narrowest(statements: Statements, wanted: MessageFilter) -> tuple[str, tuple[Any, ...]]:
    """The statement whose index leaves least to look at, and its parameters."""
    if wanted.phone:
        return statements.newest_of_phone, (wanted.phone,)
    if wanted.instance:
        return statements.newest_of_instance, (wanted.instance,)
    if len(wanted.statuses) == 1:
        return statements.newest_of_status, (int(next(iter(wanted.statuses))),)
    return statements.newest, ()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise errors.ViewsUnavailable(f"the views cannot be used: {error}") from error
