"""The standard health service (grpc.health.v1), for whoever asks, with or without a token.

gRPC's own servicer holds a lock while it writes to a watcher, so one watcher that takes nothing
would keep a drain from being told to anybody, and from going on.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from grpc_health.v1 import health_pb2 as pb

from service.api.calls import Call, Write
from service.errors import ServiceUnknown, WatcherStalled


class Health:
    """Of the server as a whole, the empty name, and of each of its services."""

    def __init__(self, services: Iterable[str], stall_s: float) -> None:
        """`stall_s`: how long a watcher's transport may accept nothing."""
        self._services = frozenset({"", *services})
        self._stall_s = stall_s
        self._draining = asyncio.Event()
        self._untold = 0
        self._all_told = asyncio.Event()

    def begin_drain(self) -> None:
        """NOT_SERVING from now on, which every watcher is told."""
        self._draining.set()

    async def told(self) -> None:
        """Wait until every watcher has been told of the drain; one that stalls takes long."""
        if self._untold:
            await self._all_told.wait()

    async def check(self, request: pb.HealthCheckRequest, _call: Call) -> pb.HealthCheckResponse:
        """Raises ServiceUnknown."""
        if request.service not in self._services:
            raise ServiceUnknown
        return pb.HealthCheckResponse(status=self._status())

    async def list(self, _request: pb.HealthListRequest, _call: Call) -> pb.HealthListResponse:
        """Of everything that `check` knows."""
        status = pb.HealthCheckResponse(status=self._status())
        return pb.HealthListResponse(statuses=dict.fromkeys(self._services, status))

    async def watch(
        self,
        request: pb.HealthCheckRequest,
        _call: Call,
        write: Write,
    ) -> None:
        """The status now, and another one if there is to be one. Ends when the caller leaves."""
        if request.service not in self._services:
            await self._tell(pb.HealthCheckResponse.SERVICE_UNKNOWN, write)
        elif self._draining.is_set():
            await self._tell(pb.HealthCheckResponse.NOT_SERVING, write)
        else:
            self._untold += 1
            try:
                await self._tell(pb.HealthCheckResponse.SERVING, write)
                # It may have begun while that was written.
                await self._draining.wait()
                await self._tell(pb.HealthCheckResponse.NOT_SERVING, write)
            finally:
                self._untold -= 1
                if self._draining.is_set() and not self._untold:
                    self._all_told.set()
        await asyncio.get_running_loop().create_future()

    def _status(self) -> Any:
        response = pb.HealthCheckResponse
        return response.NOT_SERVING if self._draining.is_set() else response.SERVING

    async def _tell(self, status: Any, write: Write) -> None:
        try:
            async with asyncio.timeout(self._stall_s):
                await write(pb.HealthCheckResponse(status=status).SerializeToString())
        except TimeoutError:
            raise WatcherStalled(self._stall_s) from None
