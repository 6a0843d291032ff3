"""A slot tells what fills it, and what retention has taken from it."""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A program of the revision before would go on from a slot that retention has cut.
    op.execute("DELETE FROM served_revision")
    op.execute(f"INSERT INTO served_revision (revision) VALUES ('{revision}')")
    op.add_column(
        "generations", sa.Column("kept_from", sa.BigInteger, nullable=False, server_default="1")
    )
    op.add_column("generations", sa.Column("program", sa.Text, nullable=False, server_default=""))
