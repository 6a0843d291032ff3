"""Server reflection, as generic clients use it."""

import asyncio
import json
import sys
from pathlib import Path

import grpc.aio
import httpx
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2

from tests.calls import SEED_BODY, Api, post
from tests.server_process import ServerProcess

SERVICES = {"plugchat.status.v1.MessageStatusService", "plugchat.status.v1.AdminService"}


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_both_versions_describe_the_services(server: ServerProcess, version: str) -> None:
    """Reflection names both services, and the file it gives has the name the proto has."""
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="plugchat.status.v1.MessageStatusService"
        ),
    ]
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        answers = [answer async for answer in ask(iter(requests), timeout=20)]
    named = {service.name for service in answers[0].list_services_response.service}
    encoded = answers[1].file_descriptor_response.file_descriptor_proto
    files = {FileDescriptorProto.FromString(one).name for one in encoded}

    assert named >= SERVICES
    assert "plugchat/status/v1/status.proto" in files


async def test_all_that_is_named_is_described(server: ServerProcess) -> None:
    """Every service that is listed can be asked for, with the files that its file needs."""
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        ask = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (listed,) = [answer async for answer in ask(iter([request]), timeout=20)]
        names = [service.name for service in listed.list_services_response.service]
        requests = [
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
            for name in (*names, "google.rpc.ErrorInfo")
        ]
        answers = [answer async for answer in ask(iter(requests), timeout=20)]

    for name, answer in zip((*names, "google.rpc.ErrorInfo"), answers, strict=True):
        pool = DescriptorPool()
        files = answer.file_descriptor_response.file_descriptor_proto
        for one in sorted(
            files, key=lambda one: len(FileDescriptorProto.FromString(one).dependency)
        ):
            pool.AddSerializedFile(one)
        assert pool.FindFileContainingSymbol(name).name
    assert len(names) == len(set(names)) == len(SERVICES) + 3


async def test_nothing_else_is_described(server: ServerProcess) -> None:
    """What other libraries have loaded is nobody's business."""
    request = reflection_pb2.ServerReflectionRequest(file_by_filename="google/api/http.proto")
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        ask = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        (answer,) = [answer async for answer in ask(iter([request]), timeout=20)]

    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_buf_curl_needs_no_proto_file(
    server: ServerProcess, http: httpx.AsyncClient, api: Api
) -> None:
    """The README's `buf curl` works by reflection alone."""
    cursor = await post(http, SEED_BODY)
    message = await api.get(SEED_BODY["ids"][0], min_cursor=cursor)  # type: ignore[index]
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "buf"),
        *("curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d"),
        json.dumps({"message_id": message.message_id}),
        f"http://{server.grpc}/plugchat.status.v1.MessageStatusService/GetMessageStatus",
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0
    assert json.loads(output)["message"]["status"] == "STATUS_RECEIVED"
