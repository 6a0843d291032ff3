"""The composition root: builds every part, starts them in order, drains them in reverse.

    lock ─ schemas ─ readers ─ projector ─ appender ─ hub ─ API ─ HTTP

A drain first tells the watchers, and ends the webhook updates beside the HTTP side, because both
still append; then it goes the same way back.

Nothing else in the service knows how the parts are put together, and no part builds another.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from service import __version__, errors
from service.api.admin import Admin
from service.api.calls import Policy
from service.api.hub import Hub
from service.api.listings import Listings
from service.api.server import GrpcServer
from service.api.service_status import ServiceStatus
from service.api.starts import Starts
from service.api.status import MessageStatuses
from service.api.watch import Watchers
from service.api.webhooks import WebhookUpdates
from service.clock import Clock, SystemClock
from service.config import Config, describe
from service.database import schema
from service.database.lock import DataDirLock
from service.database.readers import ReaderPool
from service.database.schema import Store
from service.database.sqlite import database_path
from service.eventlog.group_commit import GroupCommit
from service.eventlog.log import LogReader
from service.eventlog.sqlite import SqliteLogReader, SqliteLogWriter
from service.ingress.ingress import Ingress
from service.plugchat.client import PlugchatClient
from service.plugchat.credentials import Credentials
from service.projector.runner import Projector
from service.telemetry import Metrics
from service.views.sqlite import SqliteViewsReader, SqliteViewsWriter
from service.views.store import ViewsReader
from service.wire.cursor import CursorCodec
from service.wire.page_token import PageTokens

_log = structlog.get_logger(__name__)

_ONE_SIGNAL_S = 0.2
"""Shorter than a person or a supervisor takes to insist."""


async def serve(config: Config) -> None:
    """Run until SIGTERM or SIGINT, then drain. A second signal ends the process at once.

    Raises OperatorError if it cannot start; then everything begun is closed again.
    """
    # The JSON parsers take a level of it for each level of nesting they accept.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), config.limits.recursion_max))
    application = Application(config, SystemClock())
    stop = asyncio.Event()
    _stop_on_signals(stop)
    async with application:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, application.reload)
        _calm_garbage_collection()
        await stop.wait()
        _log.info("draining")
        # On a thread of its own, so that nothing that blocks the loop can hold it up.
        give_up = threading.Timer(config.limits.drain_s, _give_up)
        give_up.daemon = True
        give_up.start()
    give_up.cancel()
    _log.info("stopped")


class StorePaths:
    """The files of the two embedded stores. Raises ConfigInvalid for a URL that names none."""

    def __init__(self, config: Config) -> None:
        self.events = database_path("PLUGSTATUS_EVENTS_URL", config.events_url)
        self.views = database_path("PLUGSTATUS_VIEWS_URL", config.views_url)
        if self.events == self.views:
            raise errors.ConfigInvalid(
                "PLUGSTATUS_VIEWS_URL", "is the event log's file: name another one"
            )

    def lock(self, data_dir: Path) -> ExitStack:
        """Take the data folder and the folders of both stores for this process, until closed.

        A store may stand outside the data folder, and two processes must never write one file.
        Raises DataDirInUse, StoreUnusable.
        """
        with ExitStack() as locks:
            folders = {data_dir, self.events.parent, self.views.parent}
            for folder in sorted({folder.resolve() for folder in folders}):
                locks.callback(DataDirLock(folder).release)
            return locks.pop_all()

    def upgrade(self) -> list[tuple[str, Path, str]]:
        """Bring both to this program's schema: each one's name, file and revision."""
        return [
            (store.label, path, schema.upgrade_sqlite(store, path))
            for store, path in ((Store.EVENT_LOG, self.events), (Store.VIEWS, self.views))
        ]

    def states(self) -> list[schema.StoreState]:
        """What each of them runs on. Raises StoreUnusable if one cannot be read."""
        return [
            schema.sqlite_state(Store.EVENT_LOG, self.events),
            schema.sqlite_state(Store.VIEWS, self.views),
        ]


def migrate(config: Config) -> list[tuple[str, Path, str]]:
    """Create or upgrade both stores while nobody serves them: name, file and revision of each.

    Raises DataDirInUse, SchemaNewer, StoreUnusable.
    """
    paths = StorePaths(config)
    with paths.lock(config.data_dir):
        return paths.upgrade()


class Application:
    """The running service, as an asynchronous context manager: starts on enter, drains on exit."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._metrics = Metrics()
        self._closers = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._closers.aclose()
            raise
        _log.info(
            "ready",
            version=__version__,
            http=str(self._http.http_bind),
            grpc=str(self._config.grpc_bind._replace(port=self._grpc.port)),
            ops=str(self._http.ops_bind),
            data_dir=str(self._config.data_dir),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._grpc.begin_drain()
        self._hub.drain()
        # Side by side, because either may have to wait for a log that cannot be written.
        await asyncio.gather(self._http.drain(), self._webhooks.drain())
        await self._closers.aclose()
        await self._http.close()

    def reload(self) -> None:
        """Read tokens, credentials and the provider's CA again."""
        self._http.reload()
        self._credentials.reload()
        self._plugchat.reload()

    async def _start(self) -> None:
        config, closers = self._config, self._closers
        _log.debug("settings", **describe(config))
        paths = StorePaths(config)
        closers.callback(paths.lock(config.data_dir).close)
        paths.upgrade()
        self._stores = paths.states()
        self._open_readers(paths)
        self._identity = await self._log.run(lambda log: log.identity)
        self._cursors = CursorCodec(self._identity)
        self._hub = Hub(self._views, self._cursors, config.limits, self._metrics)
        self._start_projector(paths)
        self._start_appender(paths)
        await self._start_hub()
        self._build_webhooks()
        await self._start_api()
        await self._start_http()

    def _open_readers(self, paths: StorePaths) -> None:
        readers_max = self._config.limits.readers_max
        self._log: ReaderPool[LogReader] = ReaderPool(
            "eventlog-reader",
            partial(SqliteLogReader, paths.events),
            readers_max,
            errors.LogUnavailable,
        )
        self._closers.push_async_callback(asyncio.to_thread, self._log.close)
        self._views: ReaderPool[ViewsReader] = ReaderPool(
            "views-reader",
            partial(SqliteViewsReader, paths.views),
            readers_max,
            errors.ViewsUnavailable,
        )
        self._closers.push_async_callback(asyncio.to_thread, self._views.close)

    def _start_projector(self, paths: StorePaths) -> None:
        loop = asyncio.get_running_loop()
        self._projector = Projector(
            open_log=partial(SqliteLogReader, paths.events),
            open_views=partial(SqliteViewsWriter, paths.views, self._identity),
            cursors=self._cursors,
            on_advance=lambda: _on_loop(loop, self._hub.hint),
            clock=self._clock,
            limits=self._config.limits,
            metrics=self._metrics,
        )
        self._projector.start()
        self._closers.push_async_callback(self._projector.stop)

    def _start_appender(self, paths: StorePaths) -> None:
        limits = self._config.limits
        self._appender = GroupCommit(
            partial(SqliteLogWriter, paths.events),
            self._projector.wake,
            batch_events_max=limits.batch_events_max,
            batch_bytes_max=limits.batch_bytes_max,
            waiting_events_max=limits.waiting_events_max,
            waiting_bytes_max=limits.waiting_bytes_max,
            failing_s=limits.append_failing_s,
        )
        self._appender.start()
        self._metrics.log_position.set_function(lambda: self._appender.last_position)
        self._closers.push_async_callback(self._appender.close)

    async def _start_hub(self) -> None:
        await self._hub.start()
        following = asyncio.create_task(self._hub.run(), name="hub")
        self._closers.push_async_callback(_cancelled, following)

    def _build_webhooks(self) -> None:
        config = self._config
        self._credentials = Credentials(config, self._clock)
        self._plugchat = PlugchatClient(config, self._clock)
        self._webhooks = WebhookUpdates(
            appender=self._appender,
            log=self._log,
            views=self._views,
            views_reached=self._hub.reached,
            plugchat=self._plugchat,
            credentials=self._credentials,
            clock=self._clock,
            limits=config.limits,
            allowed_hosts=config.webhook_hosts,
            metrics=self._metrics,
        )
        recovering = asyncio.create_task(self._recover_webhooks(), name="webhook recovery")
        self._closers.push_async_callback(_cancelled, recovering)

    async def _recover_webhooks(self) -> None:
        """End the attempts a server left behind, once the views stand at the log's head."""
        try:
            head = await self._log.run(lambda log: log.head())
            await self._hub.reached(head.position, float("inf"))
            recovered = await self._webhooks.recover()
        except errors.RetryLater:
            _log.exception("webhook updates left behind stay pending until the next start")
        else:
            if recovered:
                _log.warning("webhook updates left behind are now unknown", count=recovered)

    async def _start_api(self) -> None:
        config = self._config
        starts = Starts(self._log, self._cursors)
        statuses = MessageStatuses(self._views, self._hub, starts, self._cursors, config.limits)
        watchers = Watchers(
            hub=self._hub,
            views=self._views,
            starts=starts,
            cursors=self._cursors,
            clock=self._clock,
            limits=config.limits,
            metrics=self._metrics,
            watchers_max=config.watchers_max,
            stall_s=config.watcher_stall_s,
        )
        tokens = PageTokens(self._identity)
        listings = Listings(self._views, self._log, self._cursors, tokens, config.limits)
        admin = Admin(self._webhooks)
        service_status = ServiceStatus(
            config, self._clock, self._log, self._views, watchers, self._stores
        )
        self._grpc = GrpcServer(
            config.grpc_bind,
            Policy(self._clock, config.limits, self._metrics),
            unary={
                "GetMessageStatus": statuses.get,
                "BatchGetMessageStatuses": statuses.batch_get,
                "UpdateWebhook": admin.update_webhook,
                "GetWebhook": admin.get_webhook,
                "ListMessageStatuses": listings.messages,
                "ListRecipients": listings.recipients,
                "ListStatusReports": listings.reports,
                "ListWebhookUpdates": listings.webhook_updates,
                "ListQuarantinedCallbacks": listings.quarantined,
                "GetServiceStatus": service_status.get,
            },
            streams={"WatchStatuses": watchers.watch},
        )
        await self._grpc.start()
        self._closers.push_async_callback(self._grpc.stop, config.limits.drain_calls_s)

    async def _start_http(self) -> None:
        self._http = Ingress(
            self._config, self._clock, self._metrics, self._appender, self._cursors, self._not_ready
        )
        await self._http.start()
        self._closers.push_async_callback(self._http.drain)

    async def _not_ready(self) -> list[str]:
        """What keeps this process from its work, each in a few words; lag never does."""
        reasons = ["the event log cannot be written"] if self._appender.failing else []
        if self._projector.failing:
            reasons.append("the projector cannot go on")
        for name, read in (
            ("event log", self._log.run(lambda log: log.head())),
            ("views", self._views.run(lambda views: views.checkpoint())),
        ):
            try:
                async with asyncio.timeout(self._config.limits.ready_s):
                    await read
            except (errors.PlugstatusError, TimeoutError):
                reasons.append(f"the {name} cannot be read")
        return reasons


def _on_loop(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    """From another thread; a loop that has ended needs no hint."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(act)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _calm_garbage_collection() -> None:
    """What is there after the start stays, so no collection needs to look at it again.

    Callbacks make few cycles; with the default thresholds, collecting costs a tenth of ingest.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _give_up() -> None:
    _log.error("the drain took too long: ending without it")
    os._exit(1)


def _stop_on_signals(stop: asyncio.Event) -> None:
    """SIGTERM or SIGINT: `stop`. The next one ends the process as if it had never been handled.

    Those that come within `_ONE_SIGNAL_S` count as one: a parent and a process group both deliver
    what was sent once.
    """
    loop = asyncio.get_running_loop()
    ending = (signal.SIGTERM, signal.SIGINT)

    def unhandle() -> None:
        for number in ending:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    def drain() -> None:
        if not stop.is_set():
            stop.set()
            loop.call_later(_ONE_SIGNAL_S, unhandle)

    for number in ending:
        loop.add_signal_handler(number, drain)
