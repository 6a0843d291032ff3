"""One at a time: whoever has the turn of a name keeps the others of that name waiting."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol


class Turns(Protocol):
    """Turns by name. Another implementation may hold across processes."""

    def turn(self, name: str) -> AbstractAsyncContextManager[None]:
        """Wait for the turn, in order of asking, and keep it inside the context.

        Cancelled while it waits, it leaves the queue. Bound the wait with `asyncio.timeout`.
        """
        ...


class LocalTurns:
    """Turns within this process. Remembers only the names that are in use."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._users[name] = self._users.get(name, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._locks[name]

    def __len__(self) -> int:
        """How many names are in use."""
        return len(self._locks)
