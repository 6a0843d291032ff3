"""Spans: off by default; switched on, of unary calls and of the PUT, below the caller's own."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import trustme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api
from tests.provider import Provider, respond
from tests.secured import issue
from tests.server_process import ServerProcess

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
MESSAGE = "a-message-id-that-no-span-shows"
SECRET = "inTheAddress-1234"


class Collector:
    """An OTLP receiver over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.bodies = b""
        collector = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.bodies += body
                request = ExportTraceServiceRequest.FromString(body)
                collector.spans += [
                    span
                    for resource in request.resource_spans
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.server.shutdown()
    running.server.server_close()


def _attributes(span: Any) -> dict[str, Any]:
    return {one.key: one.value.int_value or one.value.string_value for one in span.attributes}


async def test_spans_of_calls_and_of_the_put(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's span is the parent of ours, and ours that of the PUT; no span tells of whom."""
    port = collector.server.server_address[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    authority = trustme.CA()
    files = issue(tmp_path, authority)
    metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
    async with Provider(authority) as plugchat:
        plugchat.will(respond(200))
        settings = {
            "TRACING": "on",
            "PLUGCHAT_URL": plugchat.url,
            "PLUGCHAT_CA_FILE": str(files.ca),
            "PLUGCHAT_INSTANCE": "acme",
            "PLUGCHAT_AUTHORIZATION": "authorization",
        }
        with ServerProcess(tmp_path / "data", settings) as server:
            api = Api(server.grpc)
            with pytest.raises(grpc.aio.AioRpcError):
                await api.status.GetMessageStatus(
                    pb.GetMessageStatusRequest(message_id=MESSAGE), metadata=metadata, timeout=20
                )
            await api.admin.UpdateWebhook(
                pb.UpdateWebhookRequest(
                    instance="acme", url=f"https://hooks.example.com/?token={SECRET}"
                ),
                metadata=metadata,
                timeout=60,
            )
            await api.channel.close()
            code = await asyncio.to_thread(server.stop)
    spans = {span.name.rpartition("/")[2]: span for span in collector.spans}

    assert code == 0
    assert spans.keys() >= {"GetMessageStatus", "UpdateWebhook", "PUT"}
    for name in ("GetMessageStatus", "UpdateWebhook"):
        assert spans[name].trace_id.hex() == TRACE
        assert spans[name].parent_span_id.hex() == PARENT
    assert spans["PUT"].trace_id.hex() == TRACE
    assert spans["PUT"].parent_span_id == spans["UpdateWebhook"].span_id
    assert _attributes(spans["GetMessageStatus"])["rpc.grpc.status_code"] == 5
    assert _attributes(spans["PUT"]) == {
        "http.request.method": "PUT",
        "server.address": "localhost",
        "http.response.status_code": 200,
    }
    assert "traceparent" not in plugchat.requests[0].headers
    for hidden in (MESSAGE, SECRET, "hooks.example.com", "authorization"):
        assert hidden.encode() not in collector.bodies


async def test_without_the_setting_nothing_is_sent(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the environment says of where to."""
    port = collector.server.server_address[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    with ServerProcess(tmp_path / "data") as server:
        api = Api(server.grpc)
        await api.admin.GetServiceStatus(pb.GetServiceStatusRequest(), timeout=20)
        await api.channel.close()
        await asyncio.to_thread(server.stop)

    assert collector.bodies == b""
