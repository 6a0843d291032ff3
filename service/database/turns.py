"""One at a time: whoever has the turn of a name keeps the others of that name waiting."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Protocol, TypeVar

import structlog

from service import errors
from service.database.database import Fence, unfenced
from service.database.lease import Leases, Term

_log = structlog.get_logger(__name__)
_ResultT = TypeVar("_ResultT")


class Turns(Protocol):
    """Turns by name."""

    def turn(self, name: str) -> AbstractAsyncContextManager[Fence]:
        """Wait for the turn and keep it inside the context; what it writes begins with the fence.

        Cancelled while it waits, it leaves the queue. Bound the wait with `asyncio.timeout`.
        Raises LogUnavailable if nobody can say whose turn it is.
        """
        ...

    def close(self) -> None:
        """Once nobody has a turn any more. Idempotent."""
        ...


class LocalTurns:
    """Turns within this process, in order of asking. Remembers only the names that are in use."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Fence]:
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._users[name] = self._users.get(name, 0) + 1
        try:
            async with lock:
                yield unfenced
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._locks[name]

    def close(self) -> None:
        """There is nothing to close."""

    def __len__(self) -> int:
        """How many names are in use."""
        return len(self._locks)


class LeasedTurns:
    """Turns across processes: a lease each, renewed while the turn lasts.

    The turn of a process that died is over when its lease runs out.
    """

    def __init__(self, leases: Leases, renew_s: float, poll_s: float) -> None:
        self._leases = leases
        self._renew_s = renew_s
        self._poll_s = poll_s
        self._local = LocalTurns()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="turns")

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Fence]:
        async with self._local.turn(name):
            term = await self._taken(name)
            keeping = asyncio.create_task(self._keep(term), name=f"turn of {name}")
            try:
                yield term.fence
            finally:
                keeping.cancel()
                # Whatever becomes of it: else it runs out by itself.
                with suppress(errors.StoreUnusable):
                    await asyncio.shield(self._run(lambda: self._leases.release(term)))

    def close(self) -> None:
        self._thread.shutdown()
        self._leases.close()

    async def _taken(self, name: str) -> Term:
        while True:
            try:
                term = await self._run(lambda: self._leases.take(name))
            except errors.StoreUnusable as error:
                raise errors.LogUnavailable(str(error)) from error
            if term is not None:
                return term
            await asyncio.sleep(self._poll_s)

    async def _keep(self, term: Term) -> None:
        while True:
            await asyncio.sleep(self._renew_s)
            try:
                await self._run(lambda: self._leases.renew(term))
            except errors.StoreUnusable as error:
                _log.warning("a turn is not renewed, trying again", reason=str(error))
            except errors.CheckpointMoved:
                _log.warning("a turn was lost", turn=term.name)
                return

    async def _run(self, work: Callable[[], _ResultT]) -> _ResultT:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
