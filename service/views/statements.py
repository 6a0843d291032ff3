"""Every statement over the views, compiled once a dialect, with positional parameters."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Table,
    Text,
    and_,
    any_,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    select,
    tuple_,
)

from service.database.database import Dialect
from service.database.statements import Compiler, compiler
from service.views.tables import TABLES, SlotTables, encoded_of, state_of, views

_NOT_WATCHED = ("report", "head")
"""Columns of the feed."""


def _by_key(
    compiled: Compiler, table: Table, columns: Sequence[ColumnElement[Any]] | None = None
) -> str:
    key = (column == bindparam(column.name) for column in table.primary_key)
    return compiled(select(*(columns or table.columns)).where(*key))


def _newest_first(
    compiled: Compiler, table: Table, position: str, *conditions: ColumnElement[bool]
) -> str:
    place = table.c[position]
    return compiled(
        select(table)
        .where(*conditions, place < bindparam("before"))
        .order_by(place.desc())
        .limit(bindparam("rows_max"))
    )


def _last_changed(compiled: Compiler, messages: Table, column: str = "") -> str:
    place = messages.c.changed_position, messages.c.changed_index
    statement: Select[tuple[object, ...]] = select(*state_of(messages), encoded_of(messages))
    if column:
        statement = statement.where(messages.c[column] == bindparam("wanted"))
    return compiled(
        statement.where(tuple_(*place) < tuple_(bindparam("position"), bindparam("index")))
        .order_by(place[0].desc(), place[1].desc())
        .limit(bindparam("rows_max"))
    )


def _feed_behind(compiled: Compiler, feed: Table, *conditions: ColumnElement[bool]) -> str:
    place = feed.c.position, feed.c.report_index
    return compiled(
        select(*(column for column in feed.c if column.name not in _NOT_WATCHED))
        .where(
            *conditions,
            tuple_(*place) > tuple_(bindparam("position"), bindparam("report_index")),
            feed.c.position <= bindparam("until"),
        )
        .order_by(*place)
        .limit(bindparam("rows_max"))
    )


class Statements(NamedTuple):
    """Every statement over one slot's tables, as SQL with positional parameters."""

    message: str
    encoded: str
    """Of the message: instance, id, status, and what callers get if it stands there, else NULL."""
    encoded_if_live: str
    """No row unless the slot is the live one: the same statement says both."""
    encoded_by_id: str
    encoded_by_id_if_live: str
    encoded_of_ids_if_live: str
    """The same for several ids at once, in any order: see `ids_given`."""
    recipient: str
    feed: str
    webhook: str
    last_webhook: str
    webhook_by_request: str
    webhooks_by_state: str
    of_status_within: str
    upsert_recipient: str
    insert_feed: str
    upsert_quarantine: str
    upsert_webhook: str
    instance: str
    instances: str
    upsert_instance: str
    recipients: str
    reports: str
    quarantine: str
    quarantine_of_instance: str
    webhooks: str
    webhooks_of_instance: str
    newest: str
    newest_of_instance: str
    newest_of_phone: str
    newest_of_status: str
    keys_at: str
    positions_of: str
    leave_message: str
    leave_recipients: str
    leave_feed: str
    release: str
    ended_before: str
    expire_feed: str
    expire_quarantine: str
    expire_webhooks: str
    pages: dict[str, str]
    """By table: rows behind a key, in order of key; of messages up to `encoded`."""
    clear: dict[str, str]
    """By table: delete so many rows, lowest keys first."""
    by_key: str
    """Messages behind a key, in order of key: instance, id, phone, status, position of the last
    change, and `encoded` as above. Below of one id, of one phone, of one instance."""
    by_key_of_id: str
    by_key_of_phone: str
    by_key_of_instance: str
    feed_of_message: str


def _folding(compiled: Compiler, tables: SlotTables) -> dict[str, str]:
    """What the projector loads by key, and writes."""
    messages, recipients, feed, quarantine, webhooks, instances = tables
    return {
        "message": _by_key(compiled, messages, state_of(messages)),
        "recipient": _by_key(compiled, recipients),
        "webhook": _by_key(compiled, webhooks),
        "instance": _by_key(compiled, instances),
        "upsert_recipient": compiled.upsert(recipients),
        "insert_feed": compiled.insert(feed),
        "upsert_quarantine": compiled.upsert(quarantine),
        "upsert_webhook": compiled.upsert(webhooks),
        "upsert_instance": compiled.upsert(instances),
    }


