"""GetServiceStatus: where this process and its stores stand."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from service import __version__
from service.api.calls import Call
from service.api.waits import Waits
from service.api.watchers import Watchers, WatcherState
from service.clock import US_PER_S, Clock
from service.config import Config
from service.database.readers import ReaderPool
from service.database.schema import StoreState
from service.domain.events import Mark
from service.domain.instance import Instance
from service.eventlog.log import LogReader, Removals
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.views.store import Checkpoint, ViewsReader
from service.wire import encode

_LISTED_MAX = 1_000
"""Watchers, and instances, in one answer."""


class Warned(Protocol):
    """Something that is missing."""

    @property
    def kind(self) -> int:
        """As the proto numbers it."""
        ...

    @property
    def since_us(self) -> int: ...

    @property
    def instance(self) -> str: ...

    @property
    def count(self) -> int: ...


class ServiceStatus:
    def __init__(
        self,
        config: Config,
        clock: Clock,
        log: ReaderPool[LogReader],
        views: ReaderPool[ViewsReader],
        watchers: Watchers,
        waits: Waits,
        stores: Sequence[StoreState],
        missing: Callable[[], Awaitable[Sequence[Warned]]],
    ) -> None:
        """`missing` raises what `get` raises."""
        self._missing = missing
        self._config = config
        self._roles = sorted(config.roles)
        self._clock = clock
        self._log = log
        self._views = views
        self._watchers = watchers
        self._waits = waits
        self._stores = stores
        self._start_time_us = clock.now_us()

    async def get(
        self, _request: pb.GetServiceStatusRequest, call: Call
    ) -> pb.GetServiceStatusResponse:
        """To a token that is limited to instances nothing of the others is told.

        Raises LogUnavailable, ViewsUnavailable.
        """
        caller = call.caller
        checkpoint, instances = await self._views.run(
            lambda views: (views.checkpoint(), views.instances("", _LISTED_MAX, caller.instances))
        )
        identity, head, lag_us, removals = await self._log.run(
            lambda log: (*self._lag(log, checkpoint), log.removals())
        )
        watchers = self._watchers.states(caller)
        warnings = [
            one
            for one in await self._missing()
            if not caller.instances or one.instance in caller.instances
        ]
        return pb.GetServiceStatusResponse(
            version=__version__,
            roles=self._roles,
            start_time=encode.timestamp(self._start_time_us),
            log_id=identity,
            log_head_position=head.position,
            projector_position=checkpoint.mark.position,
            lag_events=max(0, head.position - checkpoint.mark.position),
            lag_duration=_duration(lag_us),
            views_generation=checkpoint.generation,
            watchers=[self._watcher(state, head) for state in watchers[:_LISTED_MAX]],
            watcher_count=len(watchers),
            watchers_max=self._config.watchers_max,
            watcher_queue_bytes_max=self._config.limits.watcher_queue_bytes_max,
            wait_count=0 if caller.instances else len(self._waits),
            instances=[_instance(instance) for instance in instances],
            stores=[
                pb.StoreStatus(
                    name=store.name,
                    engine=store.engine,
                    engine_version=store.engine_version,
                    schema_revision=store.revision,
                )
                for store in self._stores
            ],
            warnings=[_warning(one) for one in warnings[: self._config.limits.warnings_max]],
            removals=None if caller.instances else _removals(removals),
        )

    def _lag(self, log: LogReader, checkpoint: Checkpoint) -> tuple[str, Mark, int]:
        """The log's identity and head, and the age of the oldest event not folded in."""
        waiting = log.read(checkpoint.mark.position, events_max=1, bytes_max=1)
        lag_us = max(0, self._clock.now_us() - waiting[0].receive_time_us) if waiting else 0
        return log.identity, log.head(), lag_us

    def _watcher(self, state: WatcherState, head: Mark) -> pb.WatcherStatus:
        # An empty log has nothing to be behind of, and its origin no age.
        behind = max(0, head.position - state.point.place.position)
        since_us = self._clock.now_us() - state.point.receive_time_us
        return pb.WatcherStatus(
            start_time=encode.timestamp(state.start_time_us),
            peer=state.peer,
            caller=state.caller,
            filter=state.filter,
            phase=state.phase,
            lag_events=behind,
            lag_duration=_duration(
                max(0, since_us) if behind and state.point.receive_time_us else 0
            ),
            queued_bytes=state.queued_bytes,
        )


def _warning(one: Warned) -> pb.ServiceWarning:
    since = encode.timestamp(one.since_us) if one.since_us else None
    when = f" since {since.ToDatetime():%Y-%m-%d %H:%M}Z" if since else ""
    texts = {
        pb.WARNING_KIND_INSTANCE_SILENT: f"{one.instance} used to talk, and was not heard of{when}",
        pb.WARNING_KIND_MESSAGES_STUCK: (
            f"{one.count} message(s) were sent, and not heard of again"
        ),
        pb.WARNING_KIND_WEBHOOK_UNCONFIRMED: (
            f"PlugChat took {one.instance}'s webhook, and no callback came{when}"
        ),
        pb.WARNING_KIND_VIEWS_BEHIND: f"the views are {one.count} events behind{when}",
    }
    kind = pb.WarningKind.ValueType(one.kind)
    return pb.ServiceWarning(
        kind=kind, text=texts[kind], instance=one.instance, count=one.count, since_time=since
    )


def _removals(removals: Removals) -> pb.RemovalStatus:
    return pb.RemovalStatus(
        erased_event_count=removals.erased_event_count,
        expired_event_count=removals.expired_event_count,
        last_erasure_time=_time(removals.last_erasure_time_us),
        oldest_event_time=_time(removals.oldest_event_time_us),
    )


def _time(time_us: int) -> Timestamp | None:
    return encode.timestamp(time_us) if time_us else None


def _instance(instance: Instance) -> pb.InstanceStatus:
    return pb.InstanceStatus(
        instance=instance.instance,
        last_callback_time=encode.timestamp(instance.last_callback_time_us),
        connection_state=encode.connection_state(instance.connection_state),
        connection_time=(
            encode.timestamp(instance.connection_time_us) if instance.connection_time_us else None
        ),
    )


def _duration(time_us: int) -> Duration:
    seconds, fraction_us = divmod(time_us, US_PER_S)
    return Duration(seconds=seconds, nanos=fraction_us * 1_000)
