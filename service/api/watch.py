"""One watcher, from Opened to Closing.

    phase         does                                                  goes on to
    OPENING       sends Opened                                          CATCHING_UP
    CATCHING_UP   reads the store a page at a time; waits where the     LIVE, through CaughtUp,
                  views are behind the cursor                           once it stands with the hub
    LIVE          sends what the hub queues                             BEHIND, when it overflowed
    BEHIND        sends FellBehind                                      CATCHING_UP
    CLOSING       sends Closing; reached from every phase               CLOSED

Progress goes out in every phase as soon as it is due, at the point up to which everything was
considered. `point` only ever moves forward, and each frame names where it stands, so whatever
frame a client saw last, its cursor resumes behind exactly what was sent. The hub's docstring
holds the argument for the switch between CATCHING_UP and LIVE.
"""

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, assert_never

import msgspec

from service import errors
from service.api.calls import Call
from service.api.fields import Fields
from service.api.hub import Ending, Hub
from service.api.live import LiveQueue
from service.api.packing import packed
from service.api.starts import Starts
from service.clock import Clock
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.events import END_OF_CALLBACK, Mark, Place, Point, Position, end_of
from service.domain.status import Status
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.telemetry import Metrics
from service.views.store import FeedFilter, ViewsReader
from service.wire import frames
from service.wire.cursor import CursorCodec

_CLOSING = {
    Ending.SHUTTING_DOWN: pb.CLOSING_REASON_SHUTTING_DOWN,
    Ending.VIEWS_REBUILT: pb.CLOSING_REASON_VIEWS_REBUILT,
}

Write = Callable[[bytes], Awaitable[None]]
"""Hands one encoded WatchStatusesResponse to the transport; returns once it was accepted."""


class Phase(enum.Enum):
    OPENING = enum.auto()
    CATCHING_UP = enum.auto()
    LIVE = enum.auto()
    BEHIND = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


_SHOWN_PHASES = {
    Phase.CATCHING_UP: pb.WATCHER_PHASE_CATCHING_UP,
    Phase.LIVE: pb.WATCHER_PHASE_LIVE,
    Phase.BEHIND: pb.WATCHER_PHASE_BEHIND,
}


class Start(enum.Enum):
    CURSOR = enum.auto()
    TIME = enum.auto()
    NOW = enum.auto()


class Plan(msgspec.Struct, frozen=True):
    """A watch request, understood."""

    start: Start
    cursor: str
    from_time_us: int
    wanted: FeedFilter
    progress_interval_s: float


def planned(request: pb.WatchStatusesRequest, limits: Limits) -> Plan:
    """Raises FieldsInvalid for what breaks a bound, NotOffered for a snapshot."""
    fields = Fields()
    given = request.WhichOneof("start")
    if given is not None and given != "from_time" and not getattr(request, given):
        fields.refuse(given, "is set but empty: leave the start out to begin now")
    from_time_us = fields.time_us("from_time", request.from_time) if given == "from_time" else 0
    interval_s = limits.progress_interval_s
    if request.HasField("progress_interval"):
        interval_s = fields.progress_interval_s(
            "progress_interval", request.progress_interval, limits
        )
    _check_filter(fields, request.filter, limits)
    fields.done()
    if given == "snapshot":
        raise errors.NotOffered("watching from a snapshot")
    return Plan(
        start={"cursor": Start.CURSOR, "from_time": Start.TIME}.get(given or "", Start.NOW),
        cursor=request.cursor,
        from_time_us=from_time_us,
        wanted=FeedFilter(
            instances=frozenset(request.filter.instances),
            message_ids=frozenset(request.filter.message_ids),
            phones=frozenset(request.filter.phones),
            statuses=frozenset(Status(status) for status in request.filter.statuses),
            unchanged=request.include_unchanged,
        ),
        progress_interval_s=interval_s,
    )


def _check_filter(fields: Fields, wanted: pb.WatchFilter, limits: Limits) -> None:
    if fields.at_most("filter.instances", wanted.instances, limits.filter_values_max):
        for place, instance in enumerate(wanted.instances):
            fields.instance(f"filter.instances[{place}]", instance, required=True)
    if fields.at_most("filter.message_ids", wanted.message_ids, limits.filter_values_max):
        for place, message_id in enumerate(wanted.message_ids):
            fields.message_id(f"filter.message_ids[{place}]", message_id)
    if fields.at_most("filter.phones", wanted.phones, limits.filter_values_max):
        for place, phone in enumerate(wanted.phones):
            fields.phone(f"filter.phones[{place}]", phone)
    if fields.at_most("filter.statuses", wanted.statuses, limits.filter_values_max):
        for place, status in enumerate(wanted.statuses):
            fields.status(f"filter.statuses[{place}]", status)


