"""Every statement over the views, compiled for SQLite once, with positional parameters."""

from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from service.database import statements
from service.views.tables import SLOTS, TABLES, SlotTables, generations, views


def _upsert(table: Table) -> str:
    keys = [column.name for column in table.primary_key]
    statement = insert(table)
    return statements.for_sqlite(
        statement.on_conflict_do_update(
            index_elements=keys,
            set_={
                column.name: statement.excluded[column.name]
                for column in table.columns
                if column.name not in keys
            },
        )
    ).sql


def _by_key(table: Table) -> str:
    return statements.for_sqlite(
        select(table).where(*(column == bindparam(column.name) for column in table.primary_key))
    ).sql


def _newest_first(table: Table, position: str, *conditions: ColumnElement[bool]) -> str:
    place = table.c[position]
    return statements.for_sqlite(
        select(table)
        .where(*conditions, place < bindparam("before"))
        .order_by(place.desc())
        .limit(bindparam("rows_max"))
    ).sql


def _last_changed(messages: Table, column: str = "") -> str:
    place = messages.c.changed_position, messages.c.changed_index
    statement: Select[tuple[object, ...]] = select(messages)
    if column:
        statement = statement.where(messages.c[column] == bindparam("wanted"))
    return statements.for_sqlite(
        statement.where(tuple_(*place) < tuple_(bindparam("position"), bindparam("index")))
        .order_by(place[0].desc(), place[1].desc())
        .limit(bindparam("rows_max"))
    ).sql


def _feed_behind(feed: Table, *conditions: ColumnElement[bool]) -> str:
    place = feed.c.position, feed.c.report_index
    return statements.for_sqlite(
        select(*(column for column in feed.c if column.name != "report"))
        .where(
            *conditions,
            tuple_(*place) > tuple_(bindparam("position"), bindparam("report_index")),
            feed.c.position <= bindparam("until"),
        )
        .order_by(*place)
        .limit(bindparam("rows_max"))
    ).sql


class Statements(NamedTuple):
    """Every statement over one slot's tables, as SQL with positional parameters."""

    message: str
    messages_by_id: str
    recipient: str
    feed: str
    webhook: str
    last_webhook: str
    webhook_by_request: str
    webhooks_by_state: str
    upsert_message: str
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
    """By table: rows behind a key, in order of key."""
    clear: dict[str, str]
    """By table: delete so many rows, lowest keys first."""
    by_key: str
    """Messages behind a key, in order of key; below of one id, of one phone, of one instance."""
    by_key_of_id: str
    by_key_of_phone: str
    by_key_of_instance: str
    feed_of_message: str


def _folding(tables: SlotTables) -> dict[str, str]:
    """What the projector loads by key, and writes."""
    messages, recipients, feed, quarantine, webhooks, instances = tables
    return {
        "message": _by_key(messages),
        "recipient": _by_key(recipients),
        "webhook": _by_key(webhooks),
        "instance": _by_key(instances),
        "upsert_message": _upsert(messages),
        "upsert_recipient": _upsert(recipients),
        "insert_feed": statements.for_sqlite(insert(feed)).sql,
        "upsert_quarantine": _upsert(quarantine),
        "upsert_webhook": _upsert(webhooks),
        "upsert_instance": _upsert(instances),
    }


def _reading(tables: SlotTables) -> dict[str, str]:
    """What the API asks beside keys."""
    messages = tables.messages
    feed = tables.feed
    webhooks = tables.webhooks
    last_first = webhooks.c.attempt_position.desc()
    return {
        "messages_by_id": statements.for_sqlite(
            select(messages)
            .where(messages.c.message_id == bindparam("message_id"))
            .order_by(messages.c.instance)
            .limit(bindparam("messages_max"))
        ).sql,
        "feed": _feed_behind(feed),
        "last_webhook": statements.for_sqlite(
            select(webhooks)
            .where(webhooks.c.instance == bindparam("instance"))
            .order_by(last_first)
            .limit(1)
        ).sql,
        "webhook_by_request": statements.for_sqlite(
            select(webhooks)
            .where(webhooks.c.request_id == bindparam("request_id"))
            .order_by(last_first)
            .limit(1)
        ).sql,
        "webhooks_by_state": statements.for_sqlite(
            select(webhooks)
            .where(webhooks.c.state == bindparam("state"))
            .order_by(webhooks.c.attempt_position)
        ).sql,
    }


