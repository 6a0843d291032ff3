"""What a caller of the gRPC server can cost: real sockets, limits of the test's own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service import config
from service.api.access import Access
from service.api.calls import Call, Policy, Write
from service.api.server import GrpcServer
from service.clock import SystemClock
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from service.telemetry import Metrics
from tests.calls import error_info
from tests.secured import TokenFile, bearer

PATIENCE_S = 20.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How an HTTP/2 connection begins: the client's preface and empty settings."""

SERVICES = pb.DESCRIPTOR.services_by_name
GET = "/plugchat.status.v1.MessageStatusService/GetMessageStatus"
WATCH = "/plugchat.status.v1.MessageStatusService/WatchStatuses"


class Site:
    """A server whose unary calls last until `release`, and whose streams send one frame first."""

    def __init__(self, tokens: TokenFile | None, **limits: Any) -> None:
        settings = {"API_TOKENS_FILE": str(tokens.path)} if tokens else {}
        loaded = config.load({"GRPC_BIND": "127.0.0.1:0", **settings})
        bounded = replace(loaded.limits, **limits)
        self.release = asyncio.Event()
        self.begun = 0
        self._more = asyncio.Condition()
        methods = [method for service in SERVICES.values() for method in service.methods]
        access = Access(loaded, SystemClock())
        self.server = GrpcServer(
            loaded.grpc_bind,
            bounded,
            Policy(SystemClock(), bounded, Metrics(), access),
            unary={one.name: self._last for one in methods if not one.server_streaming},
            streams={one.name: self._stream for one in methods if one.server_streaming},
        )

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def begins(self, count: int) -> None:
        """Wait until so many calls are with their handlers."""
        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: self.begun >= count)

    async def _begin(self) -> None:
        async with self._more:
            self.begun += 1
            self._more.notify_all()

    async def _last(self, _request: Any, _call: Call) -> Any:
        await self._begin()
        await self.release.wait()
        return pb.GetMessageStatusResponse()

    async def _stream(self, _request: Any, _call: Call, write: Write) -> None:
        await self._begin()
        await write(b"")
        await self.release.wait()


@contextlib.asynccontextmanager
async def running(tokens: TokenFile | None = None, **limits: Any) -> AsyncIterator[Site]:
    site = Site(tokens, **limits)
    await site.server.start()
    try:
        yield site
    finally:
        site.release.set()
        site.server.begin_drain()
        await site.server.stop(1)


async def _limit(call: Any) -> tuple[str, str, str]:
    """Code, reason and limit that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if hasattr(call, "read") else call)
    info = error_info(caught.value)
    return caught.value.code().name, info.reason, info.metadata["limit"]


async def _first_frame(channel: Any, metadata: Any = ()) -> bytes:
    """Of a watch that is well."""
    frame: bytes = await channel.unary_stream(WATCH)(b"", metadata=metadata).read()
    return frame


@pytest.mark.parametrize("rpc", ["GetMessageStatus", "WaitForStatus"])
async def test_calls_are_bounded_in_all_and_by_token(tmp_path: Path, rpc: str) -> None:
    """One token's calls leave places to others; beyond either bound it is told which."""
    tokens = TokenFile(tmp_path / "tokens.toml")
    one, other = tokens.add("one", "reader"), tokens.add("other", "reader")
    kind = "waits" if rpc == "WaitForStatus" else "unary_calls"
    limits = {f"{kind}_max": 3, f"{kind}_of_token_max": 2}
    async with running(tokens, **limits) as site, grpc.aio.insecure_channel(site.target) as channel:
        stub: Any = stubs.MessageStatusServiceStub(channel)
        call = getattr(stub, rpc)
        request = pb.GetMessageStatusRequest if kind == "unary_calls" else pb.WaitForStatusRequest
        held = [asyncio.ensure_future(call(request(), metadata=bearer(one))) for _ in range(2)]
        await site.begins(2)
        refused = [await _limit(call(request(), metadata=bearer(one)))]
        held.append(asyncio.ensure_future(call(request(), metadata=bearer(other))))
        await site.begins(3)
        refused.append(await _limit(call(request(), metadata=bearer(other))))
        site.release.set()
        await asyncio.gather(*held)
        await call(request(), metadata=bearer(one))

    code = ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    assert refused == [(*code, f"{kind}_of_token_max"), (*code, f"{kind}_max")]


async def test_a_server_without_tokens_has_no_limit_by_token() -> None:
    """`local` may take every place."""
    async with (
        running(unary_calls_max=3, unary_calls_of_token_max=1) as site,
        grpc.aio.insecure_channel(site.target) as channel,
    ):
        get: Any = channel.unary_unary(GET)
        held = [asyncio.ensure_future(get(b"")) for _ in range(3)]
        await site.begins(3)
        site.release.set()

        assert len(await asyncio.gather(*held)) == 3


