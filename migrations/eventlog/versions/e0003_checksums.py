"""A checksum beside each event, by which a damaged one is found. Those from before have none."""

import sqlalchemy as sa
from alembic import op

revision = "e0003"
down_revision = "e0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Only added: programs of the revision before go on, and leave it empty.
    op.execute(f"INSERT INTO served_revision (revision) VALUES ('{revision}')")
    op.add_column("events", sa.Column("checksum", sa.BigInteger, nullable=True))