def _asking(compiled: Compiler, tables: SlotTables, slot: str) -> dict[str, str]:
    """What GetMessageStatus asks."""
    messages = tables.messages
    is_live = select(views.c.live_slot).scalar_subquery() == literal_column(f"'{slot}'")
    instance, message_id = messages.c.instance, messages.c.message_id
    encoded = select(instance, message_id, messages.c.status, encoded_of(messages))
    of_id = message_id == bindparam("message_id")
    by_key = encoded.where(instance == bindparam("instance"), of_id)
    by_id = encoded.where(of_id).order_by(instance).limit(bindparam("messages_max"))
    return {
        "encoded": compiled(by_key),
        "encoded_if_live": compiled(by_key.where(is_live)),
        "encoded_by_id": compiled(by_id),
        "encoded_by_id_if_live": compiled(by_id.where(is_live)),
        "encoded_of_ids_if_live": compiled(
            encoded.where(_among(compiled.dialect, message_id), is_live).limit(
                bindparam("messages_max")
            )
        ),
    }


def _among(dialect: Dialect, column: ColumnElement[str]) -> ColumnElement[bool]:
    """One parameter, however many there are."""
    if dialect is Dialect.SQLITE:
        given = func.json_each(bindparam("ids")).table_valued("value").alias("given")
        return column.in_(select(given.c.value))
    return column == any_(bindparam("ids", type_=ARRAY(Text)))


def ids_given(dialect: Dialect, ids: Sequence[str]) -> str | list[str]:
    """The parameter of `encoded_of_ids_if_live`, before the most rows there may be."""
    return json.dumps(ids) if dialect is Dialect.SQLITE else list(ids)


def _reading(compiled: Compiler, tables: SlotTables) -> dict[str, str]:
    """What the API asks beside keys."""
    messages = tables.messages
    feed = tables.feed
    webhooks = tables.webhooks
    last_first = webhooks.c.attempt_position.desc()
    return {
        "feed": _feed_behind(compiled, feed),
        "last_webhook": compiled(
            select(webhooks)
            .where(webhooks.c.instance == bindparam("instance"))
            .order_by(last_first)
            .limit(1)
        ),
        "webhook_by_request": compiled(
            select(webhooks)
            .where(webhooks.c.request_id == bindparam("request_id"))
            .order_by(last_first)
            .limit(1)
        ),
        "of_status_within": compiled(
            select(messages.c.changed_position)
            .where(
                messages.c.status == bindparam("status"),
                messages.c.changed_position >= bindparam("first"),
                messages.c.changed_position < bindparam("until"),
            )
            .limit(bindparam("count_max"))
        ),
        "webhooks_by_state": compiled(
            select(webhooks)
            .where(webhooks.c.state == bindparam("state"))
            .order_by(webhooks.c.attempt_position)
        ),
    }


def _walking(compiled: Compiler, tables: SlotTables) -> dict[str, str]:
    """Runs of rows that are merged: messages in order of key, reports in log order."""
    messages, feed = tables.messages, tables.feed
    key = messages.c.instance, messages.c.message_id
    told = messages.c.phone, messages.c.status, messages.c.changed_position
    behind = tuple_(*key) > tuple_(bindparam("after_instance"), bindparam("after_id"))

    def by_key(*conditions: ColumnElement[bool]) -> str:
        return compiled(
            select(*key, *told, encoded_of(messages))
            .where(*conditions)
            .order_by(*key)
            .limit(bindparam("rows_max"))
        )

    return {
        "by_key": by_key(behind),
        "by_key_of_id": by_key(messages.c.message_id == bindparam("of_id"), behind),
        "by_key_of_phone": by_key(messages.c.phone == bindparam("of_phone"), behind),
        "by_key_of_instance": by_key(
            messages.c.instance == bindparam("of_instance"),
            # SQLite would not look up a pair whose first half is fixed already.
            messages.c.message_id > bindparam("after_id"),
        ),
        "feed_of_message": _feed_behind(
            compiled,
            feed,
            feed.c.instance == bindparam("instance"),
            feed.c.message_id == bindparam("message_id"),
        ),
    }


