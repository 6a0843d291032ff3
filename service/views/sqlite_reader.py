"""The views in one SQLite file, read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from service import errors
from service.database.sqlite import connect_reader, holds_trace
from service.domain.events import Mark, Place, Point, Position, QuarantineReason, end_of
from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient
from service.domain.webhook import WebhookState, WebhookUpdate
from service.views import rows
from service.views import sqlite_statements as sql
from service.views import sqlite_walks as walks
from service.views.sqlite_errors import translated
from service.views.sqlite_statements import Statements
from service.views.store import (
    Checkpoint,
    FeedFilter,
    FeedPage,
    FeedRow,
    ListedReport,
    MessageFilter,
    MessagePage,
    QuarantineRow,
    SnapshotPage,
)


class _Live(NamedTuple):
    """The live slot, as one transaction sees it."""

    sql: Statements
    checkpoint: Checkpoint
    kept_from: Position


class SqliteViewsReader:
    """A read-only connection of the views' file."""

    def __init__(self, path: Path) -> None:
        """Raises StoreUnusable if the file cannot be opened."""
        self._connection = connect_reader(path)

    def close(self) -> None:
        self._connection.close()

    def log_identity(self) -> str:
        with translated():
            return str(self._connection.execute(sql.LOG_IDENTITY).fetchone()[0])

    def checkpoint(self) -> Checkpoint:
        with translated():
            return _live(self._connection.execute(sql.LIVE).fetchone()).checkpoint

    def message(self, key: MessageKey) -> Message | None:
        with self._snapshot() as live:
            found = self._all(live.sql.message, key)
        return rows.message_of(found[0]) if found else None

    def messages_by_id(self, message_id: str, messages_max: int) -> list[Message]:
        with self._snapshot() as live:
            found = self._all(live.sql.messages_by_id, (message_id, messages_max))
        return [rows.message_of(row) for row in found]

    def feed(
        self, after: Place, until: Mark, wanted: FeedFilter, rows_max: int, bytes_max: int
    ) -> FeedPage:
        found: list[FeedRow] = []
        looked = 0
        bytes_left = bytes_max
        end = Point(after, 0)
        whole: Point | None = None
        with self._snapshot() as live:
            _check_kept(live, after)
            stretch = walks.Stretch(after, until.position, rows_max)
            with walks.reports(self._connection, live.sql, wanted, stretch) as reports:
                for raw in islice(reports, rows_max):
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
        if looked < rows_max and bytes_left > 0:
            end = end_of(until)
        elif whole is not None:
            # Stop at the end of an event where there is one: what follows of the last event
            # looked at is read again by the next page.
            end = whole
            while found and found[-1].place > end.place:
                found.pop()
        return FeedPage(live.checkpoint.generation, found, end)

    def snapshot(
        self, after: MessageKey, as_of: Position, wanted: FeedFilter, messages_max: int
    ) -> SnapshotPage:
        found: list[Message] = []
        end = after
        looked = 0
        with self._snapshot() as live:
            _check_kept(live, Place(as_of))
            walk = walks.messages_by_key(self._connection, live.sql, wanted, after, messages_max)
            with walk as by_key:
                for raw in islice(by_key, messages_max):
                    message = rows.message_of(raw)
                    looked += 1
                    end = MessageKey(message.instance, message.message_id)
                    if message.changed_at <= Place(as_of) and wanted.matches_message(message):
                        found.append(message)
        return SnapshotPage(
            live.checkpoint.generation, found, end if looked == messages_max else None
        )

    def holds_trace(self, text: str) -> bool:
        with translated():
            return holds_trace(self._connection, text)

    def recipients(self, key: MessageKey, after: str, rows_max: int) -> list[Recipient]:
        with self._snapshot() as live:
            found = self._all(live.sql.recipients, (*key, after, rows_max))
        return [rows.recipient_of(row) for row in found]

    def reports(self, key: MessageKey, after: Place, rows_max: int) -> list[ListedReport]:
        with self._snapshot() as live:
            found = self._all(live.sql.reports, (*key, after.position, after.index, rows_max))
        return [ListedReport(Place(Position(row[0]), row[1]), row[2]) for row in found]

    def last_changed(
        self, wanted: MessageFilter, before: Place, messages_max: int, looked_max: int
    ) -> MessagePage:
        found: list[Message] = []
        looked = 0
        end = before
        with self._snapshot() as live:
            statement, parameters = _narrowest(live.sql, wanted)
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
        with self._snapshot() as live:
            found = (
                self._all(live.sql.quarantine_of_instance, (instance, before, rows_max))
                if instance
                else self._all(live.sql.quarantine, (before, rows_max))
            )
        return [QuarantineRow(row[0], row[1], QuarantineReason(row[2]), row[3]) for row in found]

    def webhook_updates(
        self, instance: str, before: Position, rows_max: int
    ) -> list[WebhookUpdate]:
        with self._snapshot() as live:
            found = (
                self._all(live.sql.webhooks_of_instance, (instance, before, rows_max))
                if instance
                else self._all(live.sql.webhooks, (before, rows_max))
            )
        return [rows.webhook_of(row) for row in found]

    def instances(self, after: str, rows_max: int) -> list[Instance]:
        with self._snapshot() as live:
            found = self._all(live.sql.instances, (after, rows_max))
        return [rows.instance_of(row) for row in found]

    def last_webhook(self, instance: str) -> WebhookUpdate | None:
        with self._snapshot() as live:
            found = self._all(live.sql.last_webhook, (instance,))
        return rows.webhook_of(found[0]) if found else None

    def webhook_by_request(self, request_id: str) -> WebhookUpdate | None:
        with self._snapshot() as live:
            found = self._all(live.sql.webhook_by_request, (request_id,))
        return rows.webhook_of(found[0]) if found else None

    def pending_webhooks(self) -> list[WebhookUpdate]:
        with self._snapshot() as live:
            found = self._all(live.sql.webhooks_by_state, (int(WebhookState.PENDING),))
        return [rows.webhook_of(row) for row in found]

    @contextmanager
    def _snapshot(self) -> Iterator[_Live]:
        """The statements inside see one state of the file.

        So the slot they read is the live one, and whole: a rebuild empties the other one.
        """
        with translated():
            self._connection.execute("BEGIN")
            try:
                yield _live(self._connection.execute(sql.LIVE).fetchone())
            finally:
                self._connection.execute("ROLLBACK")

    def _all(self, statement: str, parameters: Sequence[Any]) -> list[Sequence[Any]]:
        return self._connection.execute(statement, parameters).fetchall()


def _check_kept(live: _Live, after: Place) -> None:
    if live.kept_from > 1 and after < Place(Position(live.kept_from - 1)):
        raise errors.CursorExpired(
            "retention has removed events behind this place: start from a snapshot"
        )


def _live(row: Sequence[Any]) -> _Live:
    slot, generation, position, receive_time_us, kept_from = row
    return _Live(
        sql.BY_SLOT[slot], Checkpoint(generation, Mark(position, receive_time_us)), kept_from
    )


def _narrowest(statements: Statements, wanted: MessageFilter) -> tuple[str, tuple[Any, ...]]:
    """The statement whose index leaves least to look at, and its parameters."""
    if wanted.phone:
        return statements.newest_of_phone, (wanted.phone,)
    if wanted.instance:
        return statements.newest_of_instance, (wanted.instance,)
    if len(wanted.statuses) == 1:
        return statements.newest_of_status, (int(next(iter(wanted.statuses))),)
    return statements.newest, ()