def _walking(tables: SlotTables) -> dict[str, str]:
    """Runs of rows that are merged: messages in order of key, reports in log order."""
    messages, feed = tables.messages, tables.feed
    key = messages.c.instance, messages.c.message_id
    behind = tuple_(*key) > tuple_(bindparam("after_instance"), bindparam("after_id"))

    def by_key(*conditions: ColumnElement[bool]) -> str:
        return statements.for_sqlite(
            select(messages).where(*conditions).order_by(*key).limit(bindparam("rows_max"))
        ).sql

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
            feed,
            feed.c.instance == bindparam("instance"),
            feed.c.message_id == bindparam("message_id"),
        ),
    }


def _listing(tables: SlotTables) -> dict[str, str]:
    """A page of a listing each."""
    messages, recipients, feed, quarantine, webhooks, instances = tables
    return {
        "instances": statements.for_sqlite(
            select(instances)
            .where(instances.c.instance > bindparam("after"))
            .order_by(instances.c.instance)
            .limit(bindparam("instances_max"))
        ).sql,
        "recipients": statements.for_sqlite(
            select(recipients)
            .where(
                recipients.c.instance == bindparam("instance"),
                recipients.c.message_id == bindparam("message_id"),
                recipients.c.participant > bindparam("after"),
            )
            .order_by(recipients.c.participant)
            .limit(bindparam("rows_max"))
        ).sql,
        "reports": statements.for_sqlite(
            select(feed.c.position, feed.c.report_index, feed.c.report)
            .where(
                feed.c.instance == bindparam("instance"),
                feed.c.message_id == bindparam("message_id"),
                tuple_(feed.c.position, feed.c.report_index)
                > tuple_(bindparam("position"), bindparam("report_index")),
            )
            .order_by(feed.c.position, feed.c.report_index)
            .limit(bindparam("rows_max"))
        ).sql,
        "quarantine": _newest_first(quarantine, "position"),
        "quarantine_of_instance": _newest_first(
            quarantine, "position", quarantine.c.instance == bindparam("instance")
        ),
        "webhooks": _newest_first(webhooks, "attempt_position"),
        "webhooks_of_instance": _newest_first(
            webhooks, "attempt_position", webhooks.c.instance == bindparam("instance")
        ),
        "newest": _last_changed(messages),
        "newest_of_instance": _last_changed(messages, "instance"),
        "newest_of_phone": _last_changed(messages, "phone"),
        "newest_of_status": _last_changed(messages, "status"),
    }


