"""TLS on both sides of a real server: who is trusted, rotation, and what an early answer costs."""

import asyncio
import json
import os
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import trustme

from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.calls import SEED_BODY, callback, fresh_id, post
from tests.command import plugstatus
from tests.prefork import INSTALLED
from tests.secured import CertificateFiles, TokenFile, bearer, issue
from tests.server_process import ServerProcess, clean_environment

TOKEN = "pst_of-the-tests"


class Site:
    """A server with TLS on both sides and mutual TLS on gRPC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.stranger = trustme.CA()
        self.files = issue(folder, self.authority)
        self.client = issue(folder, self.authority, "client")
        tokens = TokenFile(folder / "tokens.toml")
        tokens.put(TOKEN, "tests", "admin")
        self.server = ServerProcess(
            folder / "data",
            {
                **self.files.settings("HTTP"),
                **self.files.settings("GRPC"),
                "GRPC_TLS_CLIENT_CA": str(self.files.ca),
                "API_TOKENS_FILE": str(tokens.path),
            },
        )

    @property
    def url(self) -> str:
        return self.server.http.replace("http:", "https:")

    @property
    def target(self) -> str:
        return self.server.grpc

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    async def serial(self, address: str, client: CertificateFiles | None = None) -> str:
        """The number of the certificate that a new connection is shown."""
        context = self.trust()
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        host, _, port = address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port), ssl=context)
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.close()
        return str(found)

    async def get(self, credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
        """What a call for an unknown message ends with."""
        async with grpc.aio.secure_channel(self.target, credentials) as channel:
            stub: Any = stubs.MessageStatusServiceStub(channel)
            try:
                await stub.GetMessageStatus(
                    pb.GetMessageStatusRequest(message_id="unknown"),
                    metadata=bearer(TOKEN),
                    timeout=20,
                )
            except grpc.aio.AioRpcError as error:
                return error.code()
        raise AssertionError("found")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    with made.server:
        yield made


async def test_both_sides_speak_tls_only(site: Site) -> None:
    """Callbacks are recorded over HTTPS; plain HTTP and plain gRPC get no answer."""
    async with httpx.AsyncClient(base_url=site.url, verify=site.trust(), trust_env=False) as http:
        cursor = await post(http, SEED_BODY)
        metrics = await http.get("/metrics")
    async with httpx.AsyncClient(base_url=site.server.http, trust_env=False) as plain:
        with pytest.raises(httpx.TransportError):
            await plain.get("/healthz")
    async with grpc.aio.insecure_channel(site.target) as channel:
        stub: Any = stubs.MessageStatusServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetMessageStatus(pb.GetMessageStatusRequest(message_id="x"), timeout=20)

    assert cursor
    assert metrics.status_code == httpx.codes.OK
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_only_clients_of_the_ca_are_let_in(site: Site) -> None:
    """With a client CA a token alone is not enough, nor a certificate of somebody else."""
    foreign = issue(site.folder, site.stranger, "foreign")

    assert [
        await site.get(site.files.channel_credentials(site.client)),
        await site.get(site.files.channel_credentials()),
        await site.get(site.files.channel_credentials(foreign)),
    ] == [
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNAVAILABLE,
    ]


async def test_certificates_are_replaced_while_the_server_runs(site: Site) -> None:
    """New connections are shown the new one; a stream and a kept connection go on."""
    credentials = site.files.channel_credentials(site.client)
    before = [
        await site.serial(site.url.removeprefix("https://")),
        await site.serial(site.target, site.client),
    ]
    async with (
        httpx.AsyncClient(base_url=site.url, verify=site.trust(), trust_env=False) as http,
        grpc.aio.secure_channel(site.target, credentials) as channel,
    ):
        stub: Any = stubs.MessageStatusServiceStub(channel)
        stream = stub.WatchStatuses(pb.WatchStatusesRequest(), metadata=bearer(TOKEN), timeout=60)
        await stream.read()
        issue(site.folder, site.authority)
        after = await _changed(site, before)
        message_id = fresh_id()
        await post(http, callback(message_id))
        while not (frame := await stream.read()).changes.changes:
            pass

    assert before[0] == before[1]
    assert after[0] == after[1] != before[0]
    assert frame.changes.changes[0].message.message_id == message_id


async def test_a_certificate_without_its_key_is_not_used(site: Site) -> None:
    """Half a rotation changes nothing, and is logged; whole again it counts."""
    before = await site.serial(site.target, site.client)
    key = site.files.key.read_bytes()
    issue(site.folder, site.authority)
    new_key = site.files.key.read_bytes()
    site.files.key.write_bytes(key)
    async with asyncio.timeout(20):
        while not any("not the key of the certificate" in line for line in site.server.log):
            assert await site.serial(site.target, site.client) == before
    http_side = await site.serial(site.url.removeprefix("https://"))
    site.files.key.write_bytes(new_key)
    after = await _changed(site, [before, before])

    assert http_side == before
    assert before not in after


async def _changed(site: Site, before: list[str]) -> list[str]:
    """What both sides show once neither shows what it did."""
    async with asyncio.timeout(20):
        while True:
            now = [
                await site.serial(site.url.removeprefix("https://")),
                await site.serial(site.target, site.client),
            ]
            if not set(now) & set(before):
                return now


async def test_an_early_answer_gets_through_tls(site: Site) -> None:
    """A body that is far too large is told 413, not reset, though it is still being sent."""
    content = b"x" * (4 * 1024 * 1024)
    async with httpx.AsyncClient(base_url=site.url, verify=site.trust(), trust_env=False) as http:
        answers = [
            (
                await http.post(
                    "/instancia/acme/status",
                    content=content,
                    headers={"Content-Type": "application/json"},
                )
            ).status_code
            for _ in range(5)
        ]

    assert answers == [413] * 5


async def test_silent_handshakes_hold_nobody_up(site: Site) -> None:
    """Connections that never begin TLS are closed in time, and others are served meanwhile."""
    host, _, port = site.url.removeprefix("https://").rpartition(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(50)]
    async with httpx.AsyncClient(base_url=site.url, verify=site.trust(), trust_env=False) as http:
        await post(http, callback(fresh_id()))
    began_s = time.monotonic()
    async with asyncio.timeout(30):
        ends = await asyncio.gather(*(reader.read() for reader, _ in silent))
    for _, writer in silent:
        writer.close()

    assert ends == [b""] * len(silent)
    assert time.monotonic() - began_s < 15


async def test_the_command_line_over_mutual_tls(site: Site) -> None:
    """With token, CA and a certificate of its own; without one of them it says so."""
    async with httpx.AsyncClient(base_url=site.url, verify=site.trust(), trust_env=False) as http:
        await post(http, callback("3EB0TLS"))
    given = {
        "API_TARGET": site.target,
        "API_TOKEN": TOKEN,
        "API_CA_FILE": str(site.files.ca),
        "API_CERT_FILE": str(site.client.certificate),
        "API_KEY_FILE": str(site.client.key),
    }
    wait = ("wait", "3EB0TLS", "--at-least", "sent")

    good = await asyncio.to_thread(plugstatus, *wait, **given)
    no_token = {**given, "API_TOKEN": ""}
    without = await asyncio.to_thread(plugstatus, "get", "3EB0TLS", **no_token)
    half = {**given, "API_KEY_FILE": ""}
    halved = await asyncio.to_thread(plugstatus, "get", "3EB0TLS", **half)

    assert (good.returncode, good.stdout.split()[:2]) == (0, ["3EB0TLS", "SENT"])
    assert without.returncode == 2
    assert "authorization: Bearer" in without.stderr
    assert (halved.returncode, "needs its key" in halved.stderr) == (2, True)


def test_an_expired_certificate_is_told_by_check(tmp_path: Path) -> None:
    """`check` says when it expired, and exits 1."""
    old = trustme.CA().issue_cert("localhost", not_after=datetime(2020, 2, 2, tzinfo=UTC))
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(old.cert_chain_pems[0].bytes())
    key.write_bytes(old.private_key_pem.bytes())
    given = {
        "DATA_DIR": str(tmp_path / "data"),
        "GRPC_TLS_CERT": str(certificate),
        "GRPC_TLS_KEY": str(key),
    }
    assert plugstatus("migrate", **given).returncode == 0

    told = plugstatus("check", **given)

    assert told.returncode == 1
    assert "FAILED  TLS for gRPC: the certificate expired on 2020-02-02" in told.stdout
    with ServerProcess(tmp_path / "data", given) as server:
        said = [json.loads(line) for line in server.log]
        refused = asked(server.grpc, API_CA_FILE=str(certificate))
    assert [one["expired"] for one in said if one["level"] == "error"] == ["2020-02-02"]
    assert "is not trusted (" in refused


def asked(target: str, **given: str) -> str:
    """What the command itself says, as it is installed; one line, and nothing of gRPC's own."""
    run = subprocess.run(
        [INSTALLED, "get", "3EB0TLS"],
        env=clean_environment({"API_TARGET": target, **given}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    return run.stderr


async def test_who_cannot_connect_is_told_why(site: Site, tmp_path: Path) -> None:
    """Another's CA, no TLS where it is wanted, TLS where there is none, no certificate of ours."""
    other = tmp_path / "other.pem"
    site.stranger.cert_pem.write_to_path(other)
    ours = {"API_CA_FILE": str(site.files.ca)}
    elsewhere = issue(tmp_path, site.authority, "elsewhere", ("elsewhere.example",))
    with ServerProcess(tmp_path / "misnamed", elsewhere.settings("GRPC")) as misnamed:
        questions = {
            "PLUGSTATUS_API_CA_FILE to name the CA": (site.target, {"API_CA_FILE": str(other)}),
            "PLUGSTATUS_API_CA_FILE names its CA": (site.target, {}),
            "PLUGSTATUS_API_CERT_FILE yours": (site.target, ours),
            "is not for that name": (misnamed.grpc, ours),
            "answers without TLS": (misnamed.http.removeprefix("http://"), ours),
            "no plugstatus answers": ("127.0.0.1:1", ours),
        }
        told = await asyncio.gather(
            *(asyncio.to_thread(asked, target, **given) for target, given in questions.values())
        )

    assert [part in line for part, line in zip(questions, told, strict=True)] == [True] * len(told)


def test_the_key_of_another_certificate_stops_the_start(tmp_path: Path) -> None:
    """One line that names the variable, and shows nothing of the key."""
    authority = trustme.CA()
    one, other = issue(tmp_path, authority, "one"), issue(tmp_path, authority, "other")
    given = {
        "DATA_DIR": str(tmp_path / "data"),
        "HTTP_BIND": "127.0.0.1:0",
        "HTTP_TLS_CERT": str(one.certificate),
        "HTTP_TLS_KEY": str(other.key),
    }

    run = plugstatus("serve", **given)

    assert run.returncode == 2
    assert run.stderr.startswith("plugstatus: PLUGSTATUS_HTTP_TLS_KEY: is not the key")
    assert "PRIVATE" not in run.stderr
    assert os.linesep not in run.stderr.strip()
