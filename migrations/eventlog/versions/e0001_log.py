"""The event log, and on SQLite the triggers that make it append-only."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "e0001"
down_revision = None
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

TOMBSTONE = 9
"""`service.domain.events.EventKind.TOMBSTONE`, as of this revision."""


def upgrade() -> None:
    op.create_table("served_revision", sa.Column("revision", sa.Text, primary_key=True))
    op.execute(f"INSERT INTO served_revision (revision) VALUES ('{revision}')")
    op.create_table(
        "log",
        sa.Column("identity", TEXT, nullable=False),
        sa.Column("kept_from", sa.BigInteger, nullable=False),
    )
    op.execute(f"INSERT INTO log (identity, kept_from) VALUES ('{uuid4().hex}', 1)")
    if op.get_context().dialect.name == "postgresql":
        _create_partitioned_events()
        return
    op.create_table(
        "events",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("instance", sa.Text, nullable=False),
        sa.Column("receive_time_us", sa.BigInteger, nullable=False),
        sa.Column("receive_time_max_us", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("position > 0"),
        sqlite_autoincrement=True,
    )
    for trigger in _guards():
        op.execute(trigger)


def _create_partitioned_events() -> None:
    """What stands around them, `e0002` brings."""
    op.execute(
        """
        CREATE TABLE events (
            position bigint PRIMARY KEY CHECK (position > 0),
            instance text COLLATE "C" NOT NULL,
            receive_time_us bigint NOT NULL,
            receive_time_max_us bigint NOT NULL,
            kind integer NOT NULL,
            content bytea NOT NULL
        ) PARTITION BY RANGE (position)
        """
    )


def _guards() -> list[str]:
    return [
        # Erasure, and nothing else, rewrites a row: the content goes, place and time stay.
        f"""
        CREATE TRIGGER events_update BEFORE UPDATE ON events
        WHEN NEW.kind <> {TOMBSTONE} OR OLD.kind = {TOMBSTONE}
          OR NEW.position <> OLD.position OR NEW.instance <> OLD.instance
          OR NEW.receive_time_us <> OLD.receive_time_us
          OR NEW.receive_time_max_us <> OLD.receive_time_max_us
        BEGIN SELECT RAISE(ABORT,
          'the event log is append-only: an event may only become a tombstone'); END
        """,
        # Retention first says what it keeps, then removes all that stands before it. The last
        # event always stays (see log_update): it is where the head's cursors stand.
        """
        CREATE TRIGGER events_delete BEFORE DELETE ON events
        WHEN OLD.position >= (SELECT kept_from FROM log)
          OR EXISTS (SELECT 1 FROM events WHERE position < OLD.position)
        BEGIN SELECT RAISE(ABORT,
          'the event log is append-only: only a prefix below kept_from may go'); END
        """,
        # Nothing goes in front of what is there, and INSERT OR REPLACE would remove a row without
        # asking the trigger above. A position that SQLite is still to choose shows as -1 here.
        """
        CREATE TRIGGER events_insert BEFORE INSERT ON events
        WHEN NEW.position > 0 AND NEW.position <= (SELECT max(position) FROM events)
        BEGIN SELECT RAISE(ABORT,
          'the event log is append-only: this position is taken, or was'); END
        """,
        """
        CREATE TRIGGER log_update BEFORE UPDATE ON log
        WHEN NEW.identity <> OLD.identity OR NEW.kept_from < OLD.kept_from
          OR NEW.kept_from > coalesce((SELECT max(position) FROM events), 1)
        BEGIN SELECT RAISE(ABORT,
          'the identity of a log is fixed, and kept_from only rises, up to the last event'); END
        """,
        """
        CREATE TRIGGER log_delete BEFORE DELETE ON log
        BEGIN SELECT RAISE(ABORT, 'the identity of a log is fixed'); END
        """,
        """
        CREATE TRIGGER log_insert BEFORE INSERT ON log
        WHEN EXISTS (SELECT 1 FROM log)
        BEGIN SELECT RAISE(ABORT, 'a log has one identity'); END
        """,
    ]
