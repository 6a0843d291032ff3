"""Messages stand in their rows as callers get them, and changes with what leads them in a frame."""

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The program of the revision before goes on: what it writes has another `encoded_reports`, or
    # none, so nobody takes what stands in `encoded` for it. Rows from before have none either. Its
    # changes lack their `head`, as earlier ones do: those are read one by one.
    op.execute(f"INSERT INTO served_revision (revision) VALUES ('{revision}')")
    for slot in ("a", "b"):
        op.add_column(f"messages_{slot}", sa.Column("encoded", sa.LargeBinary))
        op.add_column(f"messages_{slot}", sa.Column("encoded_reports", sa.Integer))
        op.add_column(f"feed_{slot}", sa.Column("head", sa.LargeBinary))
