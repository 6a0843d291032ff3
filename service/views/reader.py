"""The views, read."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

from service import errors
from service.database.database import Database, Row
from service.domain.events import Mark, Place, Point, Position, QuarantineReason, end_of
from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient
from service.domain.status import Status
from service.domain.webhook import WebhookState, WebhookUpdate
from service.views import beside, packs, rows, walks
from service.views import statements as sql
from service.views.faults import translated
from service.views.feed import FeedFilter, FeedPage, FeedRow, Pack, PackedPage
from service.views.statements import Statements
from service.views.store import (
    Checkpoint,
    EncodedMessage,
    ListedReport,
    MessageFilter,
    MessagePage,
    QuarantineRow,
    SnapshotPage,
)
from service.views.tables import SLOTS
from service.wire import encode, frames
from service.wire.cursor import CursorCodec

_ROWS_OF_AN_ID = 4
"""More than that, on average, are not read at once: an id nearly always is of one instance."""

_CHUNK_ROWS = 500
"""Messages that are read at once for a page that may need many more than it shows."""


class _Live(NamedTuple):
    """The live slot, as one transaction sees it."""

    slot: str
    sql: Statements
    checkpoint: Checkpoint
    kept_from: Position


class StoredViewsReader:
    """A read-only connection of the views."""

    def __init__(self, database: Database) -> None:
        """Raises StoreUnusable if they cannot be opened."""
        self._connection = database.connect_reader()
        self._translated = translated(self._connection)
        self._common = beside.common(database.dialect)
        self._likely = sql.of_slot(database.dialect, SLOTS[0])
        """Of the slot that was live last time."""
        self._cursors: CursorCodec | None = None

    @property
    def usable(self) -> bool:
        return self._connection.usable

    def close(self) -> None:
        self._connection.close()

    def log_identity(self) -> str:
        with self._translated:
            return str(self._one(self._common.log_identity)[0])

    def checkpoint(self) -> Checkpoint:
        with self._translated:
            return self._live().checkpoint

    def message(self, key: MessageKey) -> Message | None:
        with self._snapshot() as live:
            found = self._all(live.sql.message, key)
        return rows.message_of(found[0]) if found else None

    def messages_by_id(
        self, message_id: str, instances: Collection[str], messages_max: int
    ) -> list[EncodedMessage]:
        if len(instances) <= 1:
            # Nearly always the slot is still live that was last time, and one statement finds the
            # message there; a transaction that first asks which one is would take four.
            with self._translated:
                found = (
                    self._all(self._likely.encoded_if_live, (*instances, message_id))
                    if instances
                    else self._all(self._likely.encoded_by_id_if_live, (message_id, messages_max))
                )
            if found and not _lacking(found):
                return list(map(EncodedMessage._make, found))
        with self._snapshot() as live:
            if not instances:
                found = self._all(live.sql.encoded_by_id, (message_id, messages_max))
            else:
                keys = [(instance, message_id) for instance in sorted(instances)]
                each = self._connection.each(live.sql.encoded, keys)
                found = [row for rows_ in each for row in rows_][:messages_max]
            return [self._encoded(live, *row) for row in found]

    def messages_of_ids(
        self, ids: Sequence[str], instances: Collection[str], messages_max: int
    ) -> dict[str, list[EncodedMessage]]:
        rows_max = _ROWS_OF_AN_ID * len(ids)
        with self._translated:
            given = sql.ids_given(self._connection.dialect, ids), rows_max
            found = self._all(self._likely.encoded_of_ids_if_live, given)
        of_ids: dict[str, list[EncodedMessage]] = {message_id: [] for message_id in ids}
        if len(found) == rows_max or _lacking(found):
            # Many instances have these ids, or earlier programs wrote some: one by one, a few each.
            found = []
        for row in found:
            if not instances or row[0] in instances:
                of_ids[row[1]].append(EncodedMessage(*row))
        for message_id, messages in of_ids.items():
            if not messages:
                # Really none, or none in what was read.
                messages += self.messages_by_id(message_id, instances, messages_max)
        return of_ids

    def feed(
        self, after: Place, until: Mark, wanted: FeedFilter, rows_max: int, bytes_max: int
    ) -> FeedPage:
        with self._snapshot() as live:
            return self._feed(live, after, until, wanted, rows_max, bytes_max)

    def changes(
        self, after: Place, until: Mark, wanted: FeedFilter, rows_max: int, bounds: frames.Bounds
    ) -> PackedPage:
        with self._snapshot() as live:
            if wanted.of_any_message:
                # What most watchers want.
                return self._packed(live, after, until, wanted, rows_max, bounds)
            page = self._feed(live, after, until, wanted, rows_max, bounds.bytes_max)
            return PackedPage(page.generation, packs.of_rows(page.rows, bounds), page.end)

    def _packed(
        self,
        live: _Live,
        after: Place,
        until: Mark,
        wanted: FeedFilter,
        rows_max: int,
        bounds: frames.Bounds,
    ) -> PackedPage:
        _check_kept(live, after)
        packing = packs.of_slot(self._connection.dialect, live.slot)
        generation = live.checkpoint.generation
        found: list[Pack] = []
        bytes_left = bounds.bytes_max
        while True:
            at_once = min(rows_max, bounds.changes_max)
            part = packs.part_behind(self._connection, packing, after, until.position, at_once)
            pack = packs.joined(
                self._connection, packing, part, bounds.bytes_max, unchanged=wanted.unchanged
            )
            if pack is None:
                page = self._feed(live, after, until, wanted, at_once, bounds.bytes_max)
                return PackedPage(generation, [*found, *packs.of_rows(page.rows, bounds)], page.end)
            if pack.changes:
                found.append(pack)
                bytes_left -= len(pack.changes)
            rows_max -= at_once
            if part.end is None or not rows_max or bytes_left <= 0:
                return PackedPage(generation, found, part.end or end_of(until))
            after = part.through

    def _feed(
        self,
        live: _Live,
        after: Place,
        until: Mark,
        wanted: FeedFilter,
        rows_max: int,
        bytes_max: int,
    ) -> FeedPage:
        looked: list[Row] = []
        found: list[FeedRow] = []
        at_end, bytes_left = False, bytes_max
        _check_kept(live, after)
        reports = walks.reports(
            self._connection, live.sql, wanted, walks.Stretch(after, until.position, rows_max)
        )
        while not at_end and bytes_left > 0 and len(looked) < rows_max:
            at_once = min(_CHUNK_ROWS, rows_max - len(looked))
            chunk = list(islice(reports, at_once))
            at_end = len(chunk) < at_once
            looked += chunk
            of_chunk = list(filter(wanted.matches, map(FeedRow._make, chunk)))
            found += of_chunk
            bytes_left -= sum([len(row.change) for row in of_chunk])
        if bytes_left <= 0:
            # Back to the row that reached it: no more than that is held for a watcher.
            while bytes_left + len(found[-1].change) <= 0:
                bytes_left += len(found.pop().change)
            while looked[-1][:2] != found[-1][:2]:
                looked.pop()
            at_end = False
        end = end_of(until) if at_end else _end_within(looked)
        while found and found[-1].place > end.place:
            found.pop()
        return FeedPage(live.checkpoint.generation, found, end)

    def snapshot(
        self, after: MessageKey, as_of: Position, wanted: FeedFilter, messages_max: int
    ) -> SnapshotPage:
        matches, anything = wanted.matches_message, wanted.of_any_message
        with self._snapshot() as live:
            _check_kept(live, Place(as_of))
            by_key = walks.messages_by_key(self._connection, live.sql, wanted, after, messages_max)
            looked_at = list(islice(by_key, messages_max))
            found = [
                (instance, message_id, status, encoded)
                for instance, message_id, phone, status, changed_position, encoded in looked_at
                if changed_position <= as_of
                and (anything or matches(instance, message_id, phone, status))
            ]
            messages = (
                [self._encoded(live, *row) for row in found]
                if _lacking(found)
                else list(map(EncodedMessage._make, found))
            )
        end = MessageKey(*looked_at[-1][:2]) if len(looked_at) == messages_max else None
        return SnapshotPage(live.checkpoint.generation, messages, end)

    def holds_trace(self, text: str) -> bool:
        with self._translated:
            return self._connection.holds_trace(text)

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
        encoded: list[bytes] = []
        end = before
        # No more at once than the page may need: a database may send all that is asked for. Where
        # the walk itself leaves out all that is not wanted, that is a page.
        at_once = messages_max if wanted.of_one_field else max(messages_max, _CHUNK_ROWS)
        at_once = min(looked_max, at_once)
        with self._snapshot() as live:
            by_change = walks.messages_by_change(
                self._connection, live.sql, wanted, before, at_once
            )
            looked = 0
            for row in islice(by_change, looked_max):
                message = rows.message_of(row)
                looked += 1
                end = message.changed_at
                if wanted.matches(message):
                    found.append(message)
                    encoded.append(row[-1] or encode.message(message, self._codec()))
                    if len(found) == messages_max:
                        return MessagePage(found, encoded, end)
        return MessagePage(found, encoded, end if looked == looked_max else None)

    def quarantine(
        self, instances: Collection[str], before: Position, rows_max: int
    ) -> list[QuarantineRow]:
        with self._snapshot() as live:
            listing = walks.Listing.quarantine(live.sql)
            found = list(walks.newest(self._connection, listing, instances, before, rows_max))
        return [QuarantineRow(row[0], row[1], QuarantineReason(row[2]), row[3]) for row in found]

    def webhook_updates(
        self, instances: Collection[str], before: Position, rows_max: int
    ) -> list[WebhookUpdate]:
        with self._snapshot() as live:
            listing = walks.Listing.webhooks(live.sql)
            found = list(walks.newest(self._connection, listing, instances, before, rows_max))
        return [rows.webhook_of(row) for row in found]

    def instances(self, after: str, rows_max: int, among: Collection[str] = ()) -> list[Instance]:
        with self._snapshot() as live:
            if among:
                names = [(one,) for one in sorted(among) if one > after]
                each = self._connection.each(live.sql.instance, names)
                found = [row for rows_ in each for row in rows_][:rows_max]
            else:
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

    def webhooks_in(self, state: WebhookState) -> list[WebhookUpdate]:
        with self._snapshot() as live:
            found = self._all(live.sql.webhooks_by_state, (int(state),))
        return [rows.webhook_of(row) for row in found]

    def count_of_status(
        self, status: Status, first: Position, until: Position, count_max: int
    ) -> int:
        with self._snapshot() as live:
            found = self._all(live.sql.of_status_within, (int(status), first, until, count_max))
        return len(found)

    @contextmanager
    def _snapshot(self) -> Iterator[_Live]:
        """The statements inside see one state of the views.

        So the slot they read is the live one, and whole: a rebuild empties the other one.
        """
        with self._translated, self._connection.snapshot():
            yield self._live()

    def _live(self) -> _Live:
        slot, generation, position, receive_time_us, kept_from = self._one(self._common.live)
        self._likely = sql.of_slot(self._connection.dialect, slot)
        return _Live(
            slot,
            self._likely,
            Checkpoint(generation, Mark(position, receive_time_us)),
            kept_from,
        )

    def _one(self, statement: str, parameters: Sequence[Any] = ()) -> Row:
        row = self._connection.execute(statement, parameters).fetchone()
        assert row is not None
        return row

    def _encoded(
        self, live: _Live, instance: str, message_id: str, status: int, encoded: bytes | None
    ) -> EncodedMessage:
        if encoded is None:
            row = self._one(live.sql.message, (instance, message_id))
            encoded = encode.message(rows.message_of(row), self._codec())
        return EncodedMessage(instance, message_id, status, encoded)

    def _codec(self) -> CursorCodec:
        if self._cursors is None:
            self._cursors = CursorCodec(str(self._one(self._common.log_identity)[0]))
        return self._cursors

    def _all(self, statement: str, parameters: Sequence[Any]) -> list[Row]:
        return self._connection.execute(statement, parameters).fetchall()


def _end_within(looked: Sequence[Row]) -> Point:
    """Where a page ends that stops among these rows.

    At the end of an event where there is one: what follows of the last event is read again.
    """
    last_position, last_index, last_time_us, *_ = looked[-1]
    for position, _, time_us, *_ in reversed(looked):
        if position != last_position:
            return Point(Place(Position(position)), time_us)
    return Point(Place(Position(last_position), last_index), last_time_us)


def _lacking(found: Sequence[Row]) -> bool:
    """Is one of them still to be encoded?"""
    for row in found:  # noqa: SIM110 — one, nearly always: a generator costs more
        if row[3] is None:
            return True
    return False


def _check_kept(live: _Live, after: Place) -> None:
    if live.kept_from > 1 and after < Place(Position(live.kept_from - 1)):
        raise errors.CursorExpired(
            "retention has removed events behind this place: start from a snapshot"
        )
