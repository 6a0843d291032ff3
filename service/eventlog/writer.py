"""The event log, written: all but how events are appended, which the databases do differently."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from service.database.database import Database, Fence, unfenced
from service.domain.events import EventKind, Mark, NewEvent, Position
from service.eventlog import statements, stored_baseline
from service.eventlog.faults import translated
from service.eventlog.log import BaselineChange

APPENDED = "plugstatus_appended"
"""The channel on which other processes hear of appended events."""


_REPLY_S = 5.0
"""Who posts a callback waits for it. Longer work is done in small steps."""


class StoredLogWriter(ABC):
    """A writing connection."""

    mends_itself = False

    def __init__(self, database: Database) -> None:
        """Raises StoreUnusable if it cannot be opened."""
        self._connection = database.connect_writer(reply_s=_REPLY_S)
        self._sql = statements.of(database.dialect)

    @abstractmethod
    def append(self, events: Sequence[NewEvent]) -> Position: ...

    @abstractmethod
    def _insert(self, events: Sequence[NewEvent]) -> Position:
        """Inside a transaction."""

    @abstractmethod
    def _expire(self, until: Mark) -> int:
        """Inside a transaction: raise `kept_from`; how many more events are gone now."""

    def cut(self, until: Mark, baseline: BaselineChange, fence: Fence = unfenced) -> None:
        with self._transaction(fence):
            connection = self._connection
            removed = self._expire(until)
            connection.execute(self._sql.count_expired, (removed,))
            stored_baseline.write(connection, baseline)

    def erase(
        self,
        tombstones: Sequence[tuple[Position, bytes]],
        erasure: NewEvent,
        baseline: BaselineChange,
        fence: Fence = unfenced,
    ) -> Position:
        with self._transaction(fence):
            connection = self._connection
            erased = 0
            for position, tombstone in tombstones:
                kind = connection.execute(self._sql.kind, (position,)).fetchall()[0][0]
                erased += kind != EventKind.TOMBSTONE
                connection.execute(self._sql.bury, (EventKind.TOMBSTONE, tombstone, position))
            connection.execute(self._sql.count_erased, (erased, erasure.receive_time_us))
            stored_baseline.write(connection, baseline)
            return self._insert([erasure])

    def rewrite(self) -> None:
        with translated(self._connection):
            self._connection.rewrite()

    def wipe(self) -> bool:
        with translated(self._connection):
            return self._connection.wipe()

    def hint(self) -> None:
        with translated(self._connection):
            self._connection.notify(APPENDED)

    def close(self) -> None:
        self._connection.close()

    def _keep_from(self, until: Mark) -> None:
        self._connection.execute(
            self._sql.keep_from, (until.position + 1, until.receive_time_us, until.position)
        )

    @contextmanager
    def _transaction(self, fence: Fence = unfenced) -> Iterator[None]:
        with translated(self._connection), self._connection.transaction():
            fence(self._connection)
            yield
