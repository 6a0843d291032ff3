"""A log carried to another database: identity, positions, receive times, tombstones, baseline.

    adopt ─ baseline ─ events, a chunk a transaction ─ finish

Every step is one transaction of the target and says how far it got, so a copy that was killed goes
on where it was. Until it is finished the target is marked as a copy under way, and nobody serves
it. Events that were appended since a copy was begun are carried too; but a removal since then means
beginning anew, because what was carried already may hold what is gone.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from sqlalchemy import bindparam, select, update

from service import errors
from service.database import schema
from service.database.database import Connection, Database, Dialect, Row
from service.database.schema import Store
from service.database.statements import compiler
from service.domain.events import Position
from service.domain.progress import Progress
from service.eventlog import statements
from service.eventlog.faults import translated
from service.eventlog.tables import events, log

_CHUNK_EVENTS = 5_000
_CHUNK_BYTES = 16 * 1024 * 1024
_BASELINE_ROWS = 2_000
_REPLY_S = 600.0


class _Sql(NamedTuple):
    row: str
    adopt: str
    events: str


class Copying:
    """Both logs. Nobody may serve either of them, or append to one, meanwhile."""

    def __init__(self, source: Database, target: Database) -> None:
        """The target's store is made if it is missing.

        Raises SchemaOlder, SchemaNewer, or StoreUnusable if one of them cannot be opened.
        """
        schema.require_current(Store.EVENT_LOG, source)
        if not target.exists():
            schema.upgrade(Store.EVENT_LOG, target)
        self._names = source.name, target.name
        self._source = source.connect_reader()
        try:
            self._target = target.connect_writer(_REPLY_S)
        except errors.StoreUnusable:
            self._source.close()
            raise

    def close(self) -> None:
        """Idempotent."""
        self._source.close()
        self._target.close()

    def steps(self, *, online: bool = False) -> Iterator[Progress]:
        """Copy, or go on copying. `online`: the source is served meanwhile, and one state of it is
        copied, which goes on nowhere if it is killed.

        Raises LogUnavailable, or StoreUnusable if the target holds something else.
        """
        with ExitStack() as stack:
            stack.enter_context(translated(self._source))
            stack.enter_context(translated(self._target))
            if online:
                stack.enter_context(self._source.snapshot())
            for connection in (self._source, self._target):
                if connection.dialect is Dialect.POSTGRES and not online:
                    # Until the connection is closed: whoever serves it after all has to wait.
                    connection.execute("SELECT pg_advisory_lock(append_lock())")
            self._adopt()
            rows = 0
            for more in self._baseline():
                rows += more
                yield Progress(rows, 0, "baseline rows", "copying what removed events came to")
            head = self._head(self._source)
            for position in self._events():
                yield Progress(position, head, "events", "copying")
            schema.mark(self._target, schema.known_revision(Store.EVENT_LOG))
            yield Progress(head, head, "events", f"copied, up to position {head}")

    def _adopt(self) -> None:
        """The target becomes the source's log, without its events; or it is that already."""
        source_name, target_name = self._names
        ours, theirs = self._row(self._target), self._row(self._source)
        under_way = schema.stored_revision(self._target) == schema.COPYING
        if ours == theirs:
            # Also of a copy that was finished: what was appended since goes on behind it.
            self._compare_ends()
            schema.mark(self._target, schema.COPYING)
            return
        if under_way:
            raise errors.StoreUnusable(
                f"{target_name} was filled from another log, or {source_name} has lost events "
                "since: begin again with an empty database"
            )
        if self._head(self._target) > 0:
            raise errors.StoreUnusable(f"{target_name} holds events: name an empty database")
        with self._target.transaction(), self._target.unguarded(log.name):
            self._target.execute(_sql(self._target).adopt, theirs)
            if self._target.dialect is Dialect.POSTGRES:
                kept_from, time_max_us = theirs[1], theirs[-1]
                self._target.execute("SELECT begin_at($1, $2)", (kept_from, time_max_us))
            schema.mark(self._target, schema.COPYING)

    def _compare_ends(self) -> None:
        """Raises StoreUnusable unless the source holds what was carried last."""
        head = self._head(self._target)
        at_head = (Position(head - 1), 1)
        if head and self._rows(self._source, at_head) != self._rows(self._target, at_head):
            source_name, target_name = self._names
            raise errors.StoreUnusable(
                f"{source_name} does not hold what {target_name} ends with: begin again with an "
                "empty database"
            )

    def _baseline(self) -> Iterator[int]:
        read, put = statements.of(self._source.dialect), statements.of(self._target.dialect)
        after: Row = (0, "", "", "")
        while True:
            found = self._source.execute(read.baseline_page, (*after, _BASELINE_ROWS)).fetchall()
            if not found:
                return
            with self._target.transaction():
                self._target.executemany(put.baseline_put, found)
            after = found[-1][:4]
            yield len(found)

    def _events(self) -> Iterator[Position]:
        after = Position(max(self._head(self._target), self._row(self._source)[1] - 1))
        while found := self._rows(self._source, (after, _CHUNK_EVENTS)):
            after = Position(found[-1][0])
            with self._target.transaction():
                if self._target.dialect is Dialect.POSTGRES:
                    self._target.execute("SELECT make_room($1)", (after,))
                self._target.load(events, found)
            yield after

    def _rows(self, connection: Connection, bounds: tuple[Position, int]) -> list[Row]:
        sql = _sql(connection).events
        return connection.bounded(sql, bounds, "position", "content", _CHUNK_BYTES)

    def _row(self, connection: Connection) -> Row:
        return tuple(connection.execute(_sql(connection).row).fetchall()[0])

    def _head(self, connection: Connection) -> Position:
        row = connection.execute(statements.of(connection.dialect).head).fetchone()
        return Position(row[0] if row else 0)


def _sql(connection: Connection) -> _Sql:
    compiled = compiler(connection.dialect)
    return _Sql(
        row=compiled(select(log)),
        adopt=compiled(
            update(log).values({column: bindparam(f"new_{column.name}") for column in log.columns})
        ),
        events=compiled(
            select(events)
            .where(events.c.position > bindparam("after"))
            .order_by(events.c.position)
            .limit(bindparam("events_max"))
        ),
    )
