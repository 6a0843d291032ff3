"""The live watchers: the queue of each, and how those concerned by a change are found."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence

from service.api.packing import Frame
from service.views.feed import FeedFilter, FeedRow

_Key = tuple[str, str]
_ANYTHING: _Key = ("", "")


class LiveQueue:
    """A live watcher's frames, in order. Bounded: `overflowed` once it had to leave the hub."""

    def __init__(self, wanted: FeedFilter, frames_max: int, bytes_max: int) -> None:
        self.wanted = wanted
        self.overflowed = False
        self.bytes = 0
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._frames: deque[Frame] = deque()
        self._woken = False
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def take(self) -> Frame:
        frame = self._frames.popleft()
        self.bytes -= len(frame.encoded)
        if not self._frames and not self.overflowed:
            self._woken = False
        return frame

    def offer(self, ready: Sequence[Frame], size: int) -> bool:
        """False, and `overflowed`, if they do not all fit: then none was taken.

        `size`: of all of them, in bytes.
        """
        # An empty queue takes anything: one stretch is bounded by the page it was read in.
        if self._frames and (
            self.bytes + size > self._bytes_max or len(self._frames) + len(ready) > self._frames_max
        ):
            self.overflowed = True
        else:
            self._frames.extend(ready)
            self.bytes += size
        self._wake()
        return not self.overflowed

    def leave_behind(self) -> None:
        """What follows is not handed out: the watcher reads the store again."""
        self.overflowed = True
        self._wake()

    def interrupt(self) -> None:
        """Wake the watcher although nothing came."""
        self._wake()

    async def filled(self) -> None:
        """Wait until there is a frame, or the watcher was interrupted or left behind."""
        if not self._woken:
            # Not an Event: that is made for many who wait, and costs a tenth of a frame.
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if not self._frames and not self.overflowed:
            self._woken = False

    def _wake(self) -> None:
        self._woken = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Group:
    """Live watchers that want the same, and share its frames."""

    __slots__ = ("queues", "wanted")

    def __init__(self, wanted: FeedFilter) -> None:
        self.wanted = wanted
        self.queues: set[LiveQueue] = set()


class Audience:
    """Every live watcher, found by what it wants: a look-up or two a row, not a test a filter.

    A group stands under the values of the one field of its filter that narrows it most. That
    finds all who may want a row; what of it they really want, their filter says.
    """

    def __init__(self) -> None:
        self._everybody: set[LiveQueue] = set()
        self._groups: dict[FeedFilter, Group] = {}
        self._by_key: dict[_Key, set[Group]] = {}

    def __len__(self) -> int:
        return len(self._everybody)

    def __iter__(self) -> Iterator[LiveQueue]:
        return iter(self._everybody)

    def add(self, queue: LiveQueue) -> None:
        self._everybody.add(queue)
        group = self._groups.get(queue.wanted)
        if group is None:
            group = self._groups[queue.wanted] = Group(queue.wanted)
            for key in _keys(queue.wanted):
                self._by_key.setdefault(key, set()).add(group)
        group.queues.add(queue)

    def discard(self, queue: LiveQueue) -> None:
        """Idempotent."""
        if queue not in self._everybody:
            return
        self._everybody.discard(queue)
        group = self._groups[queue.wanted]
        group.queues.discard(queue)
        if group.queues:
            return
        del self._groups[queue.wanted]
        for key in _keys(queue.wanted):
            self._by_key[key].discard(group)
            if not self._by_key[key]:
                del self._by_key[key]

    def clear(self) -> None:
        self._everybody.clear()
        self._groups.clear()
        self._by_key.clear()

    def of(self, rows: Sequence[FeedRow]) -> set[Group]:
        """All who may want one of these rows, and perhaps others."""
        found = set(self._by_key.get(_ANYTHING, ()))
        if len(found) == len(self._groups):
            return found
        for row in rows:
            for key in (("message", row.message_id), ("phone", row.phone), ("of", row.instance)):
                found |= self._by_key.get(key, set())
        return found


def _keys(wanted: FeedFilter) -> list[_Key]:
    for field, values in (
        ("message", wanted.message_ids),
        ("phone", wanted.phones),
        ("of", wanted.instances),
    ):
        if values:
            return [(field, value) for value in values]
    return [_ANYTHING]
