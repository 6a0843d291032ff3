"""The views, in two slots."""

import time

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision = None
branch_labels = None
depends_on = None

# Keys and pages are in order of code points.
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table("served_revision", sa.Column("revision", sa.Text, primary_key=True))
    op.execute(f"INSERT INTO served_revision (revision) VALUES ('{revision}')")
    op.create_table(
        "views",
        sa.Column("log_identity", TEXT, nullable=False),
        sa.Column("live_slot", TEXT, nullable=False),
    )
    op.execute("INSERT INTO views (log_identity, live_slot) VALUES ('', 'a')")
    op.create_table(
        "generations",
        sa.Column("slot", TEXT, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("receive_time_us", sa.BigInteger, nullable=False),
    )
    # Numbered by the clock, so that views which were deleted and built anew are another one.
    generation = time.time_ns() // 1_000
    op.execute(f"INSERT INTO generations VALUES ('a', {generation}, 0, 0), ('b', 0, 0, 0)")
    for slot in ("a", "b"):
        _create_messages(slot)
        _create_recipients(slot)
        _create_feed(slot)
        _create_quarantine(slot)
        _create_webhooks(slot)
        _create_instances(slot)
    if op.get_context().dialect.name == "postgresql":
        op.create_table(
            "leases",
            sa.Column("name", TEXT, primary_key=True),
            sa.Column("holder", TEXT, nullable=False),
            sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
            sa.Column("wanted_by", TEXT, nullable=False, server_default=""),
            sa.Column(
                "wanted_until",
                sa.DateTime(timezone=True),
                nullable=False,
                server_default="-infinity",
            ),
            # A key, so that only a change of the holder waits for those who have locked the key.
            sa.UniqueConstraint("name", "holder"),
        )


def _create_messages(slot: str) -> None:
    op.create_table(
        f"messages_{slot}",
        sa.Column("instance", TEXT, primary_key=True),
        sa.Column("message_id", TEXT, primary_key=True),
        sa.Column("phone", TEXT, nullable=False),
        sa.Column("is_group", sa.Boolean, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("provider_status", TEXT, nullable=False),
        sa.Column("stages", TEXT, nullable=False),
        sa.Column("recipient_count", sa.Integer, nullable=False),
        sa.Column("failure_code", TEXT, nullable=False),
        sa.Column("failure_reason", TEXT, nullable=False),
        sa.Column("report_count", sa.Integer, nullable=False),
        sa.Column("update_time_us", sa.BigInteger, nullable=False),
        sa.Column("changed_position", sa.BigInteger, nullable=False),
        sa.Column("changed_index", sa.BigInteger, nullable=False),
        sa.Column("first_position", sa.BigInteger, nullable=False),
        sa.Column("first_index", sa.BigInteger, nullable=False),
    )
    changed = ["changed_position", "changed_index"]
    _create_index(slot, "messages", "id", ["message_id", "instance"])
    _create_index(slot, "messages", "change", changed)
    for column in ("instance", "phone", "status"):
        _create_index(slot, "messages", column, [column, *changed])


def _create_recipients(slot: str) -> None:
    op.create_table(
        f"recipients_{slot}",
        sa.Column("instance", TEXT, primary_key=True),
        sa.Column("message_id", TEXT, primary_key=True),
        sa.Column("participant", TEXT, primary_key=True),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("provider_status", TEXT, nullable=False),
        sa.Column("occur_time_us", sa.BigInteger, nullable=False),
        sa.Column("receive_time_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_feed(slot: str) -> None:
    op.create_table(
        f"feed_{slot}",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("report_index", sa.BigInteger, primary_key=True),
        sa.Column("receive_time_us", sa.BigInteger, nullable=False),
        sa.Column("instance", TEXT, nullable=False),
        sa.Column("message_id", TEXT, nullable=False),
        sa.Column("phone", TEXT, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("changed", sa.Boolean, nullable=False),
        sa.Column("change", sa.LargeBinary, nullable=False),
        sa.Column("report", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    _create_index(slot, "feed", "message", ["instance", "message_id", "position", "report_index"])


def _create_quarantine(slot: str) -> None:
    op.create_table(
        f"quarantine_{slot}",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("instance", TEXT, nullable=False),
        sa.Column("reason", sa.Integer, nullable=False),
        sa.Column("receive_time_us", sa.BigInteger, nullable=False),
    )
    _create_index(slot, "quarantine", "instance", ["instance", "position"])


def _create_webhooks(slot: str) -> None:
    op.create_table(
        f"webhooks_{slot}",
        sa.Column("update_id", TEXT, primary_key=True),
        sa.Column("instance", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("url_sha256", TEXT, nullable=False),
        sa.Column("updated_by", TEXT, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("update_time_us", sa.BigInteger, nullable=False),
        sa.Column("error", TEXT, nullable=False),
        sa.Column("error_reason", TEXT, nullable=False),
        sa.Column("attempt_time_us", sa.BigInteger, nullable=False),
        sa.Column("attempt_position", sa.BigInteger, nullable=False),
        sa.Column("url_in_force", TEXT, nullable=False),
    )
    _create_index(slot, "webhooks", "attempt", ["attempt_position"])
    for name, column in (("instance",) * 2, ("request", "request_id"), ("state",) * 2):
        _create_index(slot, "webhooks", name, [column, "attempt_position"])


def _create_instances(slot: str) -> None:
    op.create_table(
        f"instances_{slot}",
        sa.Column("instance", TEXT, primary_key=True),
        sa.Column("last_callback_time_us", sa.BigInteger, nullable=False),
        sa.Column("connection_state", sa.Integer, nullable=False),
        sa.Column("connection_time_us", sa.BigInteger, nullable=False),
    )


def _create_index(slot: str, table: str, name: str, columns: list[str]) -> None:
    op.create_index(f"{table}_{slot}_by_{name}", f"{table}_{slot}", columns)
