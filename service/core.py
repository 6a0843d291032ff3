"""The stores and what follows them, without anything that listens.

    lock ─ schemas ─ readers ─ projector ─ appender ─ hub ─ upkeep

`app` puts the API and the ingress around it; the commands that work on the stores themselves,
while nobody serves them, take it as it is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from service import errors, interpreter
from service.api.hub import Hub
from service.clock import US_PER_S, Clock
from service.config import Config
from service.database.readers import ReaderPool
from service.database.schema import StoreState
from service.domain.events import Point
from service.eventlog.group_commit import GroupCommit
from service.eventlog.log import LogReader, LogWriter
from service.eventlog.spool import Spool, filling_of
from service.projector.runner import Projector
from service.projector.tasks import ProjectorTasks
from service.spools import SPOOL_FILE
from service.stores import Stores
from service.telemetry import Metrics
from service.upkeep.parts import Parts
from service.upkeep.scrub import Scrub
from service.upkeep.silence import Silence
from service.upkeep.upkeep import Upkeep
from service.views.store import ViewsReader
from service.wire.cursor import CursorCodec

_log = structlog.get_logger(__name__)


class Core:
    """As an asynchronous context manager: starts on enter, ends in reverse on exit.

    Raises OperatorError if it cannot start; then everything begun is closed again.
    """

    def __init__(self, config: Config, clock: Clock, metrics: Metrics) -> None:
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._closers = AsyncExitStack()
        self.spool: Spool | None = None
        """What keeps callbacks while the log's database is away; None where nothing does."""
        self.stores: list[StoreState] = []
        """What the stores run on."""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._closers.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drain()
        await self._closers.aclose()

    @property
    def leads(self) -> bool:
        """It is this process that projects."""
        return self._projector.leads

    def drain(self) -> None:
        """End the watchers and the long tasks. Idempotent."""
        self.upkeep.drain()
        self.hub.drain()

    async def not_ready(self) -> list[str]:
        """What keeps the roles' work from being done, each in a few words; lag never does."""
        reasons = []
        if self.appender.failing and "ingress" in self._config.roles:
            reasons.append("the event log cannot be written")
        if self._projector.failing:
            reasons.append("the projector cannot go on")
        if self._config.roles & {"projector", "api"}:
            reasons += [
                *await self._unreadable("event log", self.log.run(lambda log: log.head())),
                *await self._unreadable("views", self.views.run(lambda views: views.checkpoint())),
            ]
        return reasons

    async def _unreadable(self, name: str, read: Awaitable[object]) -> list[str]:
        try:
            async with asyncio.timeout(self._config.limits.ready_s):
                await read
        except (errors.PlugstatusError, TimeoutError):
            return [f"the {name} cannot be read"]
        return []

    async def _start(self) -> None:
        config, closers = self._config, self._closers
        interpreter.allow_depth(config.limits)
        interpreter.take_short_turns()
        stores = Stores(config)
        closers.callback(stores.lock().close)
        self._open_spool(config.data_dir / SPOOL_FILE)
        self._open_readers(stores)
        self.identity = await self._identified(stores)
        self.cursors = CursorCodec(self.identity)
        self.hub = Hub(self._feed, self.cursors, config.limits, self._metrics, self._holds)
        self._start_projector(stores)
        self._start_appender(stores)
        if self._config.roles & {"projector", "api"}:
            await self._start_hub()
            self._start_listeners(stores)
        self._build_upkeep(stores)
        self.silence = Silence(config, self._clock, self.log, self.views, self._metrics)
        if config.roles & {"projector", "api"}:
            looking = asyncio.create_task(self.silence.run(), name="silence")
            closers.push_async_callback(cancelled, looking)
        if stores.embedded:
            scrubbing = asyncio.create_task(
                Scrub(self.log, config.limits, self._metrics).run(), name="scrub"
            )
            closers.push_async_callback(cancelled, scrubbing)

    def _open_spool(self, path: Path) -> None:
        """For callbacks that are to come, or were left here by a process with another role."""
        config = self._config
        left = filling_of(path).event_count if path.exists() else 0
        if left and not config.spool:
            raise errors.ConfigInvalid(
                "PLUGSTATUS_SPOOL", f"{left} callbacks wait in {path}: leave it on until they went"
            )
        if config.spool and (left or "ingress" in config.roles):
            self.spool = Spool(path, config.spool_bytes_max)
            self._closers.callback(self.spool.close)
            self._show_spool(self.spool)

    async def _identified(self, stores: Stores) -> str:
        """The log's identity, once both stores are ready for this program.

        A process that only receives starts without a database that is away, if it has ever been
        there: it spools.
        """
        try:
            stores.prepare()
            self.stores = stores.states()
            identity = await self.log.run(lambda log: log.identity)
        except (errors.StoreUnusable, errors.LogUnavailable) as error:
            known = self.spool.identity() if self.spool else ""
            if not known or self._config.roles != {"ingress"}:
                raise
            _log.warning("starting without the event log: spooling", reason=str(error))
            return known
        if self.spool is not None:
            self.spool.belong_to(identity)
        return identity

    async def _holds(self, point: Point) -> bool:
        """Has the log the event of that point, or has retention removed it since?"""
        position = point.place.position
        mark, last_removed = await self.log.run(
            lambda log: (log.mark(position), log.last_removed())
        )
        if mark is None:
            return position <= last_removed.position
        return mark.receive_time_us == point.receive_time_us

    def _open_readers(self, stores: Stores) -> None:
        readers_max = self._config.limits.readers_max
        self.log: ReaderPool[LogReader] = ReaderPool(
            "eventlog-reader",
            stores.open_log_reader,
            readers_max,
            errors.LogUnavailable,
        )
        self._closers.push_async_callback(asyncio.to_thread, self.log.close)
        # Apart, so that nobody stands in a queue behind a crowd: neither a question behind watchers
        # that catch up, nor the live ones behind either.
        self.views = self._views_readers(stores, "views-reader", readers_max)
        self.pages = self._views_readers(stores, "views-pages", readers_max)
        self._feed = self._views_readers(stores, "views-feed", 1)

    def _views_readers(
        self, stores: Stores, name: str, readers_max: int
    ) -> ReaderPool[ViewsReader]:
        readers: ReaderPool[ViewsReader] = ReaderPool(
            name,
            stores.open_views_reader,
            readers_max,
            errors.ViewsUnavailable,
            embedded=stores.embedded,
        )
        self._closers.push_async_callback(asyncio.to_thread, readers.close)
        return readers

    def _start_projector(self, stores: Stores) -> None:
        loop = asyncio.get_running_loop()
        self._projector = Projector(
            open_log=stores.open_log_reader,
            open_views=partial(stores.open_views_writer, self.identity),
            leadership=stores.leadership(self._config.limits),
            eager="projector" in self._config.roles,
            cursors=self.cursors,
            on_advance=lambda batch: _on_loop(loop, partial(self.hub.advanced, batch)),
            clock=self._clock,
            limits=self._config.limits,
            metrics=self._metrics,
        )
        self._metrics.leading.set_function(lambda: self._projector.leads)
        self._projector.start()
        self._closers.push_async_callback(self._projector.stop)

    def _start_appender(self, stores: Stores) -> None:
        limits = self._config.limits
        self.appender = GroupCommit(
            stores.log_writer_opener(self.spool, limits),
            self._projector.wake,
            self._hint,
            self._projector.make_way,
            self._projector.taker,
            limits=limits,
            alone=stores.embedded,
        )
        self.appender.start()
        self._metrics.log_position.set_function(lambda: self.appender.last_position)
        self._closers.push_async_callback(self.appender.close)

    def _show_spool(self, spool: Spool) -> None:
        def age_s() -> float:
            oldest_us = spool.filling().oldest_us
            return max(0, self._clock.now_us() - oldest_us) / US_PER_S if oldest_us else 0.0

        self._metrics.spool_callbacks.set_function(lambda: spool.filling().event_count)
        self._metrics.spool_bytes.set_function(lambda: spool.filling().content_bytes)
        self._metrics.spool_seconds.set_function(age_s)

    def _hint(self, log: LogWriter) -> None:
        """On the appender's thread. Whoever leads here was woken already."""
        if not self._projector.leads:
            log.hint()

    def _start_listeners(self, stores: Stores) -> None:
        loop = asyncio.get_running_loop()
        for listener in stores.listeners(
            self._projector.wake,
            lambda: _on_loop(loop, self.hub.hint),
            self._config.limits.retry_s,
        ):
            listener.start()
            self._closers.push_async_callback(asyncio.to_thread, listener.stop)

    async def _start_hub(self) -> None:
        await self.hub.start()
        following = asyncio.create_task(self.hub.run(), name="hub")
        self._closers.push_async_callback(cancelled, following)

    def _build_upkeep(self, stores: Stores) -> None:
        config = self._config
        self.turns = stores.turns(config.limits)
        self._closers.push_async_callback(asyncio.to_thread, self.turns.close)
        tasks = ProjectorTasks(
            self._projector,
            self.appender.remove_and_wait,
            self.cursors,
            self._clock,
            config.limits,
        )
        parts = Parts(
            appender=self.appender,
            log=self.log,
            views=self.views,
            views_reached=self.hub.reached,
            tasks=tasks,
            clock=self._clock,
            limits=config.limits,
        )
        self.upkeep = Upkeep(
            parts, tasks, lambda: self.hub.place.position, config.retention_days, self.turns
        )


def _on_loop(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """From another thread; a loop that has ended needs no hint."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(act)


async def cancelled(task: "asyncio.Task[None]") -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