def _removing(tables: SlotTables) -> dict[str, str]:
    """What erasure and retention look up and delete."""
    messages, recipients, feed, quarantine, webhooks, _ = tables
    later, last = feed.alias(), webhooks.alias()

    def of_message(table: Table) -> ColumnElement[bool]:
        return and_(
            table.c.instance == bindparam("of_instance"),
            table.c.message_id == bindparam("of_message"),
        )

    def leave(table: Table) -> str:
        return statements.for_sqlite(delete(table).where(of_message(table))).sql

    return {
        "keys_at": statements.for_sqlite(
            select(feed.c.instance, feed.c.message_id).where(
                feed.c.position == bindparam("position")
            )
        ).sql,
        "positions_of": statements.for_sqlite(select(feed.c.position).where(of_message(feed))).sql,
        "leave_message": leave(messages),
        "leave_recipients": leave(recipients),
        "leave_feed": leave(feed),
        "release": statements.for_sqlite(
            delete(quarantine).where(quarantine.c.position == bindparam("of_position"))
        ).sql,
        "ended_before": statements.for_sqlite(
            select(feed.c.instance, feed.c.message_id).where(
                feed.c.position < bindparam("before"),
                ~exists().where(
                    later.c.instance == feed.c.instance,
                    later.c.message_id == feed.c.message_id,
                    later.c.position >= bindparam("from_here"),
                ),
            )
        ).sql,
        "expire_feed": statements.for_sqlite(
            delete(feed).where(feed.c.position < bindparam("before"))
        ).sql,
        "expire_quarantine": statements.for_sqlite(
            delete(quarantine).where(quarantine.c.position < bindparam("before"))
        ).sql,
        "expire_webhooks": statements.for_sqlite(
            delete(webhooks).where(
                webhooks.c.attempt_position < bindparam("before"),
                exists().where(
                    last.c.instance == webhooks.c.instance,
                    last.c.attempt_position > webhooks.c.attempt_position,
                    last.c.attempt_position < bindparam("as_well_before"),
                ),
            )
        ).sql,
    }


def _page(table: Table) -> str:
    key = list(table.primary_key)
    return statements.for_sqlite(
        select(table)
        .where(tuple_(*key) > tuple_(*(bindparam(f"after_{column.name}") for column in key)))
        .order_by(*key)
        .limit(bindparam("rows_max"))
    ).sql


def _clear(table: Table) -> str:
    key = list(table.primary_key)
    first = select(*key).order_by(*key).limit(bindparam("rows_max"))
    return statements.for_sqlite(delete(table).where(tuple_(*key).in_(first))).sql


def _statements(slot: str) -> Statements:
    tables = TABLES[slot]
    return Statements(
        **_folding(tables),
        **_reading(tables),
        **_walking(tables),
        **_listing(tables),
        **_removing(tables),
        pages={name: _page(table) for name, table in tables._asdict().items()},
        clear={name: _clear(table) for name, table in tables._asdict().items()},
    )


BY_SLOT = {slot: _statements(slot) for slot in SLOTS}
LIVE = statements.for_sqlite(
    select(
        views.c.live_slot,
        generations.c.generation,
        generations.c.position,
        generations.c.receive_time_us,
        generations.c.kept_from,
    ).where(generations.c.slot == views.c.live_slot)
).sql
GENERATION = statements.for_sqlite(
    select(
        generations.c.generation,
        generations.c.position,
        generations.c.receive_time_us,
        generations.c.kept_from,
        generations.c.program,
    ).where(generations.c.slot == bindparam("slot"))
).sql
BEGIN_GENERATION = statements.for_sqlite(
    update(generations)
    .values(
        generation=bindparam("new_generation"),
        position=bindparam("at"),
        receive_time_us=bindparam("at_time_us"),
        kept_from=bindparam("first_kept"),
        program=bindparam("by_program"),
    )
    .where(generations.c.slot == bindparam("of_slot"))
).sql
KEEP_FROM = statements.for_sqlite(
    update(generations)
    .values(kept_from=bindparam("first_kept"))
    .where(generations.c.slot == bindparam("of_slot"))
).sql
SWITCH = statements.for_sqlite(update(views).values(live_slot=bindparam("to_slot"))).sql
LOG_IDENTITY = statements.for_sqlite(select(views.c.log_identity)).sql
SET_LOG_IDENTITY = statements.for_sqlite(
    update(views).values(log_identity=bindparam("identity"))
).sql
ADVANCE = statements.for_sqlite(
    update(generations)
    .values(position=bindparam("until"), receive_time_us=bindparam("until_time_us"))
    .where(
        generations.c.slot == bindparam("of_slot"),
        generations.c.generation == bindparam("of_generation"),
        generations.c.position == bindparam("since"),
    )
).sql
