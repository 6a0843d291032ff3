"""What the tasks of upkeep work with."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from service.clock import Clock
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.events import Position
from service.domain.progress import Progress
from service.eventlog.group_commit import GroupCommit
from service.eventlog.log import LogReader
from service.views.store import ViewsReader

Tell = Callable[[Progress], None]
"""Called with every sign of progress, from any thread."""


class ViewsTasks(Protocol):
    """What the projector does for an erasure."""

    async def clear_spare(self, tell: Tell) -> None: ...

    async def rewrite(self, tell: Tell) -> None: ...

    async def wipe(self, tell: Tell) -> None: ...


class Parts(NamedTuple):
    """What an erasure works with."""

    appender: GroupCommit
    log: ReaderPool[LogReader]
    views: ReaderPool[ViewsReader]
    views_reached: Callable[[Position, float], Awaitable[None]]
    """Waits until the views stand there; raises ViewsBehind after so many seconds."""
    tasks: ViewsTasks
    clock: Clock
    limits: Limits
