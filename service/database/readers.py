"""Synchronous readers behind an asynchronous edge.

A reader (one connection, used by one thread at a time) belongs to each thread of a small pool.
The API awaits `run`; nothing else in the service mixes the two colours.

Handing a read over to a thread and its result back takes several times as long as finding a row of
an embedded store by its key. So `run_short` does that where it is called, on the loop, as long as
it is as quick as it should be.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar

import structlog

from service.errors import RetryLater, StoreUnusable

_log = structlog.get_logger(__name__)


class Reader(Protocol):
    @property
    def usable(self) -> bool: ...

    def close(self) -> None: ...


_SHORT_S = 0.005
"""When two in a row by key take longer than this they wait for the disk, as the next ones might."""

_WARY_S = 1.0
"""For so long they then leave the loop alone."""

ReaderT = TypeVar("ReaderT", bound=Reader)
ResultT = TypeVar("ResultT")


class ReaderPool(Generic[ReaderT]):
    """Runs reads on threads that each own a reader, opened at the thread's first read.

    A reader whose connection is lost is replaced, and the read done again: it changes nothing. Only
    what a new connection cannot read either is the caller's to hear.
    """

    def __init__(
        self,
        name: str,
        open_reader: Callable[[], ReaderT],
        readers_max: int,
        unavailable: type[RetryLater],
        *,
        embedded: bool = False,
    ) -> None:
        """`unavailable` is raised when a reader cannot be opened; the next read tries again.

        `embedded`: the store is in this process, and a read of it waits for no other one.
        """
        self._embedded = embedded
        self._last_was_slow = False
        self._wary_until_s = 0.0
        self._open_reader = open_reader
        self._unavailable = unavailable
        self._local = threading.local()
        self._opened: list[ReaderT] = []
        self._opened_lock = threading.Lock()
        self.opened_count = 0
        """Readers opened so far; one more may mean that the database behind them is another."""
        self._threads = ThreadPoolExecutor(readers_max, thread_name_prefix=name)

    async def run(self, read: Callable[[ReaderT], ResultT]) -> ResultT:
        """Call `read` with a reader, on one of the pool's threads.

        Raises what the read raises. A cancelled caller does not interrupt a read under way.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, read)

    async def run_short(self, read: Callable[[ReaderT], ResultT]) -> ResultT:
        """The same for a read that finds a few rows by their keys, and takes microseconds."""
        begun_s = time.monotonic()
        if not self._embedded or begun_s < self._wary_until_s:
            return await self.run(read)
        try:
            return self._read(read)
        finally:
            ended_s = time.monotonic()
            slow, self._last_was_slow = self._last_was_slow, ended_s - begun_s > _SHORT_S
            # One alone may have waited for the processor.
            if slow and self._last_was_slow:
                self._wary_until_s = ended_s + _WARY_S

    def close(self) -> None:
        """Wait for the reads under way, then close every reader. Idempotent."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        with self._opened_lock:
            while self._opened:
                self._opened.pop().close()

    def _read(self, read: Callable[[ReaderT], ResultT]) -> ResultT:
        reader: ReaderT | None = getattr(self._local, "reader", None)
        if reader is not None:
            try:
                return read(reader)
            except self._unavailable:
                if reader.usable:
                    raise
                self._drop(reader)
        reader = self._opened_anew()
        try:
            return read(reader)
        finally:
            if not reader.usable:
                self._drop(reader)

    def _opened_anew(self) -> ReaderT:
        try:
            reader = self._open_reader()
        except StoreUnusable as error:
            # Where the database is, and why it cannot be reached, is for the log to tell.
            _log.warning("a store cannot be read", reason=str(error))
            raise self._unavailable("the store cannot be reached now: try again") from error
        self._local.reader = reader
        with self._opened_lock:
            self._opened.append(reader)
            self.opened_count += 1
        return reader

    def _drop(self, reader: ReaderT) -> None:
        self._local.reader = None
        with self._opened_lock:
            self._opened.remove(reader)
        reader.close()
