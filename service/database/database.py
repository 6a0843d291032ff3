"""What the stores ask of a database; `sqlite` and `postgres` answer.

A store is written once, over these. What the databases do differently stands in their modules:
how a connection is opened and kept durable, how a transaction begins, how many rows travel at once.
"""

import enum
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import sqlalchemy
from sqlalchemy import Table

from service import errors

Row = tuple[Any, ...]
Fence = Callable[["Connection"], None]
"""Called first in a transaction: raises RetryLater if its owner must not write any more."""

Parameters = Sequence[Any]


class Dialect(enum.Enum):
    """Whose SQL is spoken."""

    SQLITE = "sqlite"
    POSTGRES = "postgresql"


def committed(commit: Callable[[], object], meanwhile: Callable[[], None] | None) -> None:
    """Commit, on a thread that is made for it if there is something to do meanwhile.

    `meanwhile` is left out if the system gives no more threads. Raises what the commit raises.
    Worth it only for a transaction of many rows.
    """
    outcome: Future[None] = Future()

    def committing() -> None:
        try:
            commit()
        except BaseException as fault:  # noqa: BLE001
            outcome.set_exception(fault)
        else:
            outcome.set_result(None)

    if meanwhile is None or not _begun(committing):
        commit()
        return
    try:
        meanwhile()
    finally:
        # Whatever happens: the thread uses the connection.
        outcome.result()


def _begun(work: Callable[[], None]) -> bool:
    """On a thread of its own; False if the system gives no more of them."""
    try:
        threading.Thread(target=work, name="commit").start()
    except RuntimeError:
        return False
    return True


def unfenced(_connection: "Connection") -> None:
    """For a store that only one process can write."""


class Cursor(Protocol):
    """A statement's outcome."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Row | None: ...

    def fetchall(self) -> list[Row]: ...

    def __iter__(self) -> Iterator[Row]: ...


class Connection(Protocol):
    """Used by one thread at a time. Everything raises one of `faults` if the database does."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def faults(self) -> tuple[type[Exception], ...]:
        """The driver's errors."""
        ...

    def explained(self, fault: Exception) -> str:
        """What one of `faults` means, and what to do about it where that is known."""
        ...

    @property
    def usable(self) -> bool:
        """False once the connection is lost: only a new one helps."""
        ...

    @property
    def engine_version(self) -> str: ...

    def execute(self, sql: str, parameters: Parameters = (), /) -> Cursor:
        """One statement, with positional parameters; outside a transaction, one of its own."""
        ...

    def executemany(self, sql: str, parameters: Iterable[Parameters], /) -> object:
        """The same statement for each set of parameters, in order."""
        ...

    def each(self, sql: str, parameters: Iterable[Parameters]) -> Iterator[list[Row]]:
        """The rows of the same query for each set of parameters, in order."""
        ...

    def bounded(
        self, sql: str, parameters: Parameters, order: str, size: str, bytes_max: int
    ) -> list[Row]:
        """A query's rows up to the one with which the bytes are reached.

        `order` is the column the query is ordered by, `size` its last one, whose bytes count.
        """
        ...

    def transaction(
        self, meanwhile: Callable[[], None] | None = None
    ) -> AbstractContextManager[None]:
        """What is written inside is committed at the end, or none of it.

        `meanwhile` is done while the commit is under way, or not at all: it must neither raise nor
        use this connection, and the transaction ends when both are done.
        """
        ...

    def load(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert many whole rows, in the order of the table's columns."""
        ...

    def unguarded(self, table: str) -> AbstractContextManager[None]:
        """Inside a transaction, the table's triggers do not run."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """The queries inside see one state of the database."""
        ...

    def expect_rewrites(self, *, many: bool) -> None:
        """Outside a transaction: from now on this connection writes the same rows again and again,
        many at once, or no longer.
        """
        ...

    def grown(self, tables: Sequence[str], rows: int) -> None:
        """Outside a transaction: so many rows more were written to these tables.

        For a database that chooses its ways by what it knows of a table's size.
        """
        ...

    def notify(self, channel: str) -> None:
        """Tell other processes that something has changed. Only a hint: it may get lost."""
        ...

    def listen(self, channels: Sequence[str], stopped: Callable[[], bool]) -> Iterator[str]:
        """The channel of each notification, until `stopped` says so, asked now and again.

        Every channel is told once at the beginning: something may have come before.
        """
        ...

    def has_table(self, name: str) -> bool: ...

    def rewrite(self) -> None:
        """Write the store anew, without the gaps that may keep copies of deleted rows."""
        ...

    def wipe(self) -> bool:
        """Empty what lies beside the store; False while a reader is in the way."""
        ...

    def holds_trace(self, text: str) -> bool:
        """Does the text stand anywhere in the store's files, deleted rows included?"""
        ...

    def close(self) -> None:
        """Never raises. Idempotent."""
        ...


class Database(Protocol):
    """Where a store is. Connecting raises StoreUnusable if it cannot be reached."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def name(self) -> str:
        """For people, without secrets."""
        ...

    def same_place(self, other: "Database") -> bool:
        """Do notifications of one reach who listens at the other?"""
        ...

    def exists(self) -> bool:
        """Was a store ever made here? Raises StoreUnusable if that cannot be said."""
        ...

    def connect_reader(self) -> Connection:
        """A connection that only reads."""
        ...

    def connect_writer(self, reply_s: float = 60.0) -> Connection:
        """A connection whose commits are on disk when they return.

        A database that is elsewhere may take so long for a statement; then the connection is lost.
        """
        ...

    def migrating(self) -> AbstractContextManager[sqlalchemy.Connection]:
        """Make the place for a store if it is missing; one transaction, alone at a time.

        Raises StoreUnusable if it cannot be written.
        """
        ...


@contextmanager
def opening(connection: Connection, name: str) -> Iterator[None]:
    """What fails while a store is being opened leaves no connection behind.

    Raises StoreUnusable if it is the database that fails.
    """
    try:
        yield
    except BaseException as error:
        connection.close()
        if isinstance(error, connection.faults):
            raise errors.StoreUnusable(f"{name} cannot be opened: {error}") from error
        raise
