"""Requests that nobody would send, to a real server: answered each time, never with our fault."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import callback, error_info, fresh_id, post
from tests.server_process import ServerProcess

EXAMPLES = 45
PATIENCE_S = 20.0
RPCS = [method for one in pb.DESCRIPTOR.services_by_name.values() for method in one.methods]
OUR_FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir: Path = tmp_path_factory.mktemp("data")
    with ServerProcess(data_dir, {"WEBHOOK_TOKEN": "right"}) as process:
        yield process
        assert not [line for line in process.log if '"error"' in line or "Traceback" in line]


tokens = st.sampled_from(["POST", "GET", "PUT", "HEAD", "OPTIONS", "CONNECT", "X", "post", "P@ST"])
segments = st.one_of(
    st.sampled_from(
        ["instancia", "acme", "status", "..", ".", "%2e%2e", "a%2Fb", "%00", "%zz", ""]
    ),
    st.text("abc%./;~é", max_size=8),
)
paths = st.one_of(
    st.just("/instancia/acme/status"),
    st.lists(segments, max_size=6).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(["*", "http://x/instancia/acme/status", "//", "/metrics", "/readyz"]),
)
queries = st.sampled_from(
    ["", "?token=right", "?token=right&token=right", "?%74oken=right", "?&&=&"]
)
names = st.sampled_from(
    [
        "Content-Type",
        "Content-Length",
        "Transfer-Encoding",
        "Content-Encoding",
        "Expect",
        "Host",
        "Connection",
        "Upgrade",
        "X",
        "content-type",
        "Trailer",
        "Range",
    ]
)
values = st.one_of(
    st.sampled_from(["application/json", "gzip", "chunked", "identity", "0", "5", "-1", "1e9"])
    | st.sampled_from(["100-continue", "close", "h2c", "text/plain", "99999999999999999999", ""]),
    st.text(st.characters(codec="latin-1"), max_size=30),
)
bodies = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"{}", b'{"type":"X"}', b"5\r\nabcde\r\n0\r\n\r\n", b""]),
)


@settings(max_examples=EXAMPLES)
@given(
    method=tokens,
    path=paths,
    query=queries,
    version=st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", ""]),
    headers=st.lists(st.tuples(names, values), max_size=6),
    body=bodies,
    newline=st.sampled_from(["\r\n", "\r\n", "\r\n", "\n"]),
)
def test_any_http_request_is_answered_or_ended(
    server: ServerProcess,
    method: str,
    path: str,
    query: str,
    version: str,
    headers: list[tuple[str, str]],
    body: bytes,
    newline: str,
) -> None:
    """With a status that is the sender's to change, or 503, or the end of the connection."""
    lines = [f"{method} {path}{query} {version}", *(f"{name}: {one}" for name, one in headers)]
    head = newline.join([*lines, "", ""]).encode("utf-8", "surrogateescape")
    host, _, port = server.http.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)
        answer = bytearray()
        try:
            while chunk := connection.recv(65_536):
                answer += chunk
        except ConnectionResetError:
            pass
    codes = [
        int(line.split()[1]) for line in bytes(answer).split(b"\r\n") if line.startswith(b"HTTP/1.")
    ]

    assert all(code < 500 or code == httpx.codes.SERVICE_UNAVAILABLE for code in codes), codes
    assert codes or not answer


async def test_callbacks_are_recorded_beside_all_that(server: ServerProcess) -> None:
    """The server is as it was."""
    async with httpx.AsyncClient(
        base_url=server.http, params={"token": "right"}, trust_env=False
    ) as http:
        assert await post(http, callback(fresh_id()))


texts = st.one_of(
    st.sampled_from(["", "acme", "M1", "a/b", "..", "\0", "é" * 200, "x" * 5_000, "https://h/"]),
    st.text(max_size=20),
)
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: texts,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_ENUM: st.sampled_from([0, 10, 40, 50, 70, 80, 99, -1, 2**31 - 1]),
}


def _messages(descriptor: Any) -> st.SearchStrategy[Any]:
    """Any message of that type, by its fields."""

    @st.composite
    def made(draw: st.DrawFn) -> Any:
        message = GetMessageClass(descriptor)()
        fields = list(descriptor.fields)
        chosen = draw(st.sets(st.sampled_from(range(len(fields))))) if fields else set()
        for field in (fields[at] for at in sorted(chosen)):
            if field.message_type is not None:
                getattr(message, field.name).CopyFrom(draw(_messages(field.message_type)))
            elif field.is_repeated:
                found = draw(st.lists(_SCALARS[field.type], max_size=4))
                getattr(message, field.name).extend(found)
            else:
                setattr(message, field.name, draw(_SCALARS[field.type]))
        return message

    return made()


async def _ended(target: str, method: MethodDescriptor, request: bytes) -> grpc.StatusCode:
    """What the call came to: OK for a stream that sends something."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    async with grpc.aio.insecure_channel(target) as channel:
        make: Any = channel.unary_stream if method.server_streaming else channel.unary_unary
        call = make(path)(request, timeout=0.5 if method.name == "WaitForStatus" else PATIENCE_S)
        try:
            await (call.read() if method.server_streaming else call)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                error_info(error)
            return error.code()
        call.cancel()
        return grpc.StatusCode.OK


@pytest.mark.parametrize("method", RPCS, ids=lambda method: str(method.name))
@settings(max_examples=EXAMPLES // 3)
@given(data=st.data(), raw=st.binary(max_size=40))
def test_any_grpc_request_is_answered(
    server: ServerProcess, method: MethodDescriptor, data: st.DataObject, raw: bytes
) -> None:
    """Well formed or not, with an error that carries its reason, and never INTERNAL."""
    made = data.draw(_messages(method.input_type)).SerializeToString()
    codes = [
        asyncio.run(_ended(server.grpc, method, request)) for request in (made, raw, made + raw)
    ]

    assert not OUR_FAULTS & set(codes)
