"""The event log, written: all but how events are appended, which the databases do differently."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from service.database.database import Database
from service.domain.events import EventKind, Mark, NewEvent, Position
from service.eventlog import statements, stored_baseline
from service.eventlog.faults import translated
from service.eventlog.log import BaselineChange


class StoredLogWriter(ABC):
    """A writing connection."""

    def __init__(self, database: Database) -> None:
        """Raises StoreUnusable if it cannot be opened."""
        self._connection = database.connect_writer()
        self._sql = statements.of(database.dialect)

    @abstractmethod
    def append(self, events: Sequence[NewEvent]) -> Position: ...

    @abstractmethod
    def _insert(self, events: Sequence[NewEvent]) -> Position:
        """Inside a transaction."""

    def cut(self, until: Mark, baseline: BaselineChange) -> None:
        with self._transaction():
            connection = self._connection
            connection.execute(
                self._sql.keep_from, (until.position + 1, until.receive_time_us, until.position)
            )
            removed = connection.execute(self._sql.expire, (until.position,)).rowcount
            connection.execute(self._sql.count_expired, (removed,))
            stored_baseline.write(connection, baseline)

    def erase(
        self,
        tombstones: Sequence[tuple[Position, bytes]],
        erasure: NewEvent,
        baseline: BaselineChange,
    ) -> Position:
        with self._transaction():
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

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with translated(self._connection), self._connection.transaction():
            yield
