"""PostgreSQL connections, bounded so that a database that is away is noticed.

Every wait has an end on our side. What the server can end itself it ends a little sooner
(`statement_timeout`); a COMMIT it never ends, and neither do we: a wait for the quorum that is
cut short would leave a transaction that only the primary has. So after `reply_s` the connection is
given up without asking the server to stop: what was under way there finishes, or not, and whoever
needs to know asks on another connection.

Direct connections only: a transaction pooler between would lose LISTEN, prepared statements and
the settings a connection is opened with.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import psycopg
import sqlalchemy
from psycopg.abc import PQGen
from psycopg.pq import Format, TransactionStatus
from psycopg.types.numeric import Int8BinaryDumper
from sqlalchemy import (
    URL,
    BigInteger,
    Integer,
    LargeBinary,
    NullPool,
    Table,
    Text,
    create_engine,
)
from sqlalchemy.exc import SQLAlchemyError

from service import errors
from service.database.database import Cursor, Database, Dialect, Parameters, Row, committed

_ResultT = TypeVar("_ResultT")
_CONNECT_S = 3
"""A host that does not answer; libpq counts whole seconds, and at least 2."""

_LISTEN_S = 0.25
"""How late a listener ends that is told to."""
_PROBE_S = 10.0

_MIGRATION_LOCK = 0x706C7567
"""An advisory lock's key: migrations of any store of this database, one at a time."""


_TYPES: dict[type, str] = {
    BigInteger: "int8",
    Integer: "int4",
    Text: "text",
    LargeBinary: "bytea",
}


_FIRST_LOOK_ROWS = 1_000

_PEERS = (
    "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
    " -c tcp_user_timeout=5000"
)
"""The server too notices a machine that is gone, and ends what it had begun."""

_PLANNING = "-c enable_seqscan=off -c jit=off"
"""Every statement has its index. A plan made while a table was small is kept when it has grown, and
to look through a small one is cheap."""


class Bounds(NamedTuple):
    """How long what may take, in seconds."""

    reply_s: float
    """A statement, with its COMMIT: then the connection is given up."""
    idle_in_transaction_s: float
    """Between two statements of a transaction: then the server ends it, so that a process that was
    stopped keeps no lock."""


_READING = Bounds(reply_s=5.0, idle_in_transaction_s=10.0)
_IDLE_WRITING_S = 2.5


class _Bounded(psycopg.Connection[Row]):
    """Gives itself up when a statement has not been answered in time."""

    reply_s: float | None = _READING.reply_s

    def wait(
        self, gen: PQGen[_ResultT], interval: float = 0.1, timeout: float | None = None
    ) -> _ResultT:
        try:
            return super().wait(gen, interval, self.reply_s if timeout is None else timeout)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE and timeout is None:
                self.pgconn.finish()
            raise


