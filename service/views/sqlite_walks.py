"""Long walks over the views: by the index that leaves least to look at, in one order all the same.

A filter that names ids, phones or instances is served by a run of rows for each value, every run in
the order asked for, and the runs merged. So a page costs a look-up a value and the rows it returns,
however much else there is.
"""

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, NamedTuple

from service.domain.events import Place, Position
from service.domain.message import MessageKey
from service.views.sqlite_statements import Statements
from service.views.store import FeedFilter

Row = Sequence[Any]
_Query = tuple[str, tuple[Any, ...]]
_NAMED_MAX = 2_000
"""Messages of a filter whose reports are looked up; beyond it the feed is read as it stands."""


class Stretch(NamedTuple):
    """A piece of the feed, and how many of its rows are looked at."""

    after: Place
    until: Position
    """Inclusive."""
    rows_max: int


@contextmanager
def messages_by_key(
    connection: sqlite3.Connection,
    of: Statements,
    wanted: FeedFilter,
    after: MessageKey,
    rows_max: int,
) -> Iterator[Iterator[Row]]:
    """Messages behind `after` by instance and id; at most so many a value that is looked up.

    Not all of them match: of the filter's fields only one is looked up.
    """
    queries: list[_Query]
    if wanted.message_ids:
        queries = [(of.by_key_of_id, (one, *after, rows_max)) for one in wanted.message_ids]
    elif wanted.phones:
        queries = [(of.by_key_of_phone, (one, *after, rows_max)) for one in wanted.phones]
    elif wanted.instances:
        queries = [
            (
                of.by_key_of_instance,
                (one, after.message_id if one == after.instance else "", rows_max),
            )
            for one in wanted.instances
            if one >= after.instance
        ]
    else:
        queries = [(of.by_key, (*after, rows_max))]
    with _merged(connection, queries) as found:
        yield found


@contextmanager
def reports(
    connection: sqlite3.Connection,
    of: Statements,
    wanted: FeedFilter,
    stretch: Stretch,
) -> Iterator[Iterator[Row]]:
    """Reports of the stretch in log order. Not all of them match.

    Only those of the messages that the filter names, if these are few and the stretch is long.
    """
    after, until, rows_max = stretch
    bounds = (after.position, after.index, until, rows_max)
    queries: list[_Query]
    keys: list[MessageKey] | None = None
    if until - after.position > rows_max:
        keys = _named(connection, of, wanted)
    if keys is None:
        queries = [(of.feed, bounds)]
    else:
        queries = [(of.feed_of_message, (*key, *bounds)) for key in keys]
    with _merged(connection, queries) as found:
        yield found


def _named(
    connection: sqlite3.Connection, of: Statements, wanted: FeedFilter
) -> list[MessageKey] | None:
    """The messages whose reports can match; None if they are too many, or not named.

    A message has had reports under its present phone or under none: the first phone stays.
    """
    if not wanted.message_ids and not wanted.phones:
        return None
    keys: list[MessageKey] = []
    walk = messages_by_key(connection, of, wanted, MessageKey("", ""), _NAMED_MAX + 1)
    with walk as found:
        for instance, message_id, *_ in found:
            keys.append(MessageKey(instance, message_id))
            if len(keys) > _NAMED_MAX:
                return None
    return keys


@contextmanager
def _merged(connection: sqlite3.Connection, queries: Sequence[_Query]) -> Iterator[Iterator[Row]]:
    """Rows of all queries by their first two columns; each query has its own in that order."""
    cursors = [connection.execute(*query) for query in queries]
    try:
        yield heapq.merge(*cursors, key=itemgetter(0, 1))
    finally:
        # An unfinished statement would keep its read transaction, and the WAL from shrinking.
        for cursor in cursors:
            cursor.close()
