"""A connection from when it is accepted until TLS stands.

asyncio can do this by itself, but then connections whose handshake has not ended are seen by
nobody: neither counted nor bounded in number.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from service import config


class Handshake(asyncio.Protocol):
    """Hands the secured connection on, with whatever came right behind the handshake."""

    def __init__(
        self,
        context: ssl.SSLContext,
        limits: config.Limits,
        under_way: "dict[Handshake, None]",
        next_protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        """Stands in `under_way`, the oldest first, for as long as it lasts."""
        self._context = context
        self._limits = limits
        self._under_way = under_way
        self._next_protocol = next_protocol
        self._early = bytearray()
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._under_way) >= self._limits.http_connections_max:
            # Whoever has taken longest makes room: nothing that could be said would be understood.
            next(iter(self._under_way)).abort()
        self._under_way[self] = None
        self._securing = asyncio.get_running_loop().create_task(self._secure())

    def data_received(self, data: bytes) -> None:
        self._early += data

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True

    def abort(self) -> None:
        """End it now."""
        self._under_way.pop(self, None)
        self._transport.abort()

    async def _secure(self) -> None:
        try:
            secured = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._limits.request_s,
                ssl_shutdown_timeout=self._limits.linger_s,
            )
        except OSError:
            # The peer's fault, or its leaving: nobody is there to be told.
            return
        finally:
            self._under_way.pop(self, None)
        if secured is None or self._lost:
            return
        protocol = self._next_protocol()
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        if self._early:
            protocol.data_received(bytes(self._early))
