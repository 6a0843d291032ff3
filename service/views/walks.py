"""Long walks over the views: by the index that leaves least to look at, in one order all the same.

A filter that names ids, phones or instances is served by a run of rows for each value, every run in
the order asked for, and the runs merged. So a page costs a look-up a value and the rows it returns,
however much else there is. A run is read in chunks, as far as somebody takes rows from it.
"""

import heapq
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from service.database.database import Connection, Row
from service.domain.events import Place, Position
from service.domain.message import MessageKey
from service.views.statements import Statements
from service.views.store import FeedFilter

_NAMED_MAX = 2_000
"""Messages of a filter whose reports are looked up; beyond it the feed is read as it stands."""

_CHUNK_MAX = 500
_CHUNK_MIN = 16
"""Rows of a run that are read at once; many runs share the larger one."""


class Stretch(NamedTuple):
    """A piece of the feed, and how many of its rows are looked at."""

    after: Place
    until: Position
    """Inclusive."""
    rows_max: int


class _Run(NamedTuple):
    """The parameters of one value's query but for its last, the number of rows."""

    value: tuple[Any, ...]
    after: tuple[Any, ...]
    """Where it goes on: of a row's first two columns the last ones, as many as stand here."""
    until: tuple[Any, ...] = ()

    def parameters(self, rows_max: int) -> tuple[Any, ...]:
        return (*self.value, *self.after, *self.until, rows_max)

    def behind(self, row: Row) -> "_Run":
        return self._replace(after=tuple(row[2 - len(self.after) : 2]))


def messages_by_key(
    connection: Connection,
    of: Statements,
    wanted: FeedFilter,
    after: MessageKey,
    rows_max: int,
) -> Iterator[Row]:
    """Messages behind `after` by instance and id; about `rows_max` of them will be taken.

    Not all of them match: of the filter's fields only one is looked up.
    """
    if wanted.message_ids:
        runs = [_Run((one,), tuple(after)) for one in wanted.message_ids]
        return _merged(connection, of.by_key_of_id, runs, rows_max)
    if wanted.phones:
        runs = [_Run((one,), tuple(after)) for one in wanted.phones]
        return _merged(connection, of.by_key_of_phone, runs, rows_max)
    if wanted.instances:
        runs = [
            _Run((one,), (after.message_id if one == after.instance else "",))
            for one in wanted.instances
            if one >= after.instance
        ]
        return _merged(connection, of.by_key_of_instance, runs, rows_max)
    return _merged(connection, of.by_key, [_Run((), tuple(after))], rows_max)


def reports(
    connection: Connection,
    of: Statements,
    wanted: FeedFilter,
    stretch: Stretch,
) -> Iterator[Row]:
    """Reports of the stretch in log order. Not all of them match.

    Only those of the messages that the filter names, if these are few and the stretch is long.
    """
    after, until, rows_max = stretch
    place = (after.position, after.index)
    keys: list[MessageKey] | None = None
    if until - after.position > rows_max:
        keys = _named(connection, of, wanted)
    if keys is None:
        return _merged(connection, of.feed, [_Run((), place, (until,))], rows_max)
    runs = [_Run(tuple(key), place, (until,)) for key in keys]
    return _merged(connection, of.feed_of_message, runs, rows_max)


def _named(connection: Connection, of: Statements, wanted: FeedFilter) -> list[MessageKey] | None:
    """The messages whose reports can match; None if they are too many, or not named.

    A message has had reports under its present phone or under none: the first phone stays.
    """
    if not wanted.message_ids and not wanted.phones:
        return None
    keys: list[MessageKey] = []
    found = messages_by_key(connection, of, wanted, MessageKey("", ""), _NAMED_MAX + 1)
    for instance, message_id, *_ in found:
        keys.append(MessageKey(instance, message_id))
        if len(keys) > _NAMED_MAX:
            return None
    return keys


def _merged(connection: Connection, sql: str, runs: Sequence[_Run], rows_max: int) -> Iterator[Row]:
    """Rows of all runs by their first two columns; each run has its own in that order."""
    if not runs:
        return iter(())
    chunk = min(rows_max, max(_CHUNK_MIN, _CHUNK_MAX // len(runs)))
    firsts = connection.each(sql, [run.parameters(chunk) for run in runs])
    flows = [_rows(connection, sql, *pair, chunk) for pair in zip(runs, firsts, strict=True)]
    return heapq.merge(*flows, key=itemgetter(0, 1))


def _rows(
    connection: Connection, sql: str, run: _Run, first: list[Row], chunk: int
) -> Iterator[Row]:
    found = first
    while found:
        yield from found
        if len(found) < chunk:
            return
        run = run.behind(found[-1])
        found = connection.execute(sql, run.parameters(chunk)).fetchall()