class PostgresConnection:
    """Every statement outside a transaction is one of its own."""

    dialect = Dialect.POSTGRES
    faults = (psycopg.Error,)

    def __init__(self, raw: _Bounded) -> None:
        self.raw = raw
        self._written: dict[str, int] = {}
        self._looked_at: dict[str, int] = {}

    @property
    def usable(self) -> bool:
        return not self.raw.closed

    @property
    def engine_version(self) -> str:
        return str(self.execute("SHOW server_version").fetchall()[0][0]).partition(" ")[0]

    def execute(self, sql: str, parameters: Parameters = (), /) -> Cursor:
        return self._cursor().execute(sql.encode(), parameters)

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> None:
        """They travel together: the answers are awaited once."""
        if all_of_them := list(parameters):
            self._cursor().executemany(sql.encode(), all_of_them)

    def explained(self, fault: Exception) -> str:
        return str(fault)

    def each(self, sql: str, parameters: Iterable[Parameters]) -> Iterator[list[Row]]:
        """They travel together: the answers are awaited once."""
        if all_of_them := list(parameters):
            cursor = self._cursor()
            cursor.executemany(sql.encode(), all_of_them, returning=True)
            for result in cursor.results():
                yield result.fetchall()

    def bounded(
        self, sql: str, parameters: Parameters, order: str, size: str, bytes_max: int
    ) -> list[Row]:
        """Counted there, because all that a query finds would be sent here."""
        counted = (
            f"SELECT * FROM (SELECT *, sum(octet_length({size})) OVER (ORDER BY {order} "  # noqa: S608
            f"ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before "
            f"FROM ({sql}) AS found) AS counted "
            f"WHERE bytes_before IS NULL OR bytes_before < ${len(parameters) + 1} "
            f"ORDER BY {order}"
        )
        return [row[:-1] for row in self.execute(counted, (*parameters, bytes_max)).fetchall()]

    @contextmanager
    def transaction(self, meanwhile: Callable[[], None] | None = None) -> Iterator[None]:
        self.raw.execute("BEGIN")
        try:
            yield
            committed(lambda: self.raw.execute("COMMIT"), meanwhile)
        except BaseException:
            with suppress(psycopg.Error):
                self.raw.execute("ROLLBACK")
            raise

    def load(self, table: Table, rows: Sequence[Row]) -> None:
        names = _identifiers(table.columns.keys())
        into = psycopg.sql.Identifier(table.name)
        copy_in = psycopg.sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(into, names)
        with self.raw.cursor().copy(copy_in) as copy:
            copy.set_types([_TYPES[type(column.type)] for column in table.columns])
            for row in rows:
                copy.write_row(row)

    @contextmanager
    def unguarded(self, table: str) -> Iterator[None]:
        name = psycopg.sql.Identifier(table)
        self.raw.execute(psycopg.sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(name))
        yield
        self.raw.execute(psycopg.sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(name))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self.raw.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            # What was read is right even if the connection was lost behind it.
            with suppress(psycopg.Error):
                self.raw.execute("ROLLBACK")

    def expect_rewrites(self, *, many: bool) -> None:
        """The server's settings say how often it checkpoints."""

    def grown(self, tables: Sequence[str], rows: int) -> None:
        """Have the server look at them, as often as they have doubled.

        A statement is planned once and kept. Planned while a table was empty, where one index is as
        good as another, it would go through ever more rows until autovacuum comes by.
        """
        names = ", ".join(tables)
        written = self._written.get(names, 0) + rows
        if written >= self._looked_at.get(names, _FIRST_LOOK_ROWS):
            self.raw.execute(psycopg.sql.SQL("ANALYZE {}").format(_identifiers(tables)))
            self._looked_at[names] = 2 * written
        self._written[names] = written

    def notify(self, channel: str) -> None:
        # In a transaction of its own, which waits for no quorum: NOTIFY is serial in the whole
        # cluster until its transaction ends.
        self.execute(
            "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, '')", (channel,)
        )

    def listen(self, channels: Sequence[str], stopped: Callable[[], bool]) -> Iterator[str]:
        for channel in channels:
            self.raw.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
        yield from channels
        quiet_s = 0.0
        while not stopped():
            quiet_s += _LISTEN_S
            for notification in self.raw.notifies(timeout=_LISTEN_S, stop_after=1):
                quiet_s = 0.0
                yield notification.channel
            if quiet_s >= _PROBE_S:
                # A connection that was cut off is silent as well.
                self.execute("SELECT 1")
                quiet_s = 0.0

    def has_table(self, name: str) -> bool:
        return self.execute("SELECT to_regclass($1) IS NOT NULL", (name,)).fetchone() == (True,)

    def rewrite(self) -> None:
        """Deleted rows leave the tables' pages; the space is used again. As long as it takes.

        What the file system, the WAL and its archive still hold is the operator's.
        """
        found = self.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
        tables = _identifiers([name for (name,) in found.fetchall()])
        reply_s, self.raw.reply_s = self.raw.reply_s, None
        self.raw.execute("SET statement_timeout = 0")
        self.raw.execute(psycopg.sql.SQL("VACUUM {}").format(tables))
        self.raw.execute("RESET statement_timeout")
        self.raw.reply_s = reply_s

    def wipe(self) -> bool:
        """Nothing lies beside the tables that is ours to empty."""
        return True

    def holds_trace(self, text: str) -> bool:
        """The server's files are not ours to read."""
        return False

    def close(self) -> None:
        self.raw.close()

    def _cursor(self) -> psycopg.RawCursor[Row]:
        cursor = psycopg.RawCursor(self.raw)
        cursor.format = Format.BINARY
        return cursor


