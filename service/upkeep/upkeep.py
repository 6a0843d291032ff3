"""The long tasks, one at a time, and retention by the clock."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

import structlog

from service import errors
from service.clock import US_PER_S
from service.database.database import Fence
from service.database.turns import Turns
from service.domain.erasure import Subject
from service.domain.events import Position
from service.domain.progress import Progress
from service.eventlog.log import LogReader
from service.upkeep.erasure import forget
from service.upkeep.parts import Parts, Tell, ViewsTasks

_log = structlog.get_logger(__name__)
_US_PER_DAY = 86_400 * US_PER_S
_PURGE_PART = 0.05
"""Of the time that events are kept: so much longer the last of them may stay on the disk."""

_Begin = Callable[[Tell, Fence], Awaitable[None]]


class Tasks(ViewsTasks, Protocol):
    """What the projector does in steps."""

    async def rebuild(self, *, check: bool, tell: Tell) -> None: ...

    async def retain(
        self, keep_from: Position, purge_span_us: int, fence: Fence, tell: Tell
    ) -> None: ...


class Upkeep:
    """Every task waits for the one before it. A caller that leaves ends its task."""

    def __init__(
        self,
        parts: Parts,
        tasks: Tasks,
        handed_out: Callable[[], Position],
        retention_days: float | None,
        turns: Turns,
    ) -> None:
        """`handed_out` says how far the watchers have been served: retention stays behind it."""
        self._parts = parts
        self._tasks = tasks
        self._handed_out = handed_out
        self._retention_days = retention_days
        self._turns = turns
        self._under_way: set[asyncio.Task[None]] = set()
        self._draining = False

    def rebuild(self, *, check: bool) -> AsyncGenerator[Progress]:
        """Raises RetryLater if a store cannot be used, or in a drain."""
        return self._followed(lambda tell, _: self._tasks.rebuild(check=check, tell=tell))

    def forget(self, subject: Subject, *, dry_run: bool) -> AsyncGenerator[Progress]:
        """Raises RetryLater if a store cannot be used, or in a drain."""
        return self._followed(
            lambda tell, fence: forget(self._parts, subject, fence, dry_run=dry_run, tell=tell)
        )

    async def retain_by_the_clock(self, leads: Callable[[], bool]) -> None:
        """Remove what is too old, now and again while this process leads, until cancelled."""
        while self._retention_days is not None:
            try:
                if leads():
                    await self.retain(self._retention_days)
            except errors.ShuttingDown:
                return
            except Exception:  # noqa: BLE001
                # A defect too must not end it: nobody would hear that nothing is removed any more.
                _log.exception("retention failed, trying again later")
            await asyncio.sleep(self._parts.limits.retention_pause_s)

    async def retain(self, days: float) -> None:
        """Remove every event received longer ago, as far as the views and watchers are."""
        too_old_us = int(self._parts.clock.now_us() - days * _US_PER_DAY)
        handed_out = self._handed_out()
        keep_from = await self._parts.log.run(lambda log: _first_kept(log, too_old_us))
        first_kept = min(keep_from, handed_out)
        span_us = int(min(days * _PURGE_PART, 1.0) * _US_PER_DAY)
        steps = self._followed(
            lambda tell, fence: self._tasks.retain(first_kept, span_us, fence, tell)
        )
        async for _ in steps:
            pass

    def drain(self) -> None:
        """End every task with ShuttingDown; what they have done stays done."""
        self._draining = True
        for task in self._under_way:
            task.cancel()

    async def _followed(self, begin: _Begin) -> AsyncGenerator[Progress]:
        """The task's newest progress now and again, and its last one. Closing it ends the task."""
        if self._draining:
            raise errors.ShuttingDown
        newest: deque[Progress] = deque(maxlen=1)
        task = asyncio.create_task(self._alone(begin, newest.append))
        self._under_way.add(task)
        try:
            running = True
            while running:
                pause_s = self._parts.limits.task_progress_s
                running = bool((await asyncio.wait({task}, timeout=pause_s))[1])
                if newest:
                    yield newest.pop()
            if task.cancelled():
                raise errors.ShuttingDown
            await task
        finally:
            task.cancel()
            self._under_way.discard(task)

    async def _alone(self, begin: _Begin, tell: Tell) -> None:
        tell(Progress(0, 0, "", "waiting for another task to end"))
        async with self._turns.turn("upkeep") as fence:
            await begin(tell, fence)


def _first_kept(log: LogReader, too_old_us: int) -> Position:
    return log.received_from(too_old_us) or log.head().position
