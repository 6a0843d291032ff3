"""Long walks over the views: by the index that leaves least to look at, in one order all the same.

A filter that names ids, phones or instances is served by a run of rows for each value, every run in
the order asked for, and the runs merged. So a page costs a look-up a value and the rows it returns,
however much else there is. A run is read in chunks, as far as somebody takes rows from it.

Where a filter names instances, no row of another one comes out of a walk by key: how far a walk
has come is told to those who asked, and others' keys are none of their business.
"""

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from service.database.database import Connection, Row
from service.domain.events import Place, Position
from service.domain.message import MessageKey
from service.views.feed import FeedFilter
from service.views.statements import Statements
from service.views.store import MessageFilter

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


class _Order(NamedTuple):
    """Of the rows of a query, and of its runs."""

    place: Callable[[Row], tuple[Any, ...]]
    newest_first: bool = False


_BY_FIRST_TWO = _Order(lambda row: row[:2])
_BY_CHANGE = _Order(lambda row: row[12:14], newest_first=True)
_BY_POSITION = _Order(lambda row: row[:1], newest_first=True)
_BY_ATTEMPT = _Order(lambda row: row[11:12], newest_first=True)
"""Of messages, quarantined callbacks and webhook updates."""


class Listing(NamedTuple):
    """What is listed by position, newest first."""

    of_all: str
    of_instance: str
    order: _Order

    @classmethod
    def quarantine(cls, of: Statements) -> "Listing":
        return cls(of.quarantine, of.quarantine_of_instance, _BY_POSITION)

    @classmethod
    def webhooks(cls, of: Statements) -> "Listing":
        return cls(of.webhooks, of.webhooks_of_instance, _BY_ATTEMPT)


class _Run(NamedTuple):
    """The parameters of one value's query but for its last, the number of rows."""

    value: tuple[Any, ...]
    after: tuple[Any, ...]
    """Where it goes on: of a row's place the last parts, as many as stand here."""
    until: tuple[Any, ...] = ()

    def parameters(self, rows_max: int) -> tuple[Any, ...]:
        return (*self.value, *self.after, *self.until, rows_max)

    def behind(self, row: Row, order: _Order) -> "_Run":
        return self._replace(after=tuple(order.place(row)[-len(self.after) :]))


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
    if wanted.message_ids or wanted.phones:
        sql, values = (
            (of.by_key_of_id, wanted.message_ids)
            if wanted.message_ids
            else (of.by_key_of_phone, wanted.phones)
        )
        runs = [_Run((one,), tuple(after)) for one in values]
        found = _merged(connection, sql, runs, rows_max)
        return (row for row in found if not wanted.instances or row[0] in wanted.instances)
    if wanted.instances:
        runs = [
            _Run((one,), (after.message_id if one == after.instance else "",))
            for one in wanted.instances
            if one >= after.instance
        ]
        return _merged(connection, of.by_key_of_instance, runs, rows_max)
    return _merged(connection, of.by_key, [_Run((), tuple(after))], rows_max)


def messages_by_change(
    connection: Connection, of: Statements, wanted: MessageFilter, before: Place, rows_max: int
) -> Iterator[Row]:
    """Messages last changed before that place, last changed first, by the narrowest index.

    Not all of them match. About `rows_max` of them will be taken.
    """
    place = (before.position, before.index)
    sql, runs = of.newest, [_Run((), place)]
    if wanted.phone:
        sql, runs = of.newest_of_phone, [_Run((wanted.phone,), place)]
    elif wanted.instances:
        sql, runs = of.newest_of_instance, _run_each(wanted.instances, place)
    elif len(wanted.statuses) == 1:
        sql, runs = of.newest_of_status, [_Run((int(one),), place) for one in wanted.statuses]
    return _merged(connection, sql, runs, rows_max, _BY_CHANGE)


def newest(
    connection: Connection,
    listing: Listing,
    instances: Collection[str],
    before: Position,
    rows_max: int,
) -> Iterator[Row]:
    """Before that position, newest first, at most so many; of these instances, or of all."""
    sql, runs = listing.of_all, [_Run((), (before,))]
    if instances:
        sql, runs = listing.of_instance, _run_each(instances, (before,))
    return islice(_merged(connection, sql, runs, rows_max, listing.order), rows_max)


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


def _run_each(values: Collection[str], after: tuple[Any, ...]) -> list[_Run]:
    return [_Run((one,), after) for one in values]


def _merged(
    connection: Connection,
    sql: str,
    runs: Sequence[_Run],
    rows_max: int,
    order: _Order = _BY_FIRST_TWO,
) -> Iterator[Row]:
    """Rows of all runs in that order; each run has its own in it."""
    if not runs:
        return iter(())
    chunk = min(rows_max, max(_CHUNK_MIN, _CHUNK_MAX // len(runs)))
    firsts = connection.each(sql, [run.parameters(chunk) for run in runs])
    flows = [_rows(connection, sql, *pair, chunk, order) for pair in zip(runs, firsts, strict=True)]
    if len(flows) == 1:
        return flows[0]
    return heapq.merge(*flows, key=order.place, reverse=order.newest_first)


def _rows(
    connection: Connection,
    sql: str,
    run: _Run,
    first: list[Row],
    chunk: int,
    order: _Order,
) -> Iterator[Row]:
    found = first
    while found:
        yield from found
        if len(found) < chunk:
            return
        run = run.behind(found[-1], order)
        found = connection.execute(sql, run.parameters(chunk)).fetchall()
