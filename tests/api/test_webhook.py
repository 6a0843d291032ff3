"""UpdateWebhook and GetWebhook: a real server, and a real HTTPS provider on loopback."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import CompletedProcess

import grpc
import grpc.aio
import httpx
import pytest
import trustme

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, bad_request, callback, error_info, fresh_id, post
from tests.command import plugstatus
from tests.provider import PATH, Provider, drop, respond
from tests.server_process import ServerProcess

TOKEN = "1nEFbU3EktLnV7LIIzX"
URL = "https://hooks.example.com/instancia/acme/status?token=q9secret8x"
SHOWN = "https://hooks.example.com/instancia/acme/status?token=REDACTED"


class Site:
    """A server, its provider, and clients of both."""

    def __init__(self, server: ServerProcess, provider: Provider) -> None:
        self.server = server
        self.provider = provider
        self.api = Api(server.grpc)

    async def update(self, **fields: object) -> pb.Webhook:
        request = pb.UpdateWebhookRequest(**{"instance": "acme", "url": URL, **fields})  # type: ignore[arg-type]
        response: pb.UpdateWebhookResponse = await self.api.admin.UpdateWebhook(request, timeout=28)
        return response.webhook

    async def get(self) -> pb.Webhook:
        response: pb.GetWebhookResponse = await self.api.admin.GetWebhook(
            pb.GetWebhookRequest(instance="acme")
        )
        return response.webhook


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with Provider(authority) as provider:
        provider.will(respond(200))
        settings = {
            "PLUGCHAT_URL": provider.url,
            "PLUGCHAT_CA_FILE": str(tmp_path / "ca.pem"),
            "PLUGCHAT_INSTANCE": "acme",
            "PLUGCHAT_AUTHORIZATION": TOKEN,
        }
        with ServerProcess(tmp_path / "data", settings) as server:
            site = Site(server, provider)
            yield site
            await site.api.channel.close()


async def test_exact_request_of_the_document(site: Site) -> None:
    """The PUT has the documented path, header and body, and the answer is ACCEPTED."""
    webhook = await site.update()
    (request,) = site.provider.requests

    assert request.line == f"PUT {PATH} HTTP/1.1"
    assert request.headers["authorization"] == TOKEN
    assert request.headers["content-type"] == "application/json"
    assert request.body == json.dumps({"value": URL}).encode()
    assert webhook.state == pb.WEBHOOK_STATE_ACCEPTED
    assert (webhook.url, webhook.url_in_force) == (SHOWN, SHOWN)
    assert webhook.updated_by == "local"
    assert await site.get() == webhook


async def test_confirmed_by_the_next_callback(site: Site) -> None:
    """Any recorded callback of the instance confirms an accepted address."""
    await site.update()
    async with httpx.AsyncClient(base_url=site.server.http, trust_env=False) as http:
        message_id = fresh_id()
        cursor = await post(http, callback(message_id), "acme")
    await site.api.get(message_id, min_cursor=cursor)

    assert (await site.get()).state == pb.WEBHOOK_STATE_CONFIRMED


@pytest.mark.parametrize(
    ("status", "code", "reason", "state"),
    [
        (401, grpc.StatusCode.FAILED_PRECONDITION, "PLUGCHAT_UNAUTHORIZED", "REJECTED"),
        (403, grpc.StatusCode.FAILED_PRECONDITION, "PLUGCHAT_UNAUTHORIZED", "REJECTED"),
        (405, grpc.StatusCode.FAILED_PRECONDITION, "PLUGCHAT_METHOD_NOT_ALLOWED", "REJECTED"),
        (415, grpc.StatusCode.FAILED_PRECONDITION, "PLUGCHAT_UNSUPPORTED_MEDIA_TYPE", "REJECTED"),
        (422, grpc.StatusCode.FAILED_PRECONDITION, "PLUGCHAT_REJECTED", "REJECTED"),
        (302, grpc.StatusCode.FAILED_PRECONDITION, "PLUGCHAT_REJECTED", "REJECTED"),
        (429, grpc.StatusCode.RESOURCE_EXHAUSTED, "PLUGCHAT_RATE_LIMITED", "REJECTED"),
        (500, grpc.StatusCode.UNAVAILABLE, "PLUGCHAT_UNAVAILABLE", "UNKNOWN"),
    ],
)
async def test_refusal_is_told_and_recorded(
    site: Site, status: int, code: grpc.StatusCode, reason: str, state: str
) -> None:
    """Each answer of the provider has its code, its reason and its recorded state."""
    await site.update(url="https://hooks.example.com/first")
    site.provider.will(respond(status, b"{}", "Location: https://elsewhere.example.com/"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await site.update()
    webhook = await site.get()

    assert caught.value.code() is code
    assert error_info(caught.value).reason == reason
    assert webhook.state == pb.WebhookState.Value(f"WEBHOOK_STATE_{state}")
    assert webhook.url == SHOWN
    assert webhook.url_in_force == "https://hooks.example.com/first"
    assert webhook.last_error


async def test_connection_that_drops_is_tried_again(site: Site) -> None:
    """A dropped connection is tried again, three times at most, and then UNAVAILABLE."""
    site.provider.will(drop, drop, respond(200))
    webhook = await site.update()
    tried = len(site.provider.requests)
    site.provider.will(drop)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await site.update()

    assert webhook.state == pb.WEBHOOK_STATE_ACCEPTED
    assert (tried, len(site.provider.requests)) == (3, 6)
    assert error_info(caught.value).reason == "PLUGCHAT_UNAVAILABLE"


async def test_validate_only_sends_nothing(site: Site) -> None:
    """validate_only checks fields and credentials, sends nothing and records nothing."""
    await site.update(validate_only=True)
    with pytest.raises(grpc.aio.AioRpcError) as no_credentials:
        await site.update(validate_only=True, instance="other")
    with pytest.raises(grpc.aio.AioRpcError) as not_recorded:
        await site.get()

    assert site.provider.requests == []
    assert error_info(no_credentials.value).reason == "PLUGCHAT_CREDENTIALS_MISSING"
    assert error_info(not_recorded.value).reason == "WEBHOOK_NOT_FOUND"


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://user:pw@hooks.example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://localhost/",
        "https://a.localhost/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com/" + "x" * 2048,
        "",
    ],
)
async def test_address_that_is_not_allowed(site: Site, url: str) -> None:
    """An address that breaks a rule is a field violation, and nothing is sent."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await site.update(url=url)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert {violation.field for violation in bad_request(caught.value).field_violations} == {"url"}
    assert site.provider.requests == []


