"""PostgreSQL as it is in earnest: the tests' own server does without fsync."""

from pathlib import Path

from tests.postgres import connected, database_url


def durable_database_url(folder: Path) -> str:
    """As `tests.postgres.database_url`, of a server that syncs each commit to disk."""
    url = database_url(folder)
    with connected(url) as connection:
        connection.execute("ALTER SYSTEM SET fsync = on")
        connection.execute("SELECT pg_reload_conf()")
        while connection.execute("SHOW fsync").fetchall() != [("on",)]:
            pass
        for setting in ("synchronous_commit", "full_page_writes"):
            row = connection.execute(f"SHOW {setting}".encode()).fetchone()
            assert row == ("on",), setting
    return url
