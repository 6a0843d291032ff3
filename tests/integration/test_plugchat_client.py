"""The PUT against a provider over real TLS: what is sent, what is made of each answer."""

import asyncio
import dataclasses
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from service import config, errors
from service.clock import SystemClock
from service.config import Limits, Secret
from service.plugchat.client import PlugchatClient
from tests import provider
from tests.provider import PATH, Answer, Provider, respond

URL = "https://hooks.example.com/instancia/acme/status?token=webhook-s3cret"
AUTHORIZATION = Secret("Bearer pl-s3cret")
LIMITS = Limits(provider_attempt_s=10.0)
TOTAL_S = 60.0

_authority = trustme.CA()


@pytest.fixture
async def plugchat() -> AsyncIterator[Provider]:
    async with Provider(_authority) as running:
        yield running


class Pauses:
    """Stands in for sleep: passes at once and keeps what was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def client_of(
    url: str,
    tmp_path: Path,
    *,
    trusted: trustme.CA | None = _authority,
    limits: Limits = LIMITS,
    sleep: Pauses | None = None,
) -> PlugchatClient:
    values = {"DATA_DIR": str(tmp_path), "PLUGCHAT_URL": url}
    if trusted is not None:
        trusted.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        values["PLUGCHAT_CA_FILE"] = str(tmp_path / "ca.pem")
    settings = dataclasses.replace(config.load(values), limits=limits)
    return PlugchatClient(settings, SystemClock(), sleep or Pauses())


async def test_put_is_exactly_what_the_provider_documents(
    plugchat: Provider, tmp_path: Path
) -> None:
    """Method, path, authorization, media type and body are those of the documentation."""
    plugchat.will(respond(200))

    await client_of(plugchat.url, tmp_path).update_webhook(URL, AUTHORIZATION, TOTAL_S)

    [request] = plugchat.requests
    assert request.line == f"PUT {PATH} HTTP/1.1"
    assert request.body == b'{"value": "%s"}' % URL.encode()
    assert request.headers["authorization"] == "Bearer pl-s3cret"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["host"] == f"localhost:{plugchat.port}"
    assert request.headers["content-length"] == str(len(request.body))
    assert request.headers["accept-encoding"] == "identity"
    assert set(request.headers) == {
        "authorization",
        "content-type",
        "host",
        "content-length",
        "accept",
        "accept-encoding",
        "user-agent",
        "connection",
    }


@pytest.mark.parametrize(
    "answer",
    [
        respond(200, b'{"value": true}'),
        respond(200, b""),
        respond(200, b"<html>ok</html>"),
        respond(200, b'{"value": "false"}'),
        respond(200, b'[{"value": false}]'),
        respond(200, b"[" * 60_000),
        respond(200, b'{"value": false}' + b" " * 70_000 + b"x"),
        respond(201, b'{"value": true}'),
        respond(204, b""),
        respond(200, b"\xff\xfe"),
        provider.flood,
    ],
)
async def test_a_yes_is_accepted_whatever_its_body_but_false(
    answer: Answer, plugchat: Provider, tmp_path: Path
) -> None:
    """A 2xx counts as accepted unless it is an object with "value" false; one attempt is made."""
    plugchat.will(answer)

    await client_of(plugchat.url, tmp_path).update_webhook(URL, AUTHORIZATION, TOTAL_S)

    assert plugchat.connections == 1


@pytest.mark.parametrize(
    ("answer", "kind", "status_code"),
    [
        (respond(200, b'{"value": false}'), errors.ProviderRejected, 200),
        (respond(200, b' {"other": [1], "value":false}\n'), errors.ProviderRejected, 200),
        (respond(201, b'{"value": false}'), errors.ProviderRejected, 201),
        (respond(301, b"", "Location: /elsewhere"), errors.ProviderRejected, 301),
        (respond(302, b"", "Location: https://localhost/"), errors.ProviderRejected, 302),
        (respond(307, b"", "Location: /elsewhere"), errors.ProviderRejected, 307),
        (respond(304, b""), errors.ProviderRejected, 304),
        (respond(400), errors.ProviderRejected, 400),
        (respond(401), errors.ProviderUnauthorized, 401),
        (respond(403), errors.ProviderUnauthorized, 403),
        (respond(404), errors.ProviderRejected, 404),
        (respond(405), errors.ProviderMethodNotAllowed, 405),
        (respond(408), errors.ProviderRejected, 408),
        (respond(415), errors.ProviderUnsupportedMediaType, 415),
        (respond(422, b'{"echo": "pl-s3cret webhook-s3cret"}'), errors.ProviderRejected, 422),
        (respond(429, b"", "Retry-After: 1"), errors.ProviderRateLimited, 429),
    ],
)
async def test_a_refusal_is_raised_and_not_tried_again(
    answer: Answer,
    kind: type[errors.ProviderError],
    status_code: int,
    plugchat: Provider,
    tmp_path: Path,
) -> None:
    """A heard no is the answer: its kind and status are kept, nothing is sent a second time."""
    plugchat.will(answer)

    with pytest.raises(errors.ProviderError) as raised:
        await client_of(plugchat.url, tmp_path).update_webhook(URL, AUTHORIZATION, TOTAL_S)

    assert type(raised.value) is kind
    assert raised.value.status_code == status_code
    assert plugchat.connections == 1
    assert_no_secret(raised.value)


@pytest.mark.parametrize(
    ("answer", "status_code"),
    [
        (respond(500), 500),
        (respond(503, b"pl-s3cret", "Retry-After: 1"), 503),
        (respond(599), 599),
        (respond(999), 999),
        (provider.drop, 0),
        (provider.drop_unread, 0),
        (provider.hang, 0),
        (provider.drip, 0),
        (provider.speak(b"nonsense\r\n\r\n"), 0),
        (provider.speak(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"), 0),
        (provider.speak(b"HTTP/1.1 200 OK\r\nContent-Length: pl-s3cret\r\n\r\n{}"), 0),
    ],
)
async def test_what_was_not_heard_is_tried_three_times(
    answer: Answer, status_code: int, plugchat: Provider, tmp_path: Path
) -> None:
    """5xx, broken connections, nonsense and silence are tried 3 times, with doubled pauses."""
    plugchat.will(answer)
    pauses = Pauses()
    silent = answer in (provider.hang, provider.drip)
    limits = dataclasses.replace(LIMITS, provider_attempt_s=0.5) if silent else LIMITS

    with pytest.raises(errors.ProviderUnavailable) as raised:
        await client_of(plugchat.url, tmp_path, limits=limits, sleep=pauses).update_webhook(
            URL, AUTHORIZATION, TOTAL_S
        )

    assert plugchat.connections == 3
    assert pauses.seconds == [0.5, 1.0]
    assert raised.value.status_code == status_code
    assert_no_secret(raised.value)


async def test_a_later_attempt_can_succeed(plugchat: Provider, tmp_path: Path) -> None:
    """What a broken connection and a 503 kept from us, a third attempt brings."""
    plugchat.will(provider.drop, respond(503), respond(200))

    await client_of(plugchat.url, tmp_path).update_webhook(URL, AUTHORIZATION, TOTAL_S)

    assert [request.body for request in plugchat.requests] == [plugchat.requests[0].body] * 3


async def test_a_refusal_ends_the_attempts(plugchat: Provider, tmp_path: Path) -> None:
    """A no to a later attempt is the answer."""
    plugchat.will(respond(503), respond(401))

    with pytest.raises(errors.ProviderUnauthorized):
        await client_of(plugchat.url, tmp_path).update_webhook(URL, AUTHORIZATION, TOTAL_S)

    assert plugchat.connections == 2


@pytest.mark.parametrize(
    ("trusted", "name", "fault"),
    [
        (trustme.CA(), "localhost", "certificate is not trusted"),
        (None, "localhost", "certificate is not trusted"),
        (_authority, "wrong.example", "certificate is not trusted"),
    ],
)
async def test_a_wrong_certificate_gets_nothing(
    trusted: trustme.CA | None, name: str, fault: str, tmp_path: Path
) -> None:
    """To a provider whose certificate is of another authority or name, nothing is sent."""
    async with Provider(_authority, name) as plugchat:
        plugchat.will(respond(200))
        client = client_of(plugchat.url, tmp_path, trusted=trusted)

        with pytest.raises(errors.ProviderUnavailable, match=fault) as raised:
            await client.update_webhook(URL, AUTHORIZATION, TOTAL_S)

    assert plugchat.requests == []
    assert_no_secret(raised.value)


async def test_nobody_listening_is_unavailable(tmp_path: Path) -> None:
    """A refused connection is UNAVAILABLE after the attempts, and says so."""
    async with Provider(_authority) as plugchat:
        url = plugchat.url
    pauses = Pauses()

    with pytest.raises(errors.ProviderUnavailable, match="no connection"):
        await client_of(url, tmp_path, sleep=pauses).update_webhook(URL, AUTHORIZATION, TOTAL_S)

    assert len(pauses.seconds) == 2


async def test_all_attempts_together_are_bounded(plugchat: Provider, tmp_path: Path) -> None:
    """When the time is up the attempt under way is cut, and what was heard before it is told."""
    plugchat.will(respond(502), provider.hang)

    async with asyncio.timeout(5):
        with pytest.raises(errors.ProviderUnavailable) as raised:
            await client_of(plugchat.url, tmp_path).update_webhook(URL, AUTHORIZATION, 1.0)

    assert raised.value.status_code == 502
    assert plugchat.connections == 2


async def test_the_environment_does_not_reroute_the_request(
    plugchat: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxy variables do not count: the authorization goes where the configuration says."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    plugchat.will(respond(200))

    await client_of(plugchat.url, tmp_path).update_webhook(URL, AUTHORIZATION, TOTAL_S)

    assert len(plugchat.requests) == 1


def test_an_unusable_ca_file_stops_the_start(tmp_path: Path) -> None:
    """A CA file without a certificate is refused by the name of its variable."""
    (tmp_path / "ca.pem").write_text("no certificate")
    settings = config.load(
        {"DATA_DIR": str(tmp_path), "PLUGCHAT_CA_FILE": str(tmp_path / "ca.pem")}
    )

    with pytest.raises(errors.ConfigInvalid, match=r"PLUGSTATUS_PLUGCHAT_CA_FILE: .*PEM"):
        PlugchatClient(settings, SystemClock())


async def test_a_changed_ca_file_is_read_again(plugchat: Provider, tmp_path: Path) -> None:
    """After a reload the provider is held against the new authority."""
    plugchat.will(respond(200))
    client = client_of(plugchat.url, tmp_path, trusted=trustme.CA())
    with pytest.raises(errors.ProviderUnavailable):
        await client.update_webhook(URL, AUTHORIZATION, TOTAL_S)

    _authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    client.reload()
    await client.update_webhook(URL, AUTHORIZATION, TOTAL_S)

    assert len(plugchat.requests) == 1


def assert_no_secret(error: BaseException) -> None:
    """Neither the message nor the whole traceback with its causes shows a secret."""
    told = "".join(traceback.format_exception(error)) + repr(error)
    lines = [line for line in told.splitlines() if not line.startswith("    ")]

    assert "s3cret" not in "\n".join(lines)
    assert error.__context__ is None
