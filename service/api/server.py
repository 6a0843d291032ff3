"""The gRPC server: listens, registers every rpc of the contract, drains.

Handlers are registered from the proto's own descriptor: an rpc without one stops the start.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha._async import ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from service import ports
from service.api.calls import Policy, Rpc, StreamHandler, UnaryHandler
from service.config import Bind
from service.errors import AddressInUse
from service.gen.plugchat.status.v1 import status_pb2 as pb

_SERVICES: tuple[ServiceDescriptor, ...] = tuple(pb.DESCRIPTOR.services_by_name.values())
_WAITING = {"WaitForStatus"}
"""Unary calls that mostly wait."""

_LINGER_S = 0.2
"""How long calls are still refused with SHUTTING_DOWN once a drain has begun."""
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"

_OPTIONS: tuple[tuple[str, int], ...] = (
    # A request is a few ids; the largest is a filter of 2,000 values.
    ("grpc.max_receive_message_length", 1024 * 1024),
    # Without this a burst of a few thousand unary calls has some of them cancelled.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
    # Clients may ping an idle stream every 10 s; by default that gets them cut off.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Dead peers are found although a watcher only listens.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Keeps the transport's window small: a stalled client absorbs 100 frames instead of 5,000.
    ("grpc.http2.bdp_probe", 0),
)


class GrpcServer:
    """Starts once, drains once; both in that order."""

    def __init__(
        self,
        bind: Bind,
        policy: Policy,
        unary: Mapping[str, UnaryHandler],
        streams: Mapping[str, StreamHandler],
        *,
        shared_port: bool = False,
    ) -> None:
        """Handlers by method name; the names are unique over both services."""
        self._shared_port = shared_port
        self._bind = bind
        self._policy = policy
        # 1 by default: a second server would silently share the port.
        self._server = grpc.aio.server(options=[*_OPTIONS, ("grpc.so_reuseport", shared_port)])
        self._health = health.aio.HealthServicer()
        for service in _SERVICES:
            handlers = {
                method.name: self._handler(service, method, unary, streams)
                for method in service.methods
            }
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service.full_name, handlers),)
            )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._add_reflection()
        self._linger_until_s = 0.0
        self.port = 0
        """Where it listens, once started."""

    async def start(self) -> None:
        """Listen, and report SERVING. Raises AddressInUse."""
        if not self._shared_port:
            # gRPC would log its own lines about a taken address, and hide the system's reason.
            ports.listening("GRPC_BIND", self._bind).close()
        try:
            self.port = self._server.add_insecure_port(str(self._bind))
        except RuntimeError as error:
            raise AddressInUse(
                "PLUGSTATUS_GRPC_BIND", str(self._bind), "it was taken meanwhile"
            ) from error
        await self._server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def begin_drain(self) -> None:
        """Report NOT_SERVING and refuse new calls; those under way go on."""
        self._policy.begin_drain()
        self._linger_until_s = asyncio.get_running_loop().time() + _LINGER_S
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float) -> None:
        """Wait so long for what is still under way, then cut it off. Idempotent."""
        try:
            async with asyncio.timeout(grace_s):
                await self._policy.idle()
        except TimeoutError:
            pass
        # Whoever calls just now has not heard of the drain. gRPC would cut those calls off with a
        # bare CANCELLED, so they are answered for a moment longer.
        await asyncio.sleep(self._linger_until_s - asyncio.get_running_loop().time())
        # Health and reflection streams never end by themselves; ours have by now.
        await self._server.stop(grace=0.2)

    async def _set_health(self, status: int) -> None:
        for name in ("", *(service.full_name for service in _SERVICES)):
            await self._health.set(name, status)

    def _handler(
        self,
        service: ServiceDescriptor,
        method: MethodDescriptor,
        unary: Mapping[str, UnaryHandler],
        streams: Mapping[str, StreamHandler],
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        parse = GetMessageClass(method.input_type).FromString
        kind = "server_stream" if method.server_streaming else "unary"
        rpc = Rpc(service.full_name, method.name, kind)
        if method.server_streaming:
            serve = self._policy.stream(rpc, parse, streams[method.name])
            # Frames come encoded already, once for all the watchers they go to.
            return grpc.unary_stream_rpc_method_handler(serve, bytes, bytes)
        waits = method.name in _WAITING
        respond = self._policy.unary(rpc, parse, unary[method.name], waits=waits)
        encode = GetMessageClass(method.output_type).SerializeToString
        return grpc.unary_unary_rpc_method_handler(respond, bytes, encode)

    def _add_reflection(self) -> None:
        names = (
            *(service.full_name for service in _SERVICES),
            health.SERVICE_NAME,
            reflection.SERVICE_NAME,
            _REFLECTION_V1,
        )
        reflection.enable_server_reflection(names, self._server)
        # The package offers v1alpha only; the messages of v1 are the same, and newer tools ask
        # for it first.
        handler = grpc.stream_stream_rpc_method_handler(
            ReflectionServicer(names).ServerReflectionInfo,
            ServerReflectionRequest.FromString,
            ServerReflectionResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    _REFLECTION_V1, {"ServerReflectionInfo": handler}
                ),
            )
        )
