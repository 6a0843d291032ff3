"""Long work on the projector's thread: done in steps, between which live events are folded."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import NamedTuple

from service.domain.progress import Progress
from service.eventlog.log import LogReader
from service.views.store import ViewsWriter


class Hands(NamedTuple):
    """What the projector works with. A task must not keep them beyond its end."""

    log: LogReader
    views: ViewsWriter


Task = Callable[[Hands], Iterator[Progress]]
"""A generator: each `next` is a step, of a few tens of milliseconds. It may be closed after any
step, and must leave the stores usable; the views are at rest while a step runs."""


class Run:
    """A task under way."""

    def __init__(self, task: Task, on_progress: Callable[[Progress], None]) -> None:
        """`on_progress` is called after every step, on the projector's thread: keep it short."""
        self.ended: Future[None] = Future()
        """Cancel it to stop the task after the step under way."""
        self._task = task
        self._on_progress = on_progress
        self._steps: Iterator[Progress] | None = None

    def step(self, hands: Hands) -> bool:
        """False once there is nothing more to do: `ended` says how it went."""
        if self.ended.done():
            self._close()
            return False
        try:
            if self._steps is None:
                self._steps = self._task(hands)
            progress = next(self._steps, None)
        except Exception as error:  # noqa: BLE001
            # Whatever it was, it is the asker's to hear, and no reason to stop folding.
            self.fail(error)
            return False
        if progress is not None:
            self._on_progress(progress)
            return True
        with suppress(InvalidStateError):
            self.ended.set_result(None)
        return False

    def fail(self, error: Exception) -> None:
        self._close()
        self.refuse(error)

    def refuse(self, error: Exception) -> None:
        """The same of one that another thread may be about to step, or stepping."""
        with suppress(InvalidStateError):
            self.ended.set_exception(error)

    def _close(self) -> None:
        # A generator's `finally` runs here, and not whenever it is collected.
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()
        self._steps = None
