"""WaitForStatus: an entry in an index a call, no poll and no thread.

A wait stands under its message id before the store is looked at. Every new report of that id goes
past the index, and one that may end the wait wakes it: it then looks at the store again, and what
it finds there decides. So the answer is what GetMessageStatus says at that moment.
"""

import asyncio
import math
from collections.abc import Collection, Sequence

from service import errors
from service.domain.status import Status
from service.views.feed import FeedRow
from service.views.store import EncodedMessage

_ANSWER_S = 0.000_5
"""What answering one call takes on a machine that is busy."""
_TURNS_PART = 0.15
_TURN_STEP = (math.sqrt(5) - 1) / 2
"""Its multiples fill the unit interval evenly, however many they are (the golden ratio)."""


class Wait:
    """One call that waits."""

    def __init__(
        self,
        message_id: str,
        instances: Collection[str],
        at_least: Status,
        *,
        ignore_failure: bool,
    ) -> None:
        """In whichever of these instances, or of all if there are none, has the id alone."""
        self.message_id = message_id
        self.instances = instances
        self._at_least = at_least
        self._ignore_failure = ignore_failure
        self._known: set[str] = set()
        self._woken = asyncio.Event()
        self._error: type[errors.PlugstatusError] | None = None

    def satisfied_by(self, status: int) -> bool:
        if status == Status.FAILED:
            return not self._ignore_failure
        return status >= self._at_least

    def look(self, found: Sequence[EncodedMessage]) -> None:
        """The store was asked: these have the id."""
        self._known = {message.instance for message in found}

    def hear(self, row: FeedRow) -> None:
        """Wakes up if the report can matter: by its status, or as another instance's."""
        if (not self.instances or row.instance in self.instances) and (
            self.satisfied_by(row.status) or row.instance not in self._known
        ):
            self.wake()

    def wake(self) -> None:
        self._woken.set()

    def end(self, error: type[errors.PlugstatusError]) -> None:
        self._error = error
        self.wake()

    def listen(self) -> None:
        """What wakes it from now on is behind the look at the store that follows."""
        self._woken.clear()

    async def woken(self) -> None:
        """Raises what the wait was ended with."""
        if self._error is None:
            await self._woken.wait()
        if self._error is not None:
            raise self._error


class Waits:
    """The waits of this process, by message id."""

    def __init__(self) -> None:
        self._by_id: dict[str, set[Wait]] = {}
        self._count = 0
        self._turn = 0.0

    def __len__(self) -> int:
        return self._count

    def add(self, wait: Wait) -> None:
        self._by_id.setdefault(wait.message_id, set()).add(wait)
        self._count += 1

    def discard(self, wait: Wait) -> None:
        """Once for each that was added."""
        waits = self._by_id[wait.message_id]
        waits.remove(wait)
        self._count -= 1
        if not waits:
            del self._by_id[wait.message_id]

    def wait_s(self, time_left_s: float) -> float:
        """How long one that was added may wait: what it has left, or a little less.

        Many that began together end together. Answered at one moment, the last of them would be
        too late; so they take turns in the last part of their time, the more the more they are.
        """
        turns_s = min(self._count * _ANSWER_S, max(0.0, time_left_s) * _TURNS_PART)
        self._turn = (self._turn + _TURN_STEP) % 1
        return max(0.0, time_left_s - self._turn * turns_s)

    def hear(self, rows: Sequence[FeedRow]) -> None:
        if not self._by_id:
            return
        for row in rows:
            for wait in self._by_id.get(row.message_id, ()):
                wait.hear(row)

    def wake_all(self) -> None:
        """Everything may be different: each looks again."""
        for waits in self._by_id.values():
            for wait in waits:
                wait.wake()

    def end(self, error: type[errors.PlugstatusError]) -> None:
        """End all of them with that error."""
        for waits in self._by_id.values():
            for wait in waits:
                wait.end(error)