def _listing(compiled: Compiler, tables: SlotTables) -> dict[str, str]:
    """A page of a listing each."""
    messages, recipients, feed, quarantine, webhooks, instances = tables
    return {
        "instances": compiled(
            select(instances)
            .where(instances.c.instance > bindparam("after"))
            .order_by(instances.c.instance)
            .limit(bindparam("instances_max"))
        ),
        "recipients": compiled(
            select(recipients)
            .where(
                recipients.c.instance == bindparam("instance"),
                recipients.c.message_id == bindparam("message_id"),
                recipients.c.participant > bindparam("after"),
            )
            .order_by(recipients.c.participant)
            .limit(bindparam("rows_max"))
        ),
        "reports": compiled(
            select(feed.c.position, feed.c.report_index, feed.c.report)
            .where(
                feed.c.instance == bindparam("instance"),
                feed.c.message_id == bindparam("message_id"),
                tuple_(feed.c.position, feed.c.report_index)
                > tuple_(bindparam("position"), bindparam("report_index")),
            )
            .order_by(feed.c.position, feed.c.report_index)
            .limit(bindparam("rows_max"))
        ),
        "quarantine": _newest_first(compiled, quarantine, "position"),
        "quarantine_of_instance": _newest_first(
            compiled, quarantine, "position", quarantine.c.instance == bindparam("instance")
        ),
        "webhooks": _newest_first(compiled, webhooks, "attempt_position"),
        "webhooks_of_instance": _newest_first(
            compiled, webhooks, "attempt_position", webhooks.c.instance == bindparam("instance")
        ),
        "newest": _last_changed(compiled, messages),
        "newest_of_instance": _last_changed(compiled, messages, "instance"),
        "newest_of_phone": _last_changed(compiled, messages, "phone"),
        "newest_of_status": _last_changed(compiled, messages, "status"),
    }


def _removing(compiled: Compiler, tables: SlotTables) -> dict[str, str]:
    """What erasure and retention look up and delete."""
    messages, recipients, feed, quarantine, webhooks, _ = tables
    later, last = feed.alias(), webhooks.alias()

    def of_message(table: Table) -> ColumnElement[bool]:
        return and_(
            table.c.instance == bindparam("of_instance"),
            table.c.message_id == bindparam("of_message"),
        )

    def leave(table: Table) -> str:
        return compiled(delete(table).where(of_message(table)))

    return {
        "keys_at": compiled(
            select(feed.c.instance, feed.c.message_id).where(
                feed.c.position == bindparam("position")
            )
        ),
        "positions_of": compiled(select(feed.c.position).where(of_message(feed))),
        "leave_message": leave(messages),
        "leave_recipients": leave(recipients),
        "leave_feed": leave(feed),
        "release": compiled(
            delete(quarantine).where(quarantine.c.position == bindparam("of_position"))
        ),
        "ended_before": compiled(
            select(feed.c.instance, feed.c.message_id).where(
                feed.c.position < bindparam("before"),
                ~exists().where(
                    later.c.instance == feed.c.instance,
                    later.c.message_id == feed.c.message_id,
                    later.c.position >= bindparam("from_here"),
                ),
            )
        ),
        "expire_feed": compiled(delete(feed).where(feed.c.position < bindparam("before"))),
        "expire_quarantine": compiled(
            delete(quarantine).where(quarantine.c.position < bindparam("before"))
        ),
        "expire_webhooks": compiled(
            delete(webhooks).where(
                webhooks.c.attempt_position < bindparam("before"),
                exists().where(
                    last.c.instance == webhooks.c.instance,
                    last.c.attempt_position > webhooks.c.attempt_position,
                    last.c.attempt_position < bindparam("as_well_before"),
                ),
            )
        ),
    }


def _page(compiled: Compiler, table: Table) -> str:
    key = list(table.primary_key)
    behind = tuple_(*key) > tuple_(*(bindparam(f"after_{column.name}") for column in key))
    columns: list[ColumnElement[Any]] = list(table.columns)
    if "encoded" in table.c:
        columns = [*state_of(table), encoded_of(table)]
    return compiled(select(*columns).where(behind).order_by(*key).limit(bindparam("rows_max")))


def _clear(compiled: Compiler, table: Table) -> str:
    key = list(table.primary_key)
    first = select(*key).order_by(*key).limit(bindparam("rows_max"))
    return compiled(delete(table).where(tuple_(*key).in_(first)))


@cache
def of_slot(dialect: Dialect, slot: str) -> Statements:
    compiled, tables = compiler(dialect), TABLES[slot]
    return Statements(
        **_folding(compiled, tables),
        **_asking(compiled, tables, slot),
        **_reading(compiled, tables),
        **_walking(compiled, tables),
        **_listing(compiled, tables),
        **_removing(compiled, tables),
        pages={name: _page(compiled, table) for name, table in tables._asdict().items()},
        clear={name: _clear(compiled, table) for name, table in tables._asdict().items()},
    )
