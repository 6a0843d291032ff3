"""Appending several events at once, as another process has it done."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from service.domain.events import NewEvent, Position
from service.eventlog.group_commit import GroupCommit


def all_appended(
    appender: GroupCommit, callbacks: Sequence[NewEvent]
) -> "asyncio.Future[Position | None]":
    """A future of what is told."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Position | None] = loop.create_future()

    def told(first: Position | None) -> None:
        with suppress(RuntimeError):
            # The loop may be gone.
            loop.call_soon_threadsafe(outcome.set_result, first)

    appender.append_all(callbacks, told)
    return outcome
