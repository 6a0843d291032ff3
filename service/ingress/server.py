"""An address that is listened on: its connections, their sweep, and the drain.

    NEW ──start──▶ LISTENING ──drain──▶ DRAINING ──▶ CLOSED

A drain takes no new connection and closes idle ones. A request that has arrived is answered as
always; one that still arrives after `drain_body_s` gets 503, and so does one whose answer takes
longer than `drain_answers_s`. Then everything is over.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from operator import itemgetter

import structlog
from litestar import Litestar

from service import config, ports, telemetry
from service.clock import US_PER_S, Clock
from service.ingress.connection import Connection
from service.ingress.handshake import Handshake
from service.ingress.shared import Shared
from service.tls import ServerContext, TlsFiles

_log = structlog.get_logger(__name__)

_SWEEP_S = 0.25
"""How late a limit in seconds may be held; a sweep over 4,096 connections takes about 1 ms."""

_LOOK_S = 0.05
"""Between two looks for connections to spare; one at 4,096 takes about 2 ms."""

_FAREWELL_S = 0.5
"""What the last answers of a drain get to be written."""


class _State(enum.Enum):
    NEW = enum.auto()
    LISTENING = enum.auto()
    DRAINING = enum.auto()
    CLOSED = enum.auto()


class HttpServer:
    """On the running loop; it installs no signals."""

    def __init__(
        self,
        application: Litestar,
        variable: str,
        bind: config.Bind,
        limits: config.Limits,
        clock: Clock,
        metrics: telemetry.Metrics,
        *,
        shared_port: bool = False,
        tls: TlsFiles | None = None,
    ) -> None:
        """`variable` is the setting that errors about the address name.

        Raises ConfigInvalid for a certificate that cannot be used.
        """
        self._tls = None if tls is None else ServerContext(tls)
        self._handshakes: dict[Handshake, None] = {}
        self._idle: deque[Connection] = deque()
        """Some to spare, as last looked for."""
        self._looked_s = -_LOOK_S
        self._variable = variable
        self._asked = bind
        self._shared_port = shared_port
        self._limits = limits
        self._clock = clock
        self._metrics = metrics
        self._state = _State.NEW
        self._shared: Shared[Connection] = Shared(application)
        self._drained: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises AddressInUse, and then nothing is held."""
        assert self._state is _State.NEW
        self._loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        listening = ports.listening(self._variable, self._asked, shared=self._shared_port)
        self._bind = ports.bound_to(listening)
        protocol = self._connection if self._tls is None else self._handshake
        # Left out, asyncio would make it 100.
        self._server = await self._loop.create_server(
            protocol, sock=listening, backlog=ports.BACKLOG
        )
        self._state = _State.LISTENING
        self._sweep()

    @property
    def bind(self) -> config.Bind:
        """Where it listens, once started; the port is the real one."""
        return self._bind

    async def drain(self) -> None:
        """Stop, as the module says; returns when all is over. Stops once, however often called."""
        if self._state is _State.LISTENING:
            self._state = _State.DRAINING
            self._drained = asyncio.create_task(self._drain())
        if self._drained is not None:
            # A caller that gives up waiting does not undo it.
            await asyncio.shield(self._drained)

    async def _drain(self) -> None:
        self._server.close()
        for handshake in list(self._handshakes):
            handshake.abort()
        self._each(Connection.drain)
        await self._emptied(self._limits.drain_body_s)
        self._each(Connection.cut_unfinished)
        await self._emptied(self._limits.drain_answers_s - self._limits.drain_body_s)
        self._each(Connection.cut_unanswered)
        await self._emptied(_FAREWELL_S)
        self._each(lambda connection: connection.transport.abort())
        self._sweeping.cancel()
        self._state = _State.CLOSED

    async def _emptied(self, patience_s: float) -> None:
        """Return when the last connection is gone, or patience."""
        if self._shared.connections:
            self._empty.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self._empty.wait()
            except TimeoutError:
                return

    def _connection(self) -> Connection:
        return Connection(
            self._shared,
            self._limits,
            self._clock,
            self._metrics,
            self._on_lost,
            self._make_room,
        )

    def _handshake(self) -> Handshake:
        assert self._tls is not None
        return Handshake(
            self._tls.listening,
            self._limits,
            self._handshakes,
            self._connection,
        )

    def _make_room(self) -> bool:
        """End the connection that has not sent a whole request for longest.

        So many slow or silent peers cannot keep everybody else out. False if there is none, or
        all were looked at just before: whoever connects without end must not cost that each time.
        """
        now_s = self._clock.monotonic_s()
        if not self._idle and now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            found = [
                (idle_s, connection)
                for connection in self._shared.connections
                if (idle_s := connection.idle_s(now_s)) is not None
            ]
            self._idle.extend(one for _, one in sorted(found, key=itemgetter(0), reverse=True))
        while self._idle:
            connection = self._idle.popleft()
            if connection.idle_s(now_s) is not None:
                connection.transport.abort()
                return True
        return False

    def _on_lost(self) -> None:
        if not self._shared.connections:
            self._empty.set()

    def _sweep(self) -> None:
        now_s = self._clock.monotonic_s()
        date = formatdate(self._clock.now_us() / US_PER_S, usegmt=True)
        self._shared.headers = b"date: %s\r\n" % date.encode()
        self._each(lambda connection: connection.sweep(now_s))
        if self._state is _State.DRAINING:
            # One may have been accepted just before the socket was closed.
            self._each(Connection.drain)
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)

    def _each(self, act: Callable[[Connection], None]) -> None:
        for connection in list(self._shared.connections):
            act(connection)
