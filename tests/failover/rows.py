"""Plain rows: threads insert numbers, each on a connection of its own, and note the answers."""

import threading
import time
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.rows import TupleRow
from sqlalchemy import make_url

from tests.failover.waiting import PACE_S, until
from tests.failover.workload import Verdict

_WRITERS = 4
_REPLY_S = 5.0
"""A primary that does not answer for so long is given up: it may be a machine that stands still."""

_T = TypeVar("_T")


class _Bounded(psycopg.Connection[TupleRow]):
    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = _REPLY_S) -> _T:
        return super().wait(gen, interval, timeout)


class Rows:
    """A workload that needs nothing but PostgreSQL."""

    def __init__(self, url: str) -> None:
        _, self._arguments = make_url(url).get_dialect()().create_connect_args(make_url(url))
        self._ending = threading.Event()
        self._changed = threading.Condition()
        self._acknowledged: list[tuple[int, int]] = []
        self._in_doubt = 0
        self._last_begun_s = 0.0
        """When the latest of the acknowledged began."""
        self._threads = [
            threading.Thread(target=self._write, args=(writer,)) for writer in range(_WRITERS)
        ]

    def __enter__(self) -> Self:
        with self._connected() as connection:
            connection.execute(
                "CREATE TABLE failover_rows "
                "(writer integer, number integer, PRIMARY KEY (writer, number))"
            )
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def await_acknowledged(self, more: int, deadline_s: float) -> None:
        with self._changed:
            wanted = len(self._acknowledged) + more
            if not self._changed.wait_for(lambda: len(self._acknowledged) >= wanted, deadline_s):
                raise TimeoutError(f"not within {deadline_s:g} s: {more} more rows")

    def went_on(self, since_s: float, deadline_s: float) -> float:
        with self._changed:
            if not self._changed.wait_for(lambda: self._last_begun_s > since_s, deadline_s):
                raise TimeoutError(f"not within {deadline_s:g} s: a row")
            return time.monotonic()

    def verdict(self) -> Verdict:
        with self._changed:
            acknowledged, in_doubt = set(self._acknowledged), self._in_doubt
        there = until(self._read, 60.0, "a primary that can be read")
        lost = sorted(acknowledged - there)
        return Verdict(len(acknowledged), [f"row {row}" for row in lost], in_doubt)

    def _read(self) -> set[tuple[int, int]] | None:
        try:
            with self._connected() as connection:
                rows = connection.execute("SELECT writer, number FROM failover_rows")
                return {(writer, number) for writer, number in rows}
        except psycopg.Error:
            return None

    def _write(self, writer: int) -> None:
        connection: psycopg.Connection[TupleRow] | None = None
        number = 0
        while not self._ending.is_set():
            try:
                if connection is None:
                    connection = self._connected()
            except psycopg.Error:
                self._ending.wait(PACE_S)
                continue
            number += 1
            begun_s = time.monotonic()
            try:
                connection.execute("INSERT INTO failover_rows VALUES (%s, %s)", (writer, number))
            except psycopg.Error:
                # Closed without a word to the server: a cancelled COMMIT would be confirmed
                # although no standby has it.
                connection.pgconn.finish()
                connection = None
                with self._changed:
                    self._in_doubt += 1
                continue
            with self._changed:
                self._acknowledged.append((writer, number))
                self._last_begun_s = max(self._last_begun_s, begun_s)
                self._changed.notify_all()
        if connection is not None:
            connection.close()

    def _connected(self) -> psycopg.Connection[TupleRow]:
        ours: dict[str, Any] = {
            "target_session_attrs": "read-write",
            "connect_timeout": 3,
            "tcp_user_timeout": 5_000,
        }
        return _Bounded.connect(**{**ours, **self._arguments}, autocommit=True)