class WatcherState(NamedTuple):
    """A watcher as GetServiceStatus shows it."""

    start_time_us: int
    peer: str
    caller: str
    filter: str
    phase: pb.WatcherPhase.ValueType
    point: Point
    """Everything up to here was sent or passed over."""
    queued_bytes: int


def in_short(wanted: FeedFilter) -> str:
    """A filter for people: values are counted, not shown. Empty for no filter."""
    counted = [
        f"{len(values)} {name}"
        for name, values in (
            ("instances", wanted.instances),
            ("message ids", wanted.message_ids),
            ("phones", wanted.phones),
            ("statuses", wanted.statuses),
        )
        if values
    ]
    return ", ".join([*counted, *(["unchanged too"] if wanted.unchanged else [])])


class Watchers:
    """Every watcher of this process; what they share, and how many there may be."""

    def __init__(
        self,
        *,
        hub: Hub,
        views: ReaderPool[ViewsReader],
        starts: Starts,
        cursors: CursorCodec,
        clock: Clock,
        limits: Limits,
        metrics: Metrics,
        watchers_max: int,
        stall_s: float,
    ) -> None:
        self.hub = hub
        self.views = views
        self.starts = starts
        self.cursors = cursors
        self.clock = clock
        self.limits = limits
        self.metrics = metrics
        self.stall_s = stall_s
        self._watchers_max = watchers_max
        self._open: dict[_Watcher, None] = {}

    def states(self) -> list[WatcherState]:
        """Of every open watcher, longest open first."""
        return [watcher.state() for watcher in self._open]

    async def watch(self, request: pb.WatchStatusesRequest, call: Call, write: Write) -> None:
        """Serve one watcher until it is cancelled, or ended by Closing.

        Raises FieldsInvalid, NotOffered, CursorError, TooManyWatchers, LogUnavailable before
        Opened; WatcherStalled, ViewsUnavailable afterwards too.
        """
        plan = planned(request, self.limits)
        if len(self._open) >= self._watchers_max:
            raise errors.TooManyWatchers("watchers_max", self._watchers_max)
        watcher = _Watcher(self, plan, call, write)
        self._open[watcher] = None
        self.metrics.watchers.inc()
        try:
            await watcher.run()
        finally:
            watcher.leave()
            del self._open[watcher]
            self.metrics.watchers.dec()


