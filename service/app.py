"""The composition root: builds every part, starts them in order, drains them in reverse.

    core (the stores and what follows them) ─ webhooks ─ API ─ HTTP ─ retention

A drain first tells the watchers and the long tasks, and ends the webhook updates beside the HTTP
side, because both still append; then it goes the same way back.

Nothing else in the service knows how the parts are put together, and no part builds another.
"""

import asyncio
import os
import signal
import threading
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Protocol, Self

import structlog

from service import __version__, errors, interpreter, tls
from service.api.access import Access
from service.api.admin import Admin
from service.api.calls import Policy
from service.api.deadlines import Deadlines
from service.api.listings import Listings
from service.api.long_tasks import LongTasks
from service.api.server import GrpcServer
from service.api.service_status import ServiceStatus
from service.api.starts import Starts
from service.api.status import MessageStatuses
from service.api.watch import Shared
from service.api.watchers import Watchers
from service.api.webhooks import WebhookUpdates
from service.clock import Clock, SystemClock
from service.config import Bind, Config, describe
from service.core import Core, cancelled
from service.parent import Parent
from service.plugchat.client import PlugchatClient
from service.plugchat.credentials import Credentials
from service.receiver import Receiver
from service.spools import leave_none_behind
from service.telemetry import Metrics
from service.tracing import tracing
from service.wire.page_token import PageTokens

_log = structlog.get_logger(__name__)


_ONE_SIGNAL_S = 0.2
"""Shorter than a person or a supervisor takes to insist."""


def run(config: Config, receiver: Receiver | None, parent: Parent | None, *, fewer: bool) -> None:
    """Serve, as `process.run` has it. `fewer`: connections than usual, for want of open files."""
    if parent is None:
        leave_none_behind(config)
    # Connections for the operations routes are taken here where there is no receiver.
    takes_tls = receiver is None and config.http_tls_cert is not None
    interpreter.run(_serve(config, receiver, parent, fewer=fewer), takes_tls=takes_tls)


async def _serve(
    config: Config, receiver: Receiver | None, parent: Parent | None, *, fewer: bool
) -> None:
    application = Application(config, SystemClock(), receiver)
    stop = asyncio.Event()
    stop_on_signals(stop)
    if parent is not None:
        _stop_with(parent, stop)
    async with application:
        if parent is not None:
            parent.send(application.addresses())
        if fewer:
            _log.warning(
                "fewer connections than usual: allow this process more open files (ulimit -n, "
                "LimitNOFILE)",
                http_connections_max=config.limits.http_connections_max,
                grpc_connections_max=config.limits.grpc_connections_max,
            )
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, application.reload)
        interpreter.calm_collection()
        receiver_ended = await _stopped(stop, receiver)
        _log.info("draining")
        # On a thread of its own, so that nothing that blocks the loop can hold it up.
        give_up = threading.Timer(config.limits.drain_s, _give_up)
        give_up.daemon = True
        give_up.start()
    give_up.cancel()
    _log.info("stopped")
    if receiver_ended:
        raise errors.ReceiverEnded


async def _stopped(stop: asyncio.Event, receiver: Receiver | None) -> bool:
    """Wait until it is time to stop. True if that is because the receiver ended by itself."""
    if receiver is None:
        await stop.wait()
        return False
    gone = asyncio.create_task(receiver.gone())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([gone, stopping], return_when=asyncio.FIRST_COMPLETED)
    for one in (gone, stopping):
        one.cancel()
    return not stop.is_set()


class HttpSide(Protocol):
    """`Ingress`, here or in a process of its own."""

    @property
    def http_bind(self) -> Bind: ...

    @property
    def ops_bind(self) -> Bind: ...

    async def start(self) -> None: ...

    def reload(self) -> None: ...

    async def drain(self) -> None: ...

    async def close(self) -> None: ...


