"""The projector's long tasks, as the rest of the service asks for them."""

import asyncio
from collections.abc import Callable, Iterator

from service import errors
from service.clock import Clock
from service.config import Limits
from service.database.database import Fence
from service.domain.events import Position
from service.domain.progress import Progress
from service.projector.rebuild import Rebuild, cleared, tidied
from service.projector.retention import Cut, Retention
from service.projector.runner import Projector
from service.projector.task import Hands, Task
from service.wire.cursor import CursorCodec

Tell = Callable[[Progress], None]
"""Called on the projector's thread."""


class ProjectorTasks:
    """Each method raises RetryLater if a store cannot be used or the projector stops.

    A caller that leaves stops its task after the step under way.
    """

    def __init__(
        self, projector: Projector, write: Cut, cursors: CursorCodec, clock: Clock, limits: Limits
    ) -> None:
        """`write` runs something with the log's one writer, from the projector's thread."""
        self._projector = projector
        self._write = write
        self._cursors = cursors
        self._clock = clock
        self._limits = limits

    async def rebuild(self, *, check: bool, tell: Tell) -> None:
        """Fold the log anew; then switch to the result, or only compare it with the live views."""
        await self._perform(Rebuild(self._cursors, self._clock, self._limits, check=check), tell)

    async def retain(
        self, keep_from: Position, purge_span_us: int, fence: Fence, tell: Tell
    ) -> None:
        """Remove all events before a position that the views have passed."""
        retention = Retention(
            keep_from, self._write, self._cursors, self._limits, fence, purge_span_us
        )

        def retained(hands: Hands) -> Iterator[Progress]:
            removed = False
            for progress in retention(hands):
                removed = True
                yield progress
            if removed:
                # A rebuild that was left unfinished still has what was removed.
                yield from tidied(hands, self._limits.clear_rows_max)

        await self._perform(retained, tell)

    async def clear_spare(self, tell: Tell) -> None:
        """Empty what a rebuild left, unfinished or replaced."""
        await self._perform(
            lambda hands: cleared(hands.views.spare(), self._limits.clear_rows_max), tell
        )

    async def rewrite(self, tell: Tell) -> None:
        """Write the views' file anew. Nothing is folded meanwhile."""

        def rewritten(hands: Hands) -> Iterator[Progress]:
            yield Progress(0, 0, "", "writing the views' file anew")
            hands.views.rewrite()

        await self._perform(rewritten, tell)

    async def wipe(self, tell: Tell) -> None:
        """Empty what lies beside the views' file."""

        def wiped(hands: Hands) -> Iterator[Progress]:
            for _ in range(self._limits.wipe_tries_max):
                if hands.views.wipe():
                    return
                yield Progress(0, 0, "", "wiping the files")
            raise errors.ViewsUnavailable("a reader is in the way of wiping the views' file")

        await self._perform(wiped, tell)

    async def _perform(self, task: Task, tell: Tell) -> None:
        await asyncio.wrap_future(self._projector.perform(task, tell))
