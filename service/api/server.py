"""The gRPC server: listens, registers every rpc of the contract, drains.

Handlers are registered from the proto's own descriptor: an rpc without one stops the start.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from service import ports
from service.api import reflection
from service.api.access import Role
from service.api.calls import Policy, Rpc, Serve, StreamHandler, UnaryHandler
from service.api.health import Health
from service.config import Bind, Limits
from service.errors import AddressInUse
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.tls import TlsFiles

_SERVICES: tuple[ServiceDescriptor, ...] = tuple(pb.DESCRIPTOR.services_by_name.values())
_ROLES: dict[str, Role | None] = {
    "MessageStatusService": "reader",
    "AdminService": "admin",
    "Health": None,
}
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
_WAITING = {"WaitForStatus"}
"""Unary calls that mostly wait."""

_LINGER_S = 0.2
"""How long calls are still refused with SHUTTING_DOWN once a drain has begun."""

_TELL_S = 0.5
"""What health watchers get to be told of a drain; on a machine that is busy it takes longer."""

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
    # What metadata may hold in all; a few hundred bytes are usual.
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    # Keeps the transport's window small: a stalled client absorbs 100 frames instead of 5,000.
    ("grpc.http2.bdp_probe", 0),
)


class GrpcServer:
    """Starts once, drains once; both in that order."""

    def __init__(
        self,
        bind: Bind,
        limits: Limits,
        policy: Policy,
        unary: Mapping[str, UnaryHandler],
        streams: Mapping[str, StreamHandler],
        *,
        shared_port: bool = False,
        tls: TlsFiles | None = None,
    ) -> None:
        """Handlers by method name; the names are unique over both services."""
        self._shared_port = shared_port
        self._tls = tls
        self._bind = bind
        self._policy = policy
        # 1 by default: a second server would silently share the port.
        self._server = grpc.aio.server(
            options=[*_OPTIONS, *_bounds(limits), ("grpc.so_reuseport", shared_port)]
        )
        self._health = Health((service.full_name for service in _SERVICES), limits.request_s)
        for service in _SERVICES:
            handlers = {
                method.name: self._handler(service, method, unary, streams)
                for method in service.methods
            }
            self._add(service.full_name, handlers)
        self._add_health()
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
            self.port = (
                self._server.add_insecure_port(str(self._bind))
                if self._tls is None
                else self._server.add_secure_port(str(self._bind), _credentials(self._tls))
            )
        except RuntimeError as error:
            raise AddressInUse(
                "PLUGSTATUS_GRPC_BIND", str(self._bind), "it was taken meanwhile"
            ) from error
        await self._server.start()

    def begin_drain(self) -> None:
        """Report NOT_SERVING and refuse new calls; those under way go on."""
        self._policy.begin_drain()
        self._linger_until_s = asyncio.get_running_loop().time() + _LINGER_S
        self._health.begin_drain()

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
        with suppress(TimeoutError):
            async with asyncio.timeout(_TELL_S):
                await self._health.told()
        # Health and reflection streams never end by themselves; ours have by now.
        await self._server.stop(grace=0.2)

    def _add(self, service: str, handlers: "dict[str, grpc.RpcMethodHandler[Any, Any]]") -> None:
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, handlers),)
        )

    def _handler(
        self,
        service: ServiceDescriptor,
        method: MethodDescriptor,
        unary: Mapping[str, UnaryHandler],
        streams: Mapping[str, StreamHandler],
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        parse = GetMessageClass(method.input_type).FromString
        kind = "server_stream" if method.server_streaming else "unary"
        rpc = Rpc(service.full_name, method.name, kind, _ROLES[service.name])
        if method.server_streaming:
            return _frames(self._policy.stream(rpc, parse, streams[method.name]))
        waits = method.name in _WAITING
        respond = self._policy.unary(rpc, parse, unary[method.name], waits=waits)
        # As if there were a stream of requests, so that it is the policy that reads the one.
        return grpc.stream_unary_rpc_method_handler(respond, bytes, _encoded)

    def _add_health(self) -> None:
        unary = {"Check": self._health.check, "List": self._health.list}
        streams = {"Watch": self._health.watch}
        self._add(
            _HEALTH.full_name,
            {
                name: self._handler(_HEALTH, _HEALTH.methods_by_name[name], unary, streams)
                for name in _HEALTH.methods_by_name
            },
        )

    def _add_reflection(self) -> None:
        converse = reflection.conversation((*_SERVICES, _HEALTH))
        for service in reflection.SERVICES:
            rpc = Rpc(service, reflection.METHOD, "bidi_stream", "reader")
            handler = grpc.stream_stream_rpc_method_handler(
                self._policy.conversation(rpc, converse),
                ServerReflectionRequest.FromString,
                ServerReflectionResponse.SerializeToString,
            )
            self._add(service, {reflection.METHOD: handler})


def _encoded(response: Any) -> bytes:
    """What stands in the views in the form it is answered in is encoded already."""
    return response if type(response) is bytes else response.SerializeToString()


def _frames(serve: Serve) -> "grpc.RpcMethodHandler[Any, Any]":
    # Frames come encoded already, once for all the watchers they go to.
    return grpc.stream_stream_rpc_method_handler(serve, bytes, bytes)


def _credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Those of the moment of each handshake."""

    def current() -> grpc.ServerCertificateConfiguration:
        chain = files.current()
        return grpc.ssl_server_certificate_configuration(
            [(chain.key, chain.certificate)], chain.client_ca or None
        )

    # Whether clients need a certificate is settled for as long as the server runs.
    mutual = bool(files.current().client_ca)
    return grpc.dynamic_ssl_server_credentials(current(), current, mutual)


def _bounds(limits: Limits) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_allowed_incoming_connections", limits.grpc_connections_max),
        ("grpc.max_connection_idle_ms", int(limits.grpc_idle_connection_s * 1_000)),
        # Until TLS stands and HTTP/2 has begun.
        ("grpc.server_handshake_timeout_ms", int(limits.request_s * 1_000)),
    )