class PostgresDatabase:
    """One schema of one database, which a store has for itself."""

    dialect = Dialect.POSTGRES

    def __init__(self, url: URL, schema: str) -> None:
        """The URL as SQLAlchemy has it; several hosts are tried in order."""
        self._schema = schema
        self._arguments = _connection_arguments(url)
        hosts = [url.host] if url.host else [*_several(url.query.get("host", "localhost"))]
        self.name = f"schema {schema} of database {url.database} at {', '.join(hosts)}"

    def same_place(self, other: Database) -> bool:
        return isinstance(other, PostgresDatabase) and self._arguments == other._arguments

    def exists(self) -> bool:
        connection = self.connect_reader()
        try:
            return connection.has_table("alembic_version")
        except psycopg.Error as error:
            raise errors.StoreUnusable(f"{self.name} cannot be read: {_told(error)}") from error
        finally:
            connection.close()

    def connect_reader(self) -> PostgresConnection:
        return self._connect(_READING, "-c default_transaction_read_only=on")

    def connect_writer(self, reply_s: float = 60.0) -> PostgresConnection:
        return self._connect(Bounds(reply_s, _IDLE_WRITING_S), "")

    @contextmanager
    def migrating(self) -> Iterator[sqlalchemy.Connection]:
        """Needs the right to create a schema in the database, unless it is there already."""
        engine = create_engine(
            "postgresql+psycopg://",
            connect_args=self._arguments | {"options": self._options("")},
            poolclass=NullPool,
        )
        try:
            with engine.begin() as connection:
                run = connection.exec_driver_sql
                run(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
                run(f"CREATE SCHEMA IF NOT EXISTS {self._schema}")
                yield connection
        except SQLAlchemyError as error:
            raise errors.StoreUnusable(f"{self.name} cannot be upgraded: {error}") from error

    def _connect(self, bounds: Bounds, options: str) -> PostgresConnection:
        statement_ms = int(bounds.reply_s * 900)
        idle_ms = int(bounds.idle_in_transaction_s * 1_000)
        options += f" -c statement_timeout={statement_ms}"
        options += f" -c idle_in_transaction_session_timeout={idle_ms} {_PLANNING}"
        options += f" {_PEERS}"
        try:
            raw = _Bounded.connect(
                **self._arguments | {"options": self._options(options)}, autocommit=True
            )
        except psycopg.Error as error:
            raise errors.StoreUnusable(f"{self.name} cannot be reached: {_told(error)}") from error
        raw.reply_s = bounds.reply_s
        # One width for all: a statement is prepared once, whatever its numbers are.
        raw.adapters.register_dumper(int, Int8BinaryDumper)
        return PostgresConnection(raw)

    def _options(self, more: str) -> str:
        given = self._arguments.get("options", "")
        return f"{given} -c search_path={self._schema} {more}"


def _connection_arguments(url: URL) -> dict[str, Any]:
    """What libpq is given, with what the URL leaves open."""
    _, given = url.get_dialect()().create_connect_args(url)
    ours = {
        "application_name": "plugstatus",
        "connect_timeout": _CONNECT_S,
        # A standby, or a primary that has become one, must not answer with what is old.
        "target_session_attrs": "primary",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 5_000,
    }
    return {**ours, **given}


def _identifiers(names: Iterable[str]) -> psycopg.sql.Composed:
    return psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, names))


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _told(error: psycopg.Error) -> str:
    """The first line; what follows are hints, and the statement."""
    return str(error).partition("\n")[0] or type(error).__name__
