"""What was removed from the log is counted, and summed up where something of it lives on."""

import sqlalchemy as sa
from alembic import op

revision = "e0002"
down_revision = "e0001"
branch_labels = None
depends_on = None

TOMBSTONE = 9
"""`service.domain.events.EventKind.TOMBSTONE`, as of this revision."""

COUNTS = ("erased_event_count", "expired_event_count")
TIMES = ("last_erasure_time_us", "cut_time_us", "cut_time_max_us")


def upgrade() -> None:
    # A program of the revision before would show from its views what was erased here.
    op.execute("DELETE FROM served_revision")
    op.execute(f"INSERT INTO served_revision (revision) VALUES ('{revision}')")
    for name in (*COUNTS, *TIMES):
        op.add_column("log", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "baseline",
        sa.Column("kind", sa.Integer, primary_key=True),
        sa.Column("instance", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("part", sa.Text, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute("DROP TRIGGER events_update")
    op.execute("DROP TRIGGER log_update")
    for trigger in _guards():
        op.execute(trigger)


def _guards() -> list[str]:
    falls = " OR ".join(f"NEW.{name} < OLD.{name}" for name in COUNTS)
    return [
        # A tombstone may be rewritten too, because what one erasure left, the next one may take;
        # but nothing is ever put into it.
        f"""
        CREATE TRIGGER events_update BEFORE UPDATE ON events
        WHEN NEW.kind <> {TOMBSTONE}
          OR (OLD.kind = {TOMBSTONE} AND length(NEW.content) > length(OLD.content))
          OR NEW.position <> OLD.position OR NEW.instance <> OLD.instance
          OR NEW.receive_time_us <> OLD.receive_time_us
          OR NEW.receive_time_max_us <> OLD.receive_time_max_us
        BEGIN SELECT RAISE(ABORT,
          'the event log is append-only: an event may only become a tombstone'); END
        """,
        f"""
        CREATE TRIGGER log_update BEFORE UPDATE ON log
        WHEN NEW.identity <> OLD.identity OR NEW.kept_from < OLD.kept_from OR {falls}
          OR NEW.kept_from > coalesce((SELECT max(position) FROM events), 1)
        BEGIN SELECT RAISE(ABORT,
          'a log keeps its identity; its counts and kept_from only rise, up to the last event'); END
        """,
    ]
