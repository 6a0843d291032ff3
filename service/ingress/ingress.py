"""The HTTP side as a whole, for the composition root."""

from collections.abc import Sequence
from dataclasses import replace

from litestar import Litestar, asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import ControllerRouterHandler

from service import config, telemetry
from service.clock import Clock
from service.ingress import operations
from service.ingress.callbacks import Appender, Callbacks
from service.ingress.operations import Liveness, Page, Readiness
from service.ingress.server import HttpServer
from service.ingress.tokens import WebhookTokens
from service.tls import TlsFiles
from service.wire.cursor import CursorCodec

_DRAINING = "this process is shutting down"


class Ingress:
    """One server when both addresses are one, else two; without the role, only for operations.

    Starts once, stops twice without harm. The loop that starts it owns it, and the appender must be
    started on the same one, before, and closed after `drain` has returned.
    """

    def __init__(
        self,
        settings: config.Config,
        clock: Clock,
        metrics: telemetry.Metrics,
        appender: Appender,
        cursors: CursorCodec,
        readiness: Readiness,
        tls: TlsFiles | None = None,
        page: Page | None = None,
        alive: Liveness = operations.alive,
    ) -> None:
        """`tls` is for the callbacks' address, operations paths on it included; `page` is shown in
        place of the metrics alone.

        Raises ConfigInvalid for webhook tokens or a certificate that cannot be used. Listens to
        nothing yet.
        """
        self._readiness = readiness
        self._draining = False
        self._tokens = WebhookTokens(settings, clock)
        self._metrics = metrics
        routes = operations.routes(page or self._page, self._not_ready, alive)

        self._callbacks: HttpServer | None = None
        self._operations: HttpServer | None = None
        shared = False
        if "ingress" in settings.roles:
            callbacks = Callbacks(settings, clock, metrics, appender, cursors, self._tokens)
            shared = settings.ops_bind == settings.http_bind
            self._callbacks = HttpServer(
                _application([_mounted(callbacks), *(routes if shared else [])]),
                "HTTP_BIND",
                settings.http_bind,
                settings.limits,
                clock,
                metrics,
                shared_port=settings.shared_ports,
                tls=tls,
            )
        if not shared:
            self._operations = HttpServer(
                _application(routes),
                "OPS_BIND",
                settings.ops_bind,
                _operations_limits(settings),
                clock,
                metrics,
            )

    async def start(self) -> None:
        """Listen. Raises AddressInUse, which names the variable, and then nothing is held."""
        started: list[HttpServer] = []
        try:
            for server in self._servers:
                await server.start()
                started.append(server)
        except BaseException:
            for server in started:
                await server.drain()
            raise

    @property
    def http_bind(self) -> config.Bind:
        """Where callbacks are received, once started, in that role; the port is the real one."""
        assert self._callbacks is not None
        return self._callbacks.bind

    @property
    def ops_bind(self) -> config.Bind:
        """The same for the operations paths."""
        return self._servers[-1].bind

    def reload(self) -> None:
        """Read the token file again now. One that cannot be used is logged, and changes nothing."""
        self._tokens.reload()

    async def drain(self) -> None:
        """Take no more callbacks, answer those that have arrived; over within `drain_s`.

        An operations address of its own goes on, and /readyz says 503, until `close`.
        """
        self._draining = True
        if self._callbacks is not None:
            await self._callbacks.drain()

    async def close(self) -> None:
        """Drain, and stop the operations paths as well."""
        await self.drain()
        if self._operations is not None:
            await self._operations.drain()

    @property
    def _servers(self) -> list[HttpServer]:
        return [one for one in (self._callbacks, self._operations) if one is not None]

    async def _page(self) -> bytes:
        return self._metrics.page()

    async def _not_ready(self) -> Sequence[str]:
        return [_DRAINING] if self._draining else await self._readiness()


def operations_server(
    settings: config.Config, clock: Clock, page: Page, readiness: Readiness
) -> HttpServer:
    """Of a process that itself only tells of others."""
    return HttpServer(
        _application(operations.routes(page, readiness)),
        "OPS_BIND",
        settings.ops_bind,
        _operations_limits(settings),
        clock,
        telemetry.Metrics(),
    )


def _operations_limits(settings: config.Config) -> config.Limits:
    limits = settings.limits
    return replace(limits, http_connections_max=limits.operations_connections_max)


def _application(handlers: Sequence[ControllerRouterHandler]) -> Litestar:
    return Litestar(
        handlers,
        exception_handlers=operations.exception_handlers(),
        openapi_config=None,
        logging_config=None,
    )


def _mounted(callbacks: Callbacks) -> ASGIRouteHandler:
    """The mount is below the first segment; the application looks at the raw path itself."""
    return asgi("/instancia", is_mount=True, copy_scope=False)(callbacks.answer)
