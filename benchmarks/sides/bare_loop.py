"""The projector's work in one function: the same decoding, folding, encoding and SQL, on the
driver's own connections, and nothing around it."""

import sqlite3
from pathlib import Path
from typing import NamedTuple

from service.database.database import Dialect
from service.domain import instance
from service.domain.events import Event, EventKind, Position
from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient, RecipientKey, fold
from service.eventlog import statements as log_sql
from service.plugchat.decode import decode
from service.projector.batch import feed_entry
from service.views import beside, rows
from service.views import statements as views_sql
from service.views.feed import FeedEntry
from service.wire import encode
from service.wire.cursor import CursorCodec


class _Made(NamedTuple):
    messages: dict[MessageKey, Message]
    encoded: dict[MessageKey, bytes]
    recipients: dict[RecipientKey, Recipient]
    instances: dict[str, Instance]
    feed: list[FeedEntry]
    quarantine: list[tuple[object, ...]]


class BareLoop:
    """Over the log and the fresh views of a data folder, `events` in a transaction."""

    def __init__(self, events: Path, views: Path, cursors: CursorCodec) -> None:
        self._log = sqlite3.connect(events, isolation_level=None)
        self._views = sqlite3.connect(views, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "cache_size=-65536"):
            self._views.execute(f"PRAGMA {pragma}")
        self._cursors = cursors
        self._read = log_sql.of(Dialect.SQLITE).read
        self._sql = views_sql.of_slot(Dialect.SQLITE, "a")
        self._advance = beside.common(Dialect.SQLITE).advance
        self.position = 0

    def close(self) -> None:
        self._log.close()
        self._views.close()

    def step(self, events_max: int) -> int:
        """How many events were folded."""
        events = [
            Event(Position(position), name, received_us, EventKind(kind), content)
            for position, name, received_us, kind, _, content in self._log.execute(
                self._read, (self.position, events_max)
            )
        ]
        if not events:
            return 0
        self._views.execute("BEGIN IMMEDIATE")
        made = self._made(events)
        self._write(made, events[-1])
        self.position = events[-1].position
        return len(events)

    def _made(self, events: list[Event]) -> _Made:
        execute, sql = self._views.execute, self._sql
        messages: dict[MessageKey, Message] = {}
        recipients: dict[RecipientKey, Recipient] = {}
        instances: dict[str, Instance] = {}
        encoded: dict[MessageKey, bytes] = {}
        feed: list[FeedEntry] = []
        quarantine: list[tuple[object, ...]] = []
        for event in events:
            reading = decode(event)
            name = event.instance
            instances[name] = instance.heard(
                instances.get(name), name, event.receive_time_us, reading.connection
            )
            if reading.quarantined is not None:
                quarantine.append(
                    (event.position, name, reading.quarantined, event.receive_time_us)
                )
            for report in reading.reports:
                key = MessageKey(report.instance, report.message_id)
                if key not in messages:
                    found = execute(sql.message, key).fetchone()
                    if found:
                        messages[key] = rows.message_of(found)
                person = RecipientKey(*key, report.participant)
                if report.participant and person not in recipients:
                    found = execute(sql.recipient, person).fetchone()
                    if found:
                        recipients[person] = rows.recipient_of(found)
                folded = fold(messages.get(key), recipients.get(person), report)
                messages[key] = folded.message
                if folded.recipient is not None:
                    recipients[person] = folded.recipient
                one = encoded[key] = encode.message(folded.message, self._cursors)
                feed.append(feed_entry(folded, one, report, self._cursors))
        return _Made(messages, encoded, recipients, instances, feed, quarantine)

    def _write(self, made: _Made, last: Event) -> None:
        execute, sql = self._views.execute, self._sql
        many = self._views.executemany
        execute(self._advance, (last.position, last.receive_time_us, "a", 1, self.position))
        many(
            sql.upsert_message,
            (rows.message_row(one, made.encoded.get(key)) for key, one in made.messages.items()),
        )
        many(
            sql.upsert_recipient,
            (rows.recipient_row(MessageKey(*key[:2]), one) for key, one in made.recipients.items()),
        )
        many(sql.insert_feed, map(rows.feed_row, made.feed))
        many(sql.upsert_quarantine, made.quarantine)
        many(sql.upsert_instance, map(rows.instance_row, made.instances.values()))
        execute("COMMIT")
