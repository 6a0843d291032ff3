"""Secrets are in no event, view, log line, metric, answer or error, whatever goes wrong."""

import asyncio
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio
import httpx
import psycopg
import pytest
import trustme
from psycopg import sql

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests import provider
from tests.calls import Api, callback, fresh_id, post
from tests.provider import Provider
from tests.secured import TokenFile, bearer, issue
from tests.server_process import ServerProcess

pytestmark = pytest.mark.both_stores

WEBHOOK_TOKEN = "webhookTokenOfTheVariable-4711"
FILE_TOKEN = "webhookTokenOfTheFile-4712"
WRONG_TOKEN = "somebodyGuessed-4713"
ADMIN_TOKEN = "pst_adminsBearer-4714"
WRONG_BEARER = "pst_guessedBearer-4715"
AUTHORIZATION = "plugchatAuthorization-4716"
PAIR_AUTHORIZATION = "plugchatAuthorizationOfThePair-4717"
IN_ADDRESS = "inTheWebhooksAddress-4718"
BARE_KEY = "aBareKeyInTheAddress-4719"
IN_BROKEN_FILE = "inAFileThatBreaks-4720"
IN_REDIRECT = "inTheProvidersRedirect-4721"

SECRETS = [
    WEBHOOK_TOKEN,
    FILE_TOKEN,
    WRONG_TOKEN,
    ADMIN_TOKEN,
    WRONG_BEARER,
    AUTHORIZATION,
    PAIR_AUTHORIZATION,
    IN_ADDRESS,
    BARE_KEY,
    IN_BROKEN_FILE,
    IN_REDIRECT,
]
ADDRESS = f"https://hooks.example.com/instancia/acme/status?token={IN_ADDRESS}&{BARE_KEY}"


