"""For a child process: an upgrade that is killed before its n-th statement or its commit."""

UPGRADE_KILLED_AT = """
import itertools, os, signal
from sqlalchemy import Engine, event
from service.database.schema import upgrade
from service.database.sqlite import SqliteDatabase

def upgrade_killed_at(moment):
    seen = itertools.count(1)
    def count(*_):
        if next(seen) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)
    upgrade(store, SqliteDatabase(path))
    os._exit(0)
"""
"""Defines `upgrade_killed_at(moment)`, which upgrades `path` of `store` and never returns."""
