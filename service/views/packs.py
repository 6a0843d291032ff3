"""Catching up: changes of the feed as frames hold them, put together by the database.

To take each row out of the database and put it behind another was nearly all that catching up
cost: 4 µs a change, and 1.5 so. Where a row has no `head`, because an earlier program wrote it, or
where a frame would become too large, rows are read one by one; and where a filter looks at them.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from sqlalchemy import (
    Boolean,
    ColumnElement,
    LargeBinary,
    Select,
    Table,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from service.database.database import Connection, Dialect
from service.database.statements import compiler
from service.domain.events import END_OF_CALLBACK, Place, Point, Position
from service.views.feed import FeedRow, Pack
from service.views.tables import TABLES
from service.wire import frames


class Statements(NamedTuple):
    """Over one slot's feed, in log order, as SQL with positional parameters."""

    ends: str
    """Behind a place and up to an event: the row behind so many others, and the one behind it."""
    last: str
    """Of a part between two places: the last row that is wanted."""
    joined: str
    """Of those wanted: how many, how many with a head, and an encoded Changes."""


class Part(NamedTuple):
    """A piece of the feed: so many rows, or all there are up to an event."""

    after: Place
    through: Place
    """Its last place."""
    end: Point | None
    """The same, at the end of an event unless that has more rows; None: nothing is behind it."""


@cache
def of_slot(dialect: Dialect, slot: str) -> Statements:
    compiled, feed = compiler(dialect), TABLES[slot].feed
    place = feed.c.position, feed.c.report_index
    told = select(*place, feed.c.receive_time_us)
    behind = tuple_(*place) > tuple_(bindparam("position"), bindparam("report_index"))
    through = tuple_(*place) <= tuple_(bindparam("last_position"), bindparam("last_index"))
    wanted = or_(feed.c.changed, bindparam("unchanged", type_=Boolean))
    up_to_event = told.where(behind, feed.c.position <= bindparam("until")).order_by(*place)
    newest_first = place[0].desc(), place[1].desc()
    return Statements(
        ends=compiled(up_to_event.limit(2).offset(bindparam("rows_before"))),
        last=compiled(told.where(behind, through, wanted).order_by(*newest_first).limit(1)),
        joined=compiled(_joined(dialect, feed, behind, through, wanted)),
    )


def _joined(
    dialect: Dialect, feed: Table, *conditions: ColumnElement[bool]
) -> Select[int, int, bytes]:
    place = feed.c.position, feed.c.report_index
    headed = feed.c.head.op("||")(feed.c.change)
    if dialect is Dialect.POSTGRES:
        nothing: ColumnElement[bytes] = literal_column("''::bytea")
        in_order = func.string_agg(headed, aggregate_order_by(nothing, *place))
        return select(func.count(), func.count(feed.c.head), in_order).where(*conditions)
    # group_concat takes rows as they come, here those of an ordered query, and hands on the bytes
    # of a blob as they are: https://sqlite.org/lang_aggfunc.html#group_concat (read 2026-11-28).
    ordered = select(feed.c.head, headed.label("headed")).where(*conditions).order_by(*place)
    rows = ordered.subquery("ordered")
    as_text = func.group_concat(rows.c.headed, literal_column("''"))
    return select(func.count(), func.count(rows.c.head), cast(as_text, LargeBinary)).select_from(
        rows
    )


def part_behind(
    connection: Connection, sql: Statements, after: Place, until: Position, rows_max: int
) -> Part:
    found = connection.execute(
        sql.ends, (after.position, after.index, until, rows_max - 1)
    ).fetchall()
    if len(found) < 2:
        return Part(after, Place(until), None)
    (position, index, receive_time_us), (next_position, _, _) = found
    place = Place(position, END_OF_CALLBACK if next_position != position else index)
    return Part(after, place, Point(place, receive_time_us))


def joined(
    connection: Connection, sql: Statements, of: Part, bytes_max: int, *, unchanged: bool
) -> Pack | None:
    """Its changes; with those reports that changed nothing, if they are wanted too.

    An empty pack if there are none; None if they have to be read one by one.
    """
    after, through = of.after, of.through
    inside = (after.position, after.index, through.position, through.index, unchanged)
    last = connection.execute(sql.last, inside).fetchall()
    if not last:
        return Pack(b"", Point(through, 0))
    count, headed, changes = connection.execute(sql.joined, inside).fetchall()[0]
    if headed < count or len(changes) > bytes_max:
        return None
    position, index, receive_time_us = last[0]
    return Pack(changes, Point(Place(position, index), receive_time_us))


def of_rows(rows: Sequence[FeedRow], bounds: frames.Bounds) -> list[Pack]:
    """The same of rows that were read."""
    sizes = [len(row.change) for row in rows]
    return [
        Pack(frames.joined([row.change for row in group]), group[-1].point)
        for group in frames.grouped(rows, sizes, bounds)
    ]
