"""Every statement over the log but the appending one, compiled once a dialect."""

from functools import cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, delete, null, select, tuple_, update

from service.database.database import Dialect
from service.database.statements import Compiler, compiler
from service.eventlog.tables import baseline, events, log

_KEY = (baseline.c.kind, baseline.c.instance, baseline.c.id, baseline.c.part)


class Statements(NamedTuple):
    """SQL with positional parameters."""

    head: str
    mark: str
    read: str
    received: str
    identity: str
    last_removed: str
    removals: str
    keep_from: str
    expire: str
    count_expired: str
    bury: str
    kind: str
    count_erased: str
    baseline_get: str
    baseline_page: str
    baseline_of_kind: str
    baseline_recipients_of: str
    baseline_put: str
    baseline_drop: str
    baseline_end: str


@cache
def of(dialect: Dialect) -> Statements:
    compiled = compiler(dialect)
    # On PostgreSQL what retention has removed is out of sight before it is off the disk.
    shown = [events.c.position >= select(log.c.kept_from).scalar_subquery()]
    in_sight = shown if dialect is Dialect.POSTGRES else []
    return Statements(**_reading(compiled, *in_sight), **_removing(compiled), **_baseline(compiled))


def _reading(compiled: Compiler, *in_sight: ColumnElement[bool]) -> dict[str, str]:
    here = and_(events.c.position == bindparam("position"), *in_sight)
    return {
        "head": compiled(
            select(events.c.position, events.c.receive_time_us, events.c.receive_time_max_us)
            .where(*in_sight)
            .order_by(events.c.position.desc())
            .limit(1)
        ),
        "mark": compiled(select(events.c.position, events.c.receive_time_us).where(here)),
        "read": compiled(
            select(
                events.c.position,
                events.c.instance,
                events.c.receive_time_us,
                events.c.kind,
                events.c.checksum,
                events.c.content,
            )
            .where(events.c.position > bindparam("after"), *in_sight)
            .order_by(events.c.position)
            .limit(bindparam("events_max"))
        ),
        "received": compiled(
            select(events.c.position, events.c.receive_time_max_us)
            .where(events.c.position >= bindparam("position"), *in_sight)
            .order_by(events.c.position)
            .limit(1)
        ),
        "identity": compiled(select(log.c.identity)),
        "last_removed": compiled(select(log.c.kept_from, log.c.cut_time_us)),
        "removals": compiled(
            select(
                log.c.erased_event_count,
                log.c.expired_event_count,
                log.c.last_erasure_time_us,
                select(events.c.receive_time_us)
                .where(*in_sight)
                .order_by(events.c.position)
                .limit(1)
                .scalar_subquery()
                .label("oldest"),
                log.c.cut_time_max_us,
            )
        ),
        "kind": compiled(select(events.c.kind).where(here)),
    }


def _removing(compiled: Compiler) -> dict[str, str]:
    return {
        "keep_from": compiled(
            update(log).values(
                kept_from=bindparam("first_kept"),
                cut_time_us=bindparam("until_time_us"),
                cut_time_max_us=select(events.c.receive_time_max_us)
                .where(events.c.position == bindparam("until"))
                .scalar_subquery(),
            )
        ),
        "expire": compiled(delete(events).where(events.c.position <= bindparam("until"))),
        "count_expired": compiled(
            update(log).values(expired_event_count=log.c.expired_event_count + bindparam("more"))
        ),
        "bury": compiled(
            update(events)
            .values(kind=bindparam("as_kind"), content=bindparam("tombstone"), checksum=null())
            .where(events.c.position == bindparam("of_position"))
        ),
        "count_erased": compiled(
            update(log).values(
                erased_event_count=log.c.erased_event_count + bindparam("more"),
                last_erasure_time_us=bindparam("erase_time_us"),
            )
        ),
    }


def _baseline(compiled: Compiler) -> dict[str, str]:
    of_key = [column == bindparam(f"of_{column.name}") for column in _KEY]
    return {
        "baseline_get": compiled(select(baseline.c.content).where(*of_key)),
        "baseline_page": compiled(
            select(*_KEY, baseline.c.content)
            .where(tuple_(*_KEY) > tuple_(*(bindparam(f"after_{column.name}") for column in _KEY)))
            .order_by(*_KEY)
            .limit(bindparam("rows_max"))
        ),
        "baseline_of_kind": compiled(select(baseline.c.content).where(of_key[0])),
        "baseline_recipients_of": compiled(select(baseline.c.content).where(*of_key[:3])),
        "baseline_put": compiled.upsert(baseline),
        "baseline_drop": compiled(delete(baseline).where(*of_key)),
        "baseline_end": compiled(delete(baseline).where(*of_key[:3])),
    }