class Heard:
    """All that was answered, as text."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def http(self, response: httpx.Response) -> None:
        self.texts += [str(response.headers), response.text]

    async def grpc(self, call: Any) -> str:
        """The answer or the error; its code."""
        try:
            self.texts.append(str(await call))
        except grpc.aio.AioRpcError as error:
            self.texts += [str(error), repr(error.trailing_metadata()), str(error.details())]
            return error.code().name
        return "OK"


async def test_no_secret_is_anywhere(tmp_path: Path) -> None:
    """Everything that takes a secret is used rightly and wrongly, and all that comes of it read."""
    authority = trustme.CA()
    files = issue(tmp_path, authority)
    tokens = TokenFile(tmp_path / "tokens.toml")
    tokens.put(ADMIN_TOKEN, "ruler", "admin")
    webhook_file = tmp_path / "webhook-tokens"
    webhook_file.write_text(FILE_TOKEN)
    credentials = tmp_path / "credentials.toml"
    credentials.write_text(f'[instance.acme]\nauthorization = "{AUTHORIZATION}"\n')
    heard = Heard()
    async with Provider(authority) as plugchat:
        server = ServerProcess(
            tmp_path / "data",
            {
                "WEBHOOK_TOKEN": WEBHOOK_TOKEN,
                "WEBHOOK_TOKEN_FILE": str(webhook_file),
                "API_TOKENS_FILE": str(tokens.path),
                "PLUGCHAT_CREDENTIALS_FILE": str(credentials),
                "PLUGCHAT_INSTANCE": "pair",
                "PLUGCHAT_AUTHORIZATION": PAIR_AUTHORIZATION,
                "PLUGCHAT_CA_FILE": str(files.ca),
                "PLUGCHAT_URL": plugchat.url,
                "LOG_LEVEL": "debug",
            },
        )
        with server:
            codes = await _update_webhooks(server, plugchat, heard)
            await _post(server, heard)
            await _call(server, heard)
            for file in (tokens.path, webhook_file, credentials):
                file.write_text(f'[[{IN_BROKEN_FILE} = "{IN_BROKEN_FILE}"')
            server.signal(signal.SIGHUP)
            await _call(server, heard)
            await _shown(server, heard)
            server.stop()
    written = {
        str(path): path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()
    }
    sent = "".join(request.headers["authorization"] for request in plugchat.requests)

    assert set(codes) == {"OK", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
    assert AUTHORIZATION in sent
    assert PAIR_AUTHORIZATION in sent
    assert any("not used" in line for line in server.log)
    places = {
        "log": "\n".join(server.log).encode(),
        "answers": "\n".join(heard.texts).encode(),
        **written,
        **_rows(server.settings.get("EVENTS_URL", "")),
    }
    found = [
        (secret, place)
        for secret in SECRETS
        for place, content in places.items()
        for text in {secret, quote(secret)}
        if text.encode() in content
    ]
    assert found == []


def _rows(url: str) -> dict[str, bytes]:
    """Everything in a database, by table, if it is one of a server; bytes as such."""
    if not url.startswith("postgresql"):
        return {}
    found = {}
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as database:
        tables = database.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname LIKE 'plugstatus%'"
        ).fetchall()
        for table in tables:
            rows = database.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(*table)))
            found[".".join(table)] = b"\n".join(
                value if isinstance(value, bytes) else str(value).encode()
                for row in rows
                for value in row
            )
    assert any(b"hooks.example.com" in content for content in found.values())
    return found


async def _update_webhooks(server: ServerProcess, plugchat: Provider, heard: Heard) -> list[str]:
    """Every kind of answer, some with what they should not hold; the codes it leads to."""
    echo = f'{{"error": "bad token {AUTHORIZATION} for {ADDRESS}"}}'.encode()
    location = f"Location: https://elsewhere.example.com/?t={IN_REDIRECT}"
    api = Api(server.grpc)
    codes: list[str] = []
    for answer in (
        provider.respond(200),
        provider.respond(200, b'{"value": false, "token": "' + AUTHORIZATION.encode() + b'"}'),
        *(provider.respond(status, echo) for status in (400, 401, 405, 415, 429, 500)),
        provider.respond(302, echo, location),
        provider.speak(f"{AUTHORIZATION} is no HTTP\r\n\r\n".encode()),
        provider.drop,
    ):
        plugchat.will(answer)
        # What is tried again takes its time, so one instance is enough.
        for instance in ("acme", "pair", "unknown") if not codes else ("acme",):
            request = pb.UpdateWebhookRequest(instance=instance, url=ADDRESS)
            metadata = bearer(ADMIN_TOKEN)
            codes.append(
                await heard.grpc(api.admin.UpdateWebhook(request, metadata=metadata, timeout=60))
            )
    for faulty in (f"http://x.example.com/?{IN_ADDRESS}", f"https://u:{IN_ADDRESS}@x.example.com/"):
        request = pb.UpdateWebhookRequest(instance="acme", url=faulty)
        await heard.grpc(api.admin.UpdateWebhook(request, metadata=bearer(ADMIN_TOKEN), timeout=60))
    await api.channel.close()
    return codes


async def _post(server: ServerProcess, heard: Heard) -> None:
    """Callbacks with good tokens and bad ones, faulty in every way."""
    body = callback(fresh_id())
    async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=20) as http:
        for query in (
            f"token={WEBHOOK_TOKEN}",
            f"token={FILE_TOKEN}",
            f"token={WRONG_TOKEN}",
            f"token={WEBHOOK_TOKEN}&token={WRONG_TOKEN}",
            f"x={WEBHOOK_TOKEN}",
            WEBHOOK_TOKEN,
        ):
            for path in ("/instancia/acme/status", "/nowhere", "/metrics", "/readyz"):
                for method in ("GET", "POST", "PUT", "OPTIONS"):
                    heard.http(await http.request(method, f"{path}?{query}", json=body))
            heard.http(await http.post(f"/instancia/acme/status?{query}", content=b"no JSON"))
            heard.http(await http.post(f"/instancia/a%2Fb/status?{query}", json=body))
    host, _, port = server.http.removeprefix("http://").rpartition(":")
    for raw in (
        f"GET /x?token={WEBHOOK_TOKEN} HTTP/9.9\r\n\r\n",
        f"{WEBHOOK_TOKEN}\r\n\r\n",
        f"POST /instancia/acme/status?token={WEBHOOK_TOKEN} HTTP/1.1\r\nHost: x\r\n"
        f"Transfer-Encoding: {WRONG_TOKEN}\r\n\r\n",
        f"POST /instancia/acme/status?token={WEBHOOK_TOKEN} HTTP/1.1\r\nHost: x\r\n"
        "Content-Type: application/json\r\nContent-Length: 9999999\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(raw.encode())
        with suppress(ConnectionError):
            heard.texts.append((await reader.read()).decode())
        writer.close()


async def _call(server: ServerProcess, heard: Heard) -> None:
    """Calls with good tokens and bad ones, one of them unreadable."""
    api = Api(server.grpc)
    request = pb.GetMessageStatusRequest(message_id="unknown")
    for metadata in (
        bearer(ADMIN_TOKEN),
        bearer(WRONG_BEARER),
        (("authorization", ADMIN_TOKEN),),
        (*bearer(ADMIN_TOKEN), *bearer(WRONG_BEARER)),
    ):
        await heard.grpc(api.status.GetMessageStatus(request, metadata=metadata, timeout=20))
        raw: Any = api.channel.unary_unary(
            "/plugchat.status.v1.MessageStatusService/GetMessageStatus"
        )
        await heard.grpc(raw(b"\xff", metadata=metadata, timeout=20))
    await api.channel.close()


async def _shown(server: ServerProcess, heard: Heard) -> None:
    """What an operator can look at."""
    api = Api(server.grpc)
    metadata = bearer(ADMIN_TOKEN)
    asked = [
        api.admin.GetServiceStatus(pb.GetServiceStatusRequest(), metadata=metadata),
        api.admin.ListWebhookUpdates(pb.ListWebhookUpdatesRequest(), metadata=metadata),
        api.admin.ListQuarantinedCallbacks(pb.ListQuarantinedCallbacksRequest(), metadata=metadata),
        api.admin.GetWebhook(pb.GetWebhookRequest(instance="acme"), metadata=metadata),
    ]
    assert [await heard.grpc(call) for call in asked] == ["OK"] * len(asked)
    async with httpx.AsyncClient(base_url=server.ops, trust_env=False, timeout=20) as ops:
        for path in ("/metrics", "/readyz", "/healthz", "/openapi.json"):
            heard.http(await ops.get(path))
    async with httpx.AsyncClient(
        base_url=server.http, params={"token": WEBHOOK_TOKEN}, trust_env=False
    ) as http:
        await post(http, callback(fresh_id()))
    await api.channel.close()
