"""The event log on PostgreSQL: how it is appended to, by several processes at once.

A sequence number is drawn when a row is inserted and becomes visible when its transaction commits,
so with several writers `position > checkpoint` would skip rows that commit late. Here it does not:

1. Who appends takes one advisory lock first (`append_events`, in the migrations), draws the
   positions behind the head, and inserts.
2. PostgreSQL lets go of a transaction's locks after it has made the transaction visible. So who
   gets the lock next sees everything appended before, and draws higher positions.
3. So positions become visible in their own order, without gaps: when a reader sees one, it sees all
   below it, and none ever appears there later. A rolled back transaction leaves no gap either, as
   the head is a row and rolls back with it.
4. A batch is one call of one function in autocommit, sent whole: the server begins it when it has
   all of it, and ends it by itself. So no client that is stopped, slow or cut off keeps the lock,
   and no transaction of others, however old, keeps a reader waiting.
5. The lock is kept until a quorum has answered (COMMIT waits for it before it lets go), so batches
   of different processes follow each other at that pace; meanwhile they collect, and grow.

A COMMIT whose answer is lost may have happened. So each batch has a number, recorded with it in the
same transaction, and names the one it follows: sent again, it is found to be in, or it goes in;
and an old one that a slow network delivers late finds that others have followed, and does nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

from psycopg.types.numeric import Int8

from service import errors
from service.database.database import Database
from service.domain.events import Mark, NewEvent, Position
from service.eventlog.faults import translated
from service.eventlog.writer import StoredLogWriter

_APPEND = (
    "SELECT settled_batch, first_position FROM append_events("
    "$1, $2, $3, $4::text[], $5::bigint[], $6::integer[], $7::bytea[])"
)
_COUNT_IN_SIGHT = (
    "SELECT count(*) FROM events WHERE position >= (SELECT kept_from FROM log) AND position <= $1"
)
_HOLD_IDLE_MS = 5_000


class Batch(NamedTuple):
    """Who appends, the number of the last batch that is known to be in, and the new one's."""

    appender: str
    since: int
    number: int


class Settled(NamedTuple):
    """The appender's last batch that is in, and the position of its first event."""

    number: int
    first: Position


class PostgresLogWriter(StoredLogWriter):
    """One of any number of writing connections."""

    def __init__(self, database: Database) -> None:
        """Raises StoreUnusable if the database cannot be reached."""
        super().__init__(database)
        self._appender = uuid4().hex
        self._settled = 0
        self._number = 0
        self.holding = False

    def append(self, events: Sequence[NewEvent]) -> Position:
        assert events
        with translated(self._connection):
            return self._insert(events)

    def settle(self, batch: Batch, events: Sequence[NewEvent]) -> Settled:
        """Append the events as that batch if the appender's last one is `batch.since`.

        Nothing is appended otherwise: the answer says which one it is. Raises LogUnavailable, and
        then the batch may be in.
        """
        with translated(self._connection):
            return self._called(batch, events)

    def _insert(self, events: Sequence[NewEvent]) -> Position:
        # A number is used once: after a lost answer nobody knows whether it was.
        self._number += 1
        batch = Batch(self._appender, self._settled, self._number)
        settled = self._called(batch, events)
        if settled.number != batch.number:
            self._settled = settled.number
            settled = self._called(batch._replace(since=settled.number), events)
        if settled.number != batch.number:
            raise errors.LogUnavailable("another process appends under this one's name")
        self._settled = batch.number
        return settled.first

    def _expire(self, until: Mark) -> int:
        # Out of sight is enough: `purge` takes them off the disk.
        found = self._connection.execute(_COUNT_IN_SIGHT, (until.position,)).fetchall()
        self._keep_from(until)
        return int(found[0][0])

    def purge(self, span_us: int) -> bool:
        with translated(self._connection):
            found = self._connection.execute("SELECT purge_events($1)", (span_us,)).fetchall()
        return bool(found[0][0])

    def hold(self) -> None:
        # Not in a transaction, so it lasts; and ended by the server if this process is stopped.
        with translated(self._connection):
            self._connection.execute(f"SET idle_session_timeout = {_HOLD_IDLE_MS}")
            self._connection.execute("SELECT pg_advisory_lock(append_lock())")
        self.holding = True

    def release(self) -> None:
        self.holding = False
        with translated(self._connection):
            self._connection.execute("SELECT pg_advisory_unlock(append_lock())")
            self._connection.execute("SET idle_session_timeout = 0")

    def _called(self, batch: Batch, events: Sequence[NewEvent]) -> Settled:
        row = self._connection.execute(
            _APPEND,
            (
                *batch,
                [event.instance for event in events],
                # In an array of plain integers the driver goes by the first one.
                [Int8(event.receive_time_us) for event in events],
                [Int8(event.kind) for event in events],
                [event.content for event in events],
            ),
        ).fetchall()[0]
        return Settled(row[0], Position(row[1]))
