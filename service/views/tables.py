"""The views' tables, once a slot. `migrations/views` creates them."""

from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    case,
)

SLOTS = ("a", "b")
_CHANGED = ("changed_position", "changed_index")

_metadata = MetaData()

views = Table(
    "views",
    _metadata,
    Column("log_identity", Text, nullable=False),
    Column("live_slot", Text, nullable=False),
    comment="One row: which log these views are of, and which slot is read.",
)

generations = Table(
    "generations",
    _metadata,
    Column("slot", Text, primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("receive_time_us", BigInteger, nullable=False),
    # The lowest position whose reports are still here: retention took those before it.
    Column("kept_from", BigInteger, nullable=False, server_default="1"),
    # The version that fills it: a rebuild that was killed goes on only with the same one.
    Column("program", Text, nullable=False, server_default=""),
    comment="One row a slot: its generation, and the last event folded into it.",
)


class SlotTables(NamedTuple):
    messages: Table
    recipients: Table
    feed: Table
    quarantine: Table
    webhooks: Table
    instances: Table


def _messages(slot: str) -> Table:
    return Table(
        f"messages_{slot}",
        _metadata,
        Column("instance", Text, primary_key=True),
        Column("message_id", Text, primary_key=True),
        Column("phone", Text, nullable=False),
        Column("is_group", Boolean, nullable=False),
        Column("status", Integer, nullable=False),
        Column("provider_status", Text, nullable=False),
        # JSON, [[status, occur_time_us, receive_time_us], …]: always read whole.
        Column("stages", Text, nullable=False),
        Column("recipient_count", Integer, nullable=False),
        Column("failure_code", Text, nullable=False),
        Column("failure_reason", Text, nullable=False),
        Column("report_count", Integer, nullable=False),
        Column("update_time_us", BigInteger, nullable=False),
        Column("changed_position", BigInteger, nullable=False),
        Column("changed_index", BigInteger, nullable=False),
        Column("first_position", BigInteger, nullable=False),
        Column("first_index", BigInteger, nullable=False),
        # A MessageStatus, as callers get it: to make one takes longer than to find one. It says
        # what the other columns do if it was made of as many reports as they were; a program that
        # knows nothing of it leaves it behind.
        Column("encoded", LargeBinary),
        Column("encoded_reports", Integer),
        Index(f"messages_{slot}_by_id", "message_id", "instance"),
        # Listings are newest change first, of all, or of one instance, phone or status. With
        # a row id the table's key is not repeated in each of these.
        Index(f"messages_{slot}_by_change", *_CHANGED),
        Index(f"messages_{slot}_by_instance", "instance", *_CHANGED),
        Index(f"messages_{slot}_by_phone", "phone", *_CHANGED),
        # A snapshot goes in order of key, also that of a few phones.
        Index(f"messages_{slot}_by_phone_key", "phone", "instance", "message_id"),
        Index(f"messages_{slot}_by_status", "status", *_CHANGED),
    )


def _recipients(slot: str) -> Table:
    return Table(
        f"recipients_{slot}",
        _metadata,
        Column("instance", Text, primary_key=True),
        Column("message_id", Text, primary_key=True),
        Column("participant", Text, primary_key=True),
        Column("status", Integer, nullable=False),
        Column("provider_status", Text, nullable=False),
        Column("occur_time_us", BigInteger, nullable=False),
        Column("receive_time_us", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _feed(slot: str) -> Table:
    return Table(
        f"feed_{slot}",
        _metadata,
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        Column("report_index", BigInteger, primary_key=True),
        Column("receive_time_us", BigInteger, nullable=False),
        Column("instance", Text, nullable=False),
        Column("message_id", Text, nullable=False),
        Column("phone", Text, nullable=False),
        Column("status", Integer, nullable=False),
        Column("changed", Boolean, nullable=False),
        Column("change", LargeBinary, nullable=False),
        Column("report", LargeBinary, nullable=False),
        # What stands before `change` in a frame, so that the database can put many together. A
        # program that knows nothing of it leaves it out.
        Column("head", LargeBinary),
        Index(f"feed_{slot}_by_message", "instance", "message_id", "position", "report_index"),
        sqlite_with_rowid=False,
    )


def _quarantine(slot: str) -> Table:
    return Table(
        f"quarantine_{slot}",
        _metadata,
        Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("instance", Text, nullable=False),
        Column("reason", Integer, nullable=False),
        Column("receive_time_us", BigInteger, nullable=False),
        Index(f"quarantine_{slot}_by_instance", "instance", "position"),
    )


def _webhooks(slot: str) -> Table:
    return Table(
        f"webhooks_{slot}",
        _metadata,
        Column("update_id", Text, primary_key=True),
        Column("instance", Text, nullable=False),
        Column("request_id", Text, nullable=False),
        Column("url", Text, nullable=False),
        Column("url_sha256", Text, nullable=False),
        Column("updated_by", Text, nullable=False),
        Column("state", Integer, nullable=False),
        Column("update_time_us", BigInteger, nullable=False),
        Column("error", Text, nullable=False),
        Column("error_reason", Text, nullable=False),
        Column("attempt_time_us", BigInteger, nullable=False),
        Column("attempt_position", BigInteger, nullable=False),
        Column("url_in_force", Text, nullable=False),
        Index(f"webhooks_{slot}_by_attempt", "attempt_position"),
        Index(f"webhooks_{slot}_by_instance", "instance", "attempt_position"),
        Index(f"webhooks_{slot}_by_request", "request_id", "attempt_position"),
        Index(f"webhooks_{slot}_by_state", "state", "attempt_position"),
    )


def _instances(slot: str) -> Table:
    return Table(
        f"instances_{slot}",
        _metadata,
        Column("instance", Text, primary_key=True),
        Column("last_callback_time_us", BigInteger, nullable=False),
        Column("connection_state", Integer, nullable=False),
        Column("connection_time_us", BigInteger, nullable=False),
    )


def _slot_tables(slot: str) -> SlotTables:
    return SlotTables(
        messages=_messages(slot),
        recipients=_recipients(slot),
        feed=_feed(slot),
        quarantine=_quarantine(slot),
        webhooks=_webhooks(slot),
        instances=_instances(slot),
    )


TABLES: dict[str, SlotTables] = {slot: _slot_tables(slot) for slot in SLOTS}


def state_of(messages: Table) -> list[Column[Any]]:
    """What the fold makes of a message; without what callers get of it."""
    return [column for column in messages.c if column.name not in _ENCODED]


def encoded_of(messages: Table) -> ColumnElement[bytes]:
    """What callers get, or NULL: it was never made, or is of another state than the row's."""
    current = messages.c.encoded_reports == messages.c.report_count
    return case((current, messages.c.encoded)).label("encoded")


_ENCODED = ("encoded", "encoded_reports")
