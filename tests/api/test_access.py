"""Tokens at a real server: who is let in, what for, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, error_info, fresh_id, post
from tests.secured import TokenFile, bearer
from tests.server_process import ServerProcess

RPCS = {
    f"{service.full_name}/{method.name}": method
    for service in pb.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
GARBAGE = b"\xff\xff\xff"


class Guarded:
    """A server with tokens, and a channel to it."""

    def __init__(self, server: ServerProcess, tokens: TokenFile) -> None:
        self.server = server
        self.tokens = tokens
        self.api = Api(server.grpc)

    async def raw(
        self, method: MethodDescriptor, request: bytes, metadata: tuple[tuple[str, str], ...]
    ) -> tuple[str, str]:
        """Code and reason of what an rpc answers these very bytes."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        make: Any = (
            self.api.channel.unary_stream
            if method.server_streaming
            else self.api.channel.unary_unary
        )
        call = make(path)(request, metadata=metadata, timeout=20)
        try:
            await (call.read() if method.server_streaming else call)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error_info(error).reason
        return "OK", ""


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    tokens = TokenFile(tmp_path / "tokens.toml")
    tokens.put("reading", "reader", "reader")
    tokens.put("ruling", "ruler", "admin")
    settings = {"API_TOKENS_FILE": str(tokens.path)}
    with ServerProcess(tmp_path / "data", settings) as server:
        site = Guarded(server, tokens)
        yield site
        await site.api.channel.close()


async def test_every_rpc_asks_for_token_and_role_first(guarded: Guarded) -> None:
    """Before anything of the request is looked at, be it garbage."""
    for name, method in RPCS.items():
        is_admin = method.containing_service.name == "AdminService"
        answers = [
            await guarded.raw(method, GARBAGE, metadata)
            for metadata in ((), bearer("wrong"), bearer("reading"), bearer("ruling"))
        ]
        assert [name, *answers] == [
            name,
            ("UNAUTHENTICATED", "TOKEN_MISSING"),
            ("UNAUTHENTICATED", "TOKEN_INVALID"),
            ("PERMISSION_DENIED", "ROLE_REQUIRED")
            if is_admin
            else ("INVALID_ARGUMENT", "FIELD_INVALID"),
            ("INVALID_ARGUMENT", "FIELD_INVALID"),
        ]


async def test_health_is_open(guarded: Guarded) -> None:
    """None of it needs a token; an unknown service is NOT_FOUND, or SERVICE_UNKNOWN."""
    health = health_pb2_grpc.HealthStub(guarded.api.channel)
    answers = [
        (await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)).status
        for name in (
            "",
            *(service.full_name for service in pb.DESCRIPTOR.services_by_name.values()),
        )
    ]
    watches = [
        health.Watch(health_pb2.HealthCheckRequest(service=name), timeout=20)
        for name in ("", "unknown")
    ]
    told = [(await watch.read()).status for watch in watches]
    listed = await health.List(health_pb2.HealthListRequest(), timeout=20)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Check(health_pb2.HealthCheckRequest(service="unknown"), timeout=20)

    response = health_pb2.HealthCheckResponse
    assert answers == [response.SERVING] * 3
    assert told == [response.SERVING, response.SERVICE_UNKNOWN]
    assert {name: one.status for name, one in listed.statuses.items()} == dict.fromkeys(
        ["", *(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())],
        response.SERVING,
    )
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_needs_a_reader(guarded: Guarded, version: str) -> None:
    """It would tell a stranger what there is to call."""
    ask: Any = guarded.api.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    reasons = []
    for metadata in ((), bearer("wrong")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(iter([request]), metadata=metadata, timeout=20).read()
        reasons.append(error_info(caught.value).reason)
    answer = await ask(iter([request]), metadata=bearer("reading"), timeout=20).read()

    assert reasons == ["TOKEN_MISSING", "TOKEN_INVALID"]
    assert answer.list_services_response.service


async def test_who_changes_the_webhook_is_named(guarded: Guarded) -> None:
    """By the token's name; GetServiceStatus names watchers' likewise."""
    stream = guarded.api.status.WatchStatuses(
        pb.WatchStatusesRequest(from_now=True), metadata=bearer("reading"), timeout=60
    )
    await stream.read()
    request = pb.UpdateWebhookRequest(
        instance="acme", url="https://hooks.example.com/x?token=t", validate_only=True
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await guarded.api.admin.UpdateWebhook(request, metadata=bearer("ruling"), timeout=20)
    status = await guarded.api.admin.GetServiceStatus(
        pb.GetServiceStatusRequest(), metadata=bearer("ruling"), timeout=20
    )

    assert error_info(caught.value).reason == "PLUGCHAT_CREDENTIALS_MISSING"
    assert [watcher.caller for watcher in status.watchers] == ["reader"]


async def test_tokens_are_rotated_while_the_server_runs(guarded: Guarded) -> None:
    """A new one is let in; one that was taken out ends its streams, its waits and its calls."""
    held = guarded.tokens.add("held", "reader")
    async with asyncio.timeout(20):
        # The file is looked at once a second.
        while await _reason(guarded, bearer(held)) == "TOKEN_INVALID":
            pass
    request = pb.WatchStatusesRequest(from_now=True, filter=pb.WatchFilter(message_ids=["never"]))
    request.progress_interval.FromSeconds(1)
    stream = guarded.api.status.WatchStatuses(request, metadata=bearer(held), timeout=60)
    opened = await stream.read()
    message_id = fresh_id()
    waiting = guarded.api.status.WaitForStatus(
        pb.WaitForStatusRequest(message_id=message_id, at_least=pb.STATUS_SENT),
        metadata=bearer(held),
        timeout=60,
    )
    await _waits(guarded, 1)
    guarded.tokens.remove(held)
    async with asyncio.timeout(20):
        while await _reason(guarded, bearer(held)) != "TOKEN_INVALID":
            pass
    async with httpx.AsyncClient(base_url=guarded.server.http, trust_env=False) as http:
        await post(http, callback(message_id))
    ends = []
    for call in (stream, waiting):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _ended(call)
        ends.append(error_info(caught.value).reason)

    assert opened.WhichOneof("frame") == "opened"
    assert ends == ["TOKEN_INVALID", "TOKEN_INVALID"]


async def _reason(guarded: Guarded, metadata: tuple[tuple[str, str], ...]) -> str:
    try:
        await guarded.api.status.GetMessageStatus(
            pb.GetMessageStatusRequest(message_id="unknown"), metadata=metadata, timeout=20
        )
    except grpc.aio.AioRpcError as error:
        return str(error_info(error).reason)
    raise AssertionError("found")


async def _waits(guarded: Guarded, count: int) -> None:
    async with asyncio.timeout(20):
        while True:
            status = await guarded.api.admin.GetServiceStatus(
                pb.GetServiceStatusRequest(), metadata=bearer("ruling"), timeout=20
            )
            if status.wait_count == count:
                return


async def _ended(call: Any) -> None:
    """Read to the end. Raises what it ends with."""
    if hasattr(call, "read"):
        while await call.read() != grpc.aio.EOF:
            pass
    else:
        await call