async def test_request_id_makes_a_repeat_harmless(site: Site) -> None:
    """A heard answer is repeated without sending; another request under the id is refused."""
    request_id = str(uuid.uuid4())
    first = await site.update(request_id=request_id)
    again = await site.update(request_id=request_id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await site.update(request_id=request_id, url="https://hooks.example.com/other")

    assert again == first
    assert len(site.provider.requests) == 1
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_info(caught.value).reason == "REQUEST_ID_REUSED"


async def test_secrets_are_nowhere(site: Site) -> None:
    """Neither the authorization nor the address's query is in a file, log line or answer."""
    webhook = await site.update()
    site.provider.will(respond(401, TOKEN.encode() + URL.encode()))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await site.update()
    async with httpx.AsyncClient(trust_env=False) as ops:
        metrics = (await ops.get(f"{site.server.ops}/metrics")).text
    command = plugstatus("webhook", "--instance", "acme", API_TARGET=site.server.grpc)
    assert site.server.stop() == 0
    files = [path.read_bytes() for path in site.server.data_dir.iterdir()]
    texts = [
        str(webhook),
        str(caught.value),
        str(caught.value.trailing_metadata()),
        metrics,
        command.stdout + command.stderr,
        *site.server.log,
    ]

    assert len(files) >= 3
    for secret in (TOKEN, "q9secret8x"):
        assert [text for text in texts if secret in text] == []
        assert [file for file in files if secret.encode() in file] == []


async def test_command_reads_the_address_from_stdin(site: Site) -> None:
    """`update-webhook -` keeps the address out of the process list; `webhook` shows the result."""

    async def run(*arguments: str, stdin: str = "") -> "CompletedProcess[str]":
        # On a thread: the provider answers on this loop.
        target = site.server.grpc
        return await asyncio.to_thread(plugstatus, *arguments, stdin=stdin, API_TARGET=target)

    updated = await run("update-webhook", "--instance", "acme", "-", stdin=URL + "\n")
    shown = await run("webhook", "--instance", "acme", "--json")
    absent = await run("webhook", "--instance", "other")

    assert updated.returncode == 0, updated.stderr
    assert json.loads(shown.stdout)["url"] == SHOWN
    assert absent.returncode == 1