@pytest.mark.parametrize("path", [GET, WATCH])
async def test_a_request_that_never_comes_is_not_waited_for(path: str) -> None:
    """A call is begun and its request is not sent: it ends, and takes no place for longer."""
    async with (
        running(request_s=0.2, unary_calls_max=1) as site,
        grpc.aio.insecure_channel(site.target) as channel,
    ):
        half_open: Any = channel.stream_stream(path)()
        told = await _limit(half_open)
        frame = await _first_frame(channel)

    assert told == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "request_s")
    assert frame == b""


async def test_half_open_calls_take_places_only_with_a_token(tmp_path: Path) -> None:
    """Whoever has no token is refused before anything is waited for."""
    tokens = TokenFile(tmp_path / "tokens.toml")
    token = tokens.add("one", "reader")
    async with (
        running(tokens, request_s=PATIENCE_S, unary_calls_max=1) as site,
        grpc.aio.insecure_channel(site.target) as channel,
    ):
        calls: list[Any] = [channel.stream_stream(WATCH)() for _ in range(20)]
        reasons = []
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call.read()
            reasons.append(error_info(caught.value).reason)
        frame = await _first_frame(channel, bearer(token))

    assert reasons == ["TOKEN_MISSING"] * len(calls)
    assert frame == b""


async def test_a_call_without_a_request_is_refused() -> None:
    """Closed by its client before anything was asked."""
    async with running() as site, grpc.aio.insecure_channel(site.target) as channel:
        call: Any = channel.stream_unary(GET)(iter(()))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(caught.value).reason == "FIELD_INVALID"


async def test_health_watchers_are_bounded_and_in_nobodys_way() -> None:
    """They need no token, so they have places of their own."""
    async with (
        running(health_calls_max=2, unary_calls_max=1) as site,
        grpc.aio.insecure_channel(site.target) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
        for watch in watches:
            await watch.read()
        told = await _limit(health.Watch(health_pb2.HealthCheckRequest()))
        frame = await _first_frame(channel)
        site.server.begin_drain()
        drained = [(await watch.read()).status for watch in watches]

    assert told == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "health_calls_max")
    assert frame == b""
    assert drained == [health_pb2.HealthCheckResponse.NOT_SERVING] * 2


async def test_reflection_is_bounded() -> None:
    """A stream that asks nothing is held by its caller, in a place of its own."""
    path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    async with (
        running(reflections_max=1) as site,
        grpc.aio.insecure_channel(site.target) as channel,
    ):
        ask: Any = channel.stream_stream(path)
        first = ask()
        await first.write(b"\x3a\x00")
        await first.read()
        second = ask()
        await second.write(b"\x3a\x00")
        told = await _limit(second)

    assert told == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", "reflections_max")


async def test_connections_are_bounded_in_number_and_in_time() -> None:
    """One too many is closed at once; one that never speaks, and an idle one, in time."""
    limits: dict[str, Any] = {
        "grpc_connections_max": 2,
        "request_s": 1.0,
        "grpc_idle_connection_s": 1.0,
    }
    async with running(**limits) as site:
        opened = [await _http2(site) for _ in range(2)]
        greeted = [await reader.read(9) for reader, _ in opened]
        reader, writer = await _http2(site)
        with contextlib.suppress(ConnectionResetError):
            refused = await reader.read()
        writer.close()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(reader.read() for reader, _ in opened))
        for _, writer in opened:
            writer.close()
        silent, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        async with asyncio.timeout(PATIENCE_S):
            ended = await silent.read()
        writer.close()

    assert all(greeted)
    assert refused == b""
    assert ended is not None


async def _http2(site: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(PREFACE)
    return reader, writer


@pytest.mark.parametrize("size", [20_000, 1_000_000])
async def test_huge_metadata_is_refused(size: int) -> None:
    """By its size, whatever it says; a call beside it goes on."""
    async with running() as site, grpc.aio.insecure_channel(site.target) as channel:
        site.release.set()
        get: Any = channel.unary_unary(GET)
        async with grpc.aio.insecure_channel(site.target) as other:
            huge: Any = other.unary_unary(GET)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await huge(b"", metadata=(("x", "y" * size),), timeout=PATIENCE_S)
        await get(b"", timeout=PATIENCE_S)

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_request_that_is_too_large_is_refused() -> None:
    """Over 1 MiB; a call beside it goes on."""
    async with running() as site, grpc.aio.insecure_channel(site.target) as channel:
        site.release.set()
        get: Any = channel.unary_unary(GET)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await get(b"x" * (1024 * 1024 + 1), timeout=PATIENCE_S)
        await get(b"", timeout=PATIENCE_S)

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