class _Watcher:
    def __init__(self, shared: Watchers, plan: Plan, call: Call, write: Write) -> None:
        self._shared = shared
        self._hub = shared.hub
        self._limits = shared.limits
        self._encode = shared.cursors.at
        self._plan = plan
        self._write = write
        self._ending = shared.hub.ending
        self._generation = shared.hub.generation
        self._queue = self._new_queue()
        self._call = call
        self._start_time_us = shared.clock.now_us()
        self._phase = Phase.OPENING
        self._due_s = 0.0
        self._point = Point(Place(Position(0)), 0)
        self._caught_up_at = Place(Position(0))
        """CaughtUp goes out once everything up to here was sent."""

    async def run(self) -> None:
        while self._phase is not Phase.CLOSED:
            if self._ending.done() and self._phase is not Phase.OPENING:
                self._phase = Phase.CLOSING
            self._phase = await self._step(self._phase)

    def leave(self) -> None:
        self._hub.leave(self._queue)

    def state(self) -> WatcherState:
        return WatcherState(
            start_time_us=self._start_time_us,
            peer=self._call.peer,
            caller=self._call.caller,
            filter=in_short(self._plan.wanted),
            phase=_SHOWN_PHASES.get(self._phase, pb.WATCHER_PHASE_UNSPECIFIED),
            point=self._point,
            queued_bytes=self._queue.bytes,
        )

    async def _step(self, phase: Phase) -> Phase:
        match phase:
            case Phase.OPENING:
                return await self._open()
            case Phase.CATCHING_UP:
                return await self._catch_up()
            case Phase.LIVE:
                return await self._live()
            case Phase.BEHIND:
                return await self._fall_behind()
            case Phase.CLOSING | Phase.CLOSED:
                return await self._close()
            case _:
                assert_never(phase)

    async def _open(self) -> Phase:
        head = await self._shared.starts.head()
        self._caught_up_at = Place(head.position)
        match self._plan.start:
            case Start.CURSOR:
                self._point = await self._shared.starts.at_cursor(self._plan.cursor)
            case Start.TIME:
                found = await self._shared.starts.at_time(self._plan.from_time_us)
                self._point = found or end_of(head)
            case Start.NOW:
                self._point = end_of(head)
        await self._send(frames.opened(self._encode(self._point), self._generation))
        self._postpone_progress()
        return Phase.CATCHING_UP

    async def _catch_up(self) -> Phase:
        """One page, one wait, or the switch to live."""
        place, hub_place = self._point.place, self._hub.place
        if place < hub_place:
            await self._send_page()
        elif place > hub_place or place < self._caught_up_at:
            await self._wait_for_views(max(place, self._caught_up_at).position)
        else:
            # The hub's step 3: no await between the comparison above and this.
            self._hub.join(self._queue)
            await self._send(frames.caught_up(self._encode(self._point)))
            return Phase.LIVE
        await self._report_progress(self._point)
        return Phase.CATCHING_UP

    async def _send_page(self) -> None:
        limits, after = self._limits, self._point.place
        until = Mark(self._hub.place.position, self._hub.point.receive_time_us)
        page = await self._shared.views.run(
            lambda views: views.feed(
                after, until, self._plan.wanted, limits.catch_up_rows_max, limits.frame_bytes_max
            )
        )
        if page.generation != self._generation:
            # The stream ends with the generation it opened on; the hub is about to say so.
            await asyncio.wait({self._ending})
            return
        for frame in packed(page, self._plan.wanted, self._shared.cursors, limits):
            await self._send(frame.encoded)
            self._point = frame.through
            await self._report_progress(self._point)
        self._point = page.end

    async def _wait_for_views(self, position: Position) -> None:
        """Until the views get there, progress is due, or the stream has to end."""
        reached = asyncio.ensure_future(self._hub.reached(position, self._due_in_s()))
        try:
            either: set[asyncio.Future[Any]] = {reached, self._ending}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reached.cancel()
            await asyncio.gather(reached, return_exceptions=True)

    async def _live(self) -> Phase:
        """One frame, or one wait."""
        if len(self._queue):
            frame = self._queue.take()
            await self._send(frame.encoded)
            self._point = frame.through
            await self._report_progress(self._point)
            return Phase.LIVE
        if self._queue.overflowed:
            return Phase.BEHIND
        try:
            async with asyncio.timeout(self._due_in_s()):
                await self._queue.filled()
        except TimeoutError:
            pass
        nothing_waits = not len(self._queue) and not self._queue.overflowed
        if nothing_waits and not self._ending.done():
            # All the hub has handed out was considered. After an ending its point may already be
            # another generation's.
            self._point = self._hub.point
            await self._report_progress(self._point)
        return Phase.LIVE

    async def _fall_behind(self) -> Phase:
        self._queue = self._new_queue()
        self._caught_up_at = self._hub.place
        await self._send(frames.fell_behind(self._encode(self._point)))
        return Phase.CATCHING_UP

    async def _close(self) -> Phase:
        self.leave()
        reason = _CLOSING[self._ending.result()]
        await self._send(frames.closing(self._encode(self._point), reason))
        return Phase.CLOSED

    async def _report_progress(self, point: Point) -> None:
        # Progress names the end of a callback, so in its second half the interval takes the first
        # one that comes. Only inside a callback that takes longer to send does it name a report.
        at_an_end = point.place.index == END_OF_CALLBACK
        due_in_s = self._due_in_s()
        if due_in_s <= 0 or (at_an_end and due_in_s <= self._plan.progress_interval_s / 2):
            await self._send(frames.progress(self._encode(point)))
            self._postpone_progress()

    def _postpone_progress(self) -> None:
        self._due_s = self._shared.clock.monotonic_s() + self._plan.progress_interval_s

    def _due_in_s(self) -> float:
        return max(0.0, self._due_s - self._shared.clock.monotonic_s())

    async def _send(self, encoded: bytes) -> None:
        try:
            # Not wait_for: on Python 3.11 it can swallow the caller's cancellation.
            async with asyncio.timeout(self._shared.stall_s):
                await self._write(encoded)
        except TimeoutError:
            raise errors.WatcherStalled(self._shared.stall_s) from None

    def _new_queue(self) -> LiveQueue:
        return LiveQueue(
            self._plan.wanted,
            self._limits.watcher_queue_frames_max,
            self._limits.watcher_queue_bytes_max,
        )