class Application:
    """The running service, as an asynchronous context manager: starts on enter, drains on exit."""

    def __init__(self, config: Config, clock: Clock, receiver: Receiver | None = None) -> None:
        """Without a receiver the HTTP side is in this process as well."""
        self._config = config
        self._clock = clock
        self._receiver = receiver
        self._metrics = Metrics(http=receiver is None)
        self._closers = AsyncExitStack()
        self._grpc: GrpcServer | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._closers.aclose()
            raise
        _log.info("ready", version=__version__, **self.addresses())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._grpc is not None:
            self._grpc.begin_drain()
        self._core.drain()
        # Side by side, because either may have to wait for a log that cannot be written.
        await asyncio.gather(self._http.drain(), self._webhooks.drain())
        await self._closers.aclose()
        await self._http.close()

    def reload(self) -> None:
        """Read tokens, credentials, certificates and the provider's CA again."""
        self._access.reload()
        for files in (self._http_tls, self._grpc_tls):
            if files is not None:
                files.reload()
        self._http.reload()
        self._credentials.reload()
        self._plugchat.reload()

    async def _start(self) -> None:
        config = self._config
        if self._receiver is not None:
            self._closers.push_async_callback(self._receiver.close)
        _log.debug("settings", **describe(config))
        self._read_access_files()
        self._tracing = tracing(config)
        self._closers.push_async_callback(asyncio.to_thread, self._tracing.close)
        self._core = Core(config, self._clock, self._metrics)
        await self._closers.enter_async_context(self._core)
        self._build_webhooks()
        if "api" in config.roles:
            self._recover_webhooks_later()
            await self._start_api()
        await self._start_http()
        if "projector" in config.roles:
            retaining = asyncio.create_task(
                self._core.upkeep.retain_by_the_clock(lambda: self._core.leads), name="retention"
            )
            self._closers.push_async_callback(cancelled, retaining)

    def addresses(self) -> dict[str, str]:
        """Where this process can be reached, by what; and whose data folder it has."""
        found = {"ops": str(self._http.ops_bind), "data_dir": str(self._config.data_dir)}
        if "ingress" in self._config.roles:
            found["http"] = str(self._http.http_bind)
        if self._grpc is not None:
            found["grpc"] = str(self._config.grpc_bind._replace(port=self._grpc.port))
        return found

    def _read_access_files(self) -> None:
        """First of all, because a fault in one of them is quickly told."""
        config = self._config
        self._access = Access(config, self._clock)
        self._http_tls = tls.of_http(config, self._clock)
        self._grpc_tls = tls.of_grpc(config, self._clock)
        for side, files in (("http", self._http_tls), ("grpc", self._grpc_tls)):
            if files is not None:
                self._metrics.certificate_expiry.labels(side).set_function(files.expiry_s)
                expires_us = files.current().not_after_us
                if expires_us <= self._clock.now_us():
                    _log.error(
                        "the certificate has expired: write another one and its key over them",
                        side=side,
                        expired=tls.date_of(expires_us),
                    )
        if not config.ops_bind.is_loopback:
            _log.warning("whoever reaches this address reads the metrics", ops=str(config.ops_bind))

    def _build_webhooks(self) -> None:
        config = self._config
        self._credentials = Credentials(config, self._clock)
        self._plugchat = PlugchatClient(config, self._clock, tracing=self._tracing)
        self._webhooks = WebhookUpdates(
            appender=self._core.appender,
            log=self._core.log,
            views=self._core.views,
            views_reached=self._core.hub.reached,
            plugchat=self._plugchat,
            credentials=self._credentials,
            clock=self._clock,
            limits=config.limits,
            allowed_hosts=config.webhook_hosts,
            metrics=self._metrics,
            turns=self._core.turns,
        )

    def _recover_webhooks_later(self) -> None:
        recovering = asyncio.create_task(self._recover_webhooks(), name="webhook recovery")
        self._closers.push_async_callback(cancelled, recovering)

    async def _recover_webhooks(self) -> None:
        """End the attempts a server left behind, once the views stand at the log's head."""
        try:
            head = await self._core.log.run(lambda log: log.head())
            await self._core.hub.reached(head.position, float("inf"))
            recovered = await self._webhooks.recover()
        except errors.RetryLater:
            _log.exception("webhook updates left behind stay pending until the next start")
        else:
            if recovered:
                _log.warning("webhook updates left behind are now unknown", count=recovered)

    async def _start_api(self) -> None:
        config, core = self._config, self._core
        starts = Starts(core.log, core.cursors)
        statuses = MessageStatuses(core.views, core.hub, starts, config.limits, self._metrics)
        shared = Shared(
            hub=core.hub,
            views=core.pages,
            starts=starts,
            cursors=core.cursors,
            clock=self._clock,
            limits=config.limits,
            stalls=Deadlines(
                config.watcher_stall_s, partial(errors.WatcherStalled, config.watcher_stall_s)
            ),
        )
        watchers = Watchers(shared, self._metrics, config.watchers_max)
        tokens = PageTokens(core.identity)
        listings = Listings(core.views, core.log, core.cursors, tokens, config.limits)
        admin = Admin(self._webhooks)
        tasks = LongTasks(core.upkeep, config.limits)
        service_status = ServiceStatus(
            config,
            self._clock,
            core.log,
            core.views,
            watchers,
            core.hub.waits,
            core.stores,
            core.silence.found,
        )
        grpc = GrpcServer(
            config.grpc_bind,
            config.limits,
            Policy(self._clock, config.limits, self._metrics, self._access, self._tracing),
            unary={
                "GetMessageStatus": statuses.get,
                "BatchGetMessageStatuses": statuses.batch_get,
                "WaitForStatus": statuses.wait,
                "UpdateWebhook": admin.update_webhook,
                "GetWebhook": admin.get_webhook,
                "ListMessageStatuses": listings.messages,
                "ListRecipients": listings.recipients,
                "ListStatusReports": listings.reports,
                "ListWebhookUpdates": listings.webhook_updates,
                "ListQuarantinedCallbacks": listings.quarantined,
                "GetServiceStatus": service_status.get,
            },
            streams={
                "WatchStatuses": watchers.watch,
                "RebuildViews": tasks.rebuild_views,
                "Forget": tasks.forget,
            },
            shared_port=config.shared_ports,
            tls=self._grpc_tls,
        )
        await grpc.start()
        self._grpc = grpc
        self._closers.push_async_callback(grpc.stop, config.limits.drain_calls_s)

    async def _start_http(self) -> None:
        core = self._core
        self._http: HttpSide
        if self._receiver is None:
            # With a receiver this process carries nothing of HTTP.
            from service.ingress.ingress import Ingress

            self._http = Ingress(
                self._config,
                self._clock,
                self._metrics,
                core.appender,
                core.cursors,
                core.not_ready,
                self._http_tls,
            )
        else:
            await self._receiver.connect(
                core.appender, core.identity, self._metrics.page, core.not_ready
            )
            self._http = self._receiver
        await self._http.start()
        self._closers.push_async_callback(self._http.drain)


def _give_up() -> None:
    _log.error("the drain took too long: ending without it")
    os._exit(1)


def _stop_with(parent: Parent, stop: asyncio.Event) -> None:
    """Nobody else would end this process once its parent is gone."""
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(parent.fileno())
        if stop.is_set():
            # It was told a second time.
            os._exit(1)
        stop.set()

    loop.add_reader(parent.fileno(), gone)


def stop_on_signals(stop: asyncio.Event) -> None:
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
