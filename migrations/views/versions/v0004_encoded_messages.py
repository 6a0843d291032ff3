"""Each message also stands in its row as callers get it."""

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision = "v0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The program of the revision before goes on: what it writes has another `encoded_reports`, or
    # none, so nobody takes what stands in `encoded` for it. Rows from before have none either.
    op.execute(f"INSERT INTO served_revision (revision) VALUES ('{revision}')")
    for slot in ("a", "b"):
        op.add_column(f"messages_{slot}", sa.Column("encoded", sa.LargeBinary))
        op.add_column(f"messages_{slot}", sa.Column("encoded_reports", sa.Integer))
