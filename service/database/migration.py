"""Migrations, run by Alembic; imported only where there is something to migrate."""

from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config


def upgrade(migrations: Path, connection: sqlalchemy.Connection) -> None:
    """To the newest revision in that folder, inside the connection's transaction."""
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
