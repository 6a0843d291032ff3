"""All watchers of this process: how many there may be, what they share, what each is doing."""

from typing import NamedTuple

from service import errors
from service.api.access import Caller
from service.api.calls import Call, Write
from service.api.lanes import Lane, Limit
from service.api.plan import in_short, planned
from service.api.watch import STEPS, Shared, Watcher
from service.domain.events import Point
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.telemetry import Metrics


class WatcherState(NamedTuple):
    """A watcher as GetServiceStatus shows it."""

    start_time_us: int
    peer: str
    caller: str
    filter: str
    phase: pb.WatcherPhase.ValueType
    point: Point
    """Everything up to here was sent or passed over; in a snapshot: what it is as of."""
    queued_bytes: int


class Watchers:
    def __init__(self, shared: Shared, metrics: Metrics, watchers_max: int) -> None:
        self._shared = shared
        self._metrics = metrics
        self._lane = Lane(
            Limit("watchers_max", watchers_max),
            Limit("watchers_of_token_max", shared.limits.watchers_of_token_max),
            errors.TooManyWatchers,
        )
        self._open: dict[Watcher, None] = {}

    def states(self, caller: Caller) -> list[WatcherState]:
        """Of every open watcher that watches nothing the caller may not see, longest open first."""
        return [
            _state(watcher)
            for watcher in self._open
            if not caller.instances
            or (watcher.plan.wanted.instances and watcher.plan.wanted.instances <= caller.instances)
        ]

    async def watch(self, request: pb.WatchStatusesRequest, call: Call, write: Write) -> None:
        """Serve one watcher until it is cancelled, or ended by Closing.

        Raises FieldsInvalid, InstanceDenied, CursorError, LimitExceeded (TooManyWatchers),
        LogUnavailable before Opened; CursorExpired, WatcherStalled, ViewsUnavailable afterwards
        too.
        """
        plan = planned(request, call.caller, self._shared.limits)
        with self._lane.place(call.caller):
            await self._serve(Watcher(self._shared, plan, call, write))

    async def _serve(self, watcher: Watcher) -> None:
        self._open[watcher] = None
        self._metrics.watchers.inc()
        try:
            await watcher.run()
        finally:
            watcher.leave()
            del self._open[watcher]
            self._metrics.watchers.dec()


def _state(watcher: Watcher) -> WatcherState:
    return WatcherState(
        start_time_us=watcher.start_time_us,
        peer=watcher.call.peer,
        caller=watcher.call.caller.name,
        filter=in_short(watcher.plan.wanted),
        phase=STEPS[watcher.phase].shown,
        point=watcher.point,
        queued_bytes=watcher.queued_bytes,
    )
