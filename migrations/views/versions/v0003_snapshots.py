"""A snapshot of a few phones finds their messages in order of key."""

from alembic import op

revision = "v0003"
down_revision = "v0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # An index only: the program of the revision before goes on with it.
    op.execute(f"INSERT INTO served_revision (revision) VALUES ('{revision}')")
    for slot in ("a", "b"):
        op.create_index(
            f"messages_{slot}_by_phone_key", f"messages_{slot}", ["phone", "instance", "message_id"]
        )
