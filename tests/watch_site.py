"""Watchers and waits over a real core in this process; limits and transports are the test's."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from service import config
from service.api.access import LOCAL
from service.api.calls import Call
from service.api.deadlines import Deadlines
from service.api.starts import Starts
from service.api.status import MessageStatuses
from service.api.watch import Shared
from service.api.watchers import Watchers
from service.clock import Clock, SystemClock
from service.config import Limits
from service.core import Core
from service.domain.events import EventKind, NewEvent
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.telemetry import Metrics
from tests.call_context import CallContext
from tests.calls import callback
from tests.stores import settings_of

DEADLINE_S = 20.0
"""Far more than any of it takes; a test that waits longer has found a hang."""

CALL = Call(LOCAL, CallContext())


async def _at_once(_: pb.WatchStatusesResponse) -> None:
    """A transport that takes everything."""


class Watching:
    """One watcher, served by a task; what it was sent, frame by frame."""

    def __init__(
        self,
        watchers: Watchers,
        request: pb.WatchStatusesRequest,
        then: Callable[[pb.WatchStatusesResponse], Awaitable[None]],
    ) -> None:
        self.responses: list[pb.WatchStatusesResponse] = []
        self._then = then
        self._more = asyncio.Condition()
        self.task = asyncio.create_task(watchers.watch(request, CALL, self._accept))

    async def until(self, kind: str) -> pb.WatchStatusesResponse:
        """The first frame of that kind. Raises what the watcher ended with before it came."""
        await self._comes(lambda: kind in self.kinds())
        return self.responses[self.kinds().index(kind)]

    async def until_changes(self, count: int) -> None:
        """Until so many changes have come in all. Raises as `until` does."""
        await self._comes(lambda: len(self.changes()) >= count)

    async def until_frames(self, count: int) -> None:
        """Until so many frames have come in all. Raises as `until` does."""
        await self._comes(lambda: len(self.responses) >= count)

    async def until_cursor(self, cursor: str) -> None:
        """Until a frame stands there. Raises as `until` does."""
        await self._comes(lambda: any(one.cursor == cursor for one in self.responses))

    def kinds(self) -> list[str]:
        return [str(response.WhichOneof("frame")) for response in self.responses]

    def changes(self) -> list[pb.StatusChange]:
        return [change for response in self.responses for change in response.changes.changes]

    def ids(self) -> list[str]:
        return [change.message.message_id for change in self.changes()]

    async def leave(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def _accept(self, encoded: bytes) -> None:
        response = pb.WatchStatusesResponse.FromString(encoded)
        self.responses.append(response)
        async with self._more:
            self._more.notify_all()
        await self._then(response)

    async def _comes(self, there: Callable[[], bool]) -> None:
        waiting = asyncio.create_task(self._until(there))
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            await self.task
            raise AssertionError(f"the watcher ended before it came: {self.kinds()}")
        await waiting

    async def _until(self, there: Callable[[], bool]) -> None:
        async with self._more:
            await self._more.wait_for(there)


class WatchSite:
    """A core with all that watches it."""

    def __init__(self, core: Core, clock: Clock, limits: Limits) -> None:
        self.core = core
        self._clock = clock
        self.metrics = Metrics()
        starts = Starts(core.log, core.cursors)
        self.shared = Shared(
            hub=core.hub,
            views=core.pages,
            starts=starts,
            cursors=core.cursors,
            clock=SystemClock(),
            limits=limits,
            stalls=Deadlines(DEADLINE_S, TimeoutError),
        )
        self.watchers = Watchers(self.shared, self.metrics, watchers_max=1_000)
        self.statuses = MessageStatuses(core.views, core.hub, starts, limits, self.metrics)

    def watch(
        self,
        request: pb.WatchStatusesRequest,
        then: Callable[[pb.WatchStatusesResponse], Awaitable[None]] = _at_once,
    ) -> Watching:
        """`then` is awaited behind each frame, as a slow transport is."""
        return Watching(self.watchers, request, then)

    async def all_from(self, request: pb.WatchStatusesRequest) -> Watching:
        """A watcher that has caught up, and left."""
        watching = self.watch(request)
        await watching.until("caught_up")
        await watching.leave()
        return watching

    async def append(self, body: dict[str, Any], instance: str = "acme") -> str:
        """Record a callback; the cursor of its end."""
        content = json.dumps(body).encode()
        event = NewEvent(instance, self._clock.now_us(), EventKind.CALLBACK, content)
        position = await self.core.appender.append(event)
        mark = await self.core.log.run(lambda log: log.mark(position))
        assert mark is not None
        return self.core.cursors.end_of(mark)

    async def post(self, message_id: str, status: str = "SENT", **fields: Any) -> str:
        """Record a callback about a message, and wait until the hub has handed it out."""
        instance = fields.pop("instance", "acme")
        cursor = await self.append(callback(message_id, status, **fields), instance)
        await self.core.hub.reached(self.core.cursors.decode(cursor).place.position, DEADLINE_S)
        return cursor

    async def get(
        self, message_id: str, instance: str = "", min_cursor: str = ""
    ) -> pb.MessageStatus:
        request = pb.GetMessageStatusRequest(
            message_id=message_id, instance=instance, min_cursor=min_cursor
        )
        return pb.GetMessageStatusResponse.FromString(
            await self.statuses.get(request, CALL)
        ).message


@asynccontextmanager
async def watch_site(
    data_dir: Path, limits: Limits | None = None, clock: Clock | None = None
) -> AsyncIterator[WatchSite]:
    """Stores in that folder, followed until the context ends. `clock` dates what is recorded."""
    loaded = config.load(settings_of(data_dir))
    clock = clock or SystemClock()
    async with asyncio.timeout(DEADLINE_S), Core(loaded, clock, Metrics()) as core:
        yield WatchSite(core, clock, limits or Limits())
