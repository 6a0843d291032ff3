"""The library `eventsourcing` with a projection into our tables: our decoding, folding, encoding
and SQL, and each event a transaction together with how far it is, as its projections work."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from eventsourcing.application import Application
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import Tracking
from eventsourcing.projection import Projection
from eventsourcing.sqlite import SQLiteFactory, SQLiteTrackingRecorder
from eventsourcing.utils import Environment

from benchmarks.sides.bare_loop import made_of, write
from service.domain.events import Event, EventKind, NewEvent, Position
from service.wire.cursor import CursorCodec

_A_TRANSACTION = 4_096
"""When its store is filled, which is not measured."""


class Received(DomainEvent):
    """A callback; each is the first event of an aggregate of its own."""

    instance: str
    receive_time_us: int
    content: str


class _Views(SQLiteTrackingRecorder):
    def put(self, event: Event, tracking: Tracking, cursors: CursorCodec) -> None:
        with self.datastore.transaction(commit=True) as cursor:

            def found(sql: str, key: tuple[str, ...]) -> Any:
                cursor.execute(sql, key)
                return cursor.fetchone()

            self._insert_tracking(cursor, tracking)
            write(made_of([event], found, cursors), cursor.executemany)


class _Folded(Projection):
    cursors: CursorCodec

    def process_event(self, domain_event: Received, tracking: Tracking) -> None:
        event = Event(
            Position(tracking.notification_id),
            domain_event.instance,
            domain_event.receive_time_us,
            EventKind.CALLBACK,
            domain_event.content.encode(),
        )
        self.view.put(event, tracking, self.cursors)


class EventSourced:
    """Over a file of events of its own, and the fresh views of a data folder."""

    def __init__(self, events: Path, views: Path, cursors: CursorCodec) -> None:
        self._app = Application(_settings(events))
        recorder = SQLiteFactory(Environment("", _settings(views))).tracking_recorder(_Views)
        self._projection = _Folded(recorder)
        self._projection.cursors = cursors
        self._position = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._app.close()

    def fill(self, callbacks: Iterable[NewEvent]) -> None:
        to_stored, source = self._app.mapper.to_stored_event, iter(callbacks)
        while batch := [
            to_stored(
                Received(
                    originator_id=uuid4(),
                    originator_version=1,
                    timestamp=Received.create_timestamp(),
                    instance=one.instance,
                    receive_time_us=one.receive_time_us,
                    content=one.content.decode(),
                )
            )
            for one in islice(source, _A_TRANSACTION)
        ]:
            self._app.recorder.insert_events(batch)

    def step(self, events_max: int) -> int:
        """As the library's followers pull events, so many at once; how many there were."""
        found = self._app.recorder.select_notifications(self._position + 1, events_max)
        for notification in found:
            event = self._app.mapper.to_domain_event(notification)
            self._projection.process_event(event, Tracking(self._app.name, notification.id))
            self._position = notification.id
        return len(found)


def _settings(database: Path) -> dict[str, str]:
    return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(database)}
