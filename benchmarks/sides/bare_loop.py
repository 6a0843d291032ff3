"""The projector's work in one function: the same decoding, folding, encoding and SQL, on the
driver's own connections, and nothing around it."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service.database.database import Dialect
from service.domain import instance
from service.domain.events import Event, EventKind, Position
from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient, RecipientKey, fold
from service.eventlog import statements as log_sql
from service.plugchat.decode import decode
from service.projector.batch import feed_entry
from service.views import beside, messages, rows
from service.views import statements as views_sql
from service.views.feed import FeedEntry
from service.wire import encode
from service.wire.cursor import CursorCodec


class Made(NamedTuple):
    """What a run of events makes of the views."""

    messages: dict[MessageKey, Message]
    stored: dict[MessageKey, Message]
    encoded: dict[MessageKey, bytes]
    recipients: dict[RecipientKey, Recipient]
    instances: dict[str, Instance]
    feed: list[FeedEntry]
    quarantine: list[tuple[object, ...]]


SQL = views_sql.of_slot(Dialect.SQLITE, "a")
"""The projector's own, over a fresh store's tables."""


class BareLoop:
    """Over the log and the fresh views of a data folder, `events` in a transaction."""

    def __init__(self, events: Path, views: Path, cursors: CursorCodec) -> None:
        self._log = sqlite3.connect(events, isolation_level=None)
        self._views = sqlite3.connect(views, isolation_level=None)
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "cache_size=-65536",
            "wal_autocheckpoint=8000",
        ):
            self._views.execute(f"PRAGMA {pragma}")
        self._cursors = cursors
        self._read = log_sql.of(Dialect.SQLITE).read
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
        execute = self._views.execute
        execute("BEGIN IMMEDIATE")
        made = made_of(events, lambda *asked: execute(*asked).fetchone(), self._cursors)
        last = events[-1]
        execute(self._advance, (last.position, last.receive_time_us, "a", 1, self.position))
        write(made, self._views.executemany)
        execute("COMMIT")
        self.position = last.position
        return len(events)


def made_of(
    events: Sequence[Event], found: Callable[[str, tuple[str, ...]], Any], cursors: CursorCodec
) -> Made:
    """`found`: the one row that a statement finds, or None."""
    made = Made({}, {}, {}, {}, {}, [], [])
    for event in events:
        reading = decode(event)
        name = event.instance
        made.instances[name] = instance.heard(
            made.instances.get(name), name, event.receive_time_us, reading.connection
        )
        if reading.quarantined is not None:
            made.quarantine.append(
                (event.position, name, reading.quarantined, event.receive_time_us)
            )
        for report in reading.reports:
            key = MessageKey(report.instance, report.message_id)
            if key not in made.messages and (row := found(SQL.message, key)):
                made.messages[key] = made.stored[key] = rows.message_of(row)
            person = RecipientKey(*key, report.participant)
            if (
                report.participant
                and person not in made.recipients
                and (row := found(SQL.recipient, person))
            ):
                made.recipients[person] = rows.recipient_of(row)
            folded = fold(made.messages.get(key), made.recipients.get(person), report)
            made.messages[key] = folded.message
            if folded.recipient is not None:
                made.recipients[person] = folded.recipient
            cursor = cursors.encode(report.place, report.receive_time_us)
            one = encode.message(folded.message, cursors, cursor if folded.changed else "")
            made.encoded[key] = one
            made.feed.append(feed_entry(folded, one, report, cursor))
    return made


def write(made: Made, many: Callable[[str, Iterable[Any]], object]) -> None:
    parts = messages.parted(made.messages.values(), made.encoded, made.stored)
    for upsert, part in zip(messages.upserts(Dialect.SQLITE, "a"), parts, strict=True):
        many(upsert, part)
    many(
        SQL.upsert_recipient,
        (rows.recipient_row(MessageKey(*key[:2]), one) for key, one in made.recipients.items()),
    )
    many(SQL.insert_feed, map(rows.feed_row, made.feed))
    many(SQL.upsert_quarantine, made.quarantine)
    many(SQL.upsert_instance, map(rows.instance_row, made.instances.values()))
