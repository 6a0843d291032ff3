"""UpdateWebhook as a process: what is checked, sent, recorded and raised."""

import json
import logging
import uuid
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service import errors
from service.api import errors as api_errors
from service.api.access import LOCAL
from service.domain.events import EventKind
from service.domain.webhook import WebhookState
from service.plugchat import webhook_url
from service.plugchat.client import PlugchatClient
from tests import provider
from tests.provider import Provider, held, respond
from tests.webhook_process import OTHER_URL, REDACTED, URL, Stores, Updates

_REQUEST_ID = "5f0d1f52-7a3c-4e8b-9c46-1d2ab0c9e873"


async def test_an_accepted_update_is_recorded_and_shown(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """The returned update is what the views make of the two recorded events."""
    updated = await update()
    await stores.folded()

    assert updated == await update.process.get("acme", LOCAL)
    assert updated.state is WebhookState.ACCEPTED
    assert (updated.url, updated.url_in_force) == (REDACTED, REDACTED)
    assert updated.url_sha256 == webhook_url.sha256(URL)
    assert (updated.updated_by, updated.error) == ("billing", "")
    assert [event.kind for event in await stores.events()] == [
        EventKind.WEBHOOK_ATTEMPT,
        EventKind.WEBHOOK_OUTCOME,
    ]
    assert [json.loads(request.body) for request in plugchat.requests] == [{"value": URL}]
    assert plugchat.requests[0].headers["authorization"] == "Bearer pl-s3cret"


async def test_the_attempt_is_on_disk_before_anything_is_sent(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """While PlugChat has not answered, the attempt is recorded and its state is PENDING."""
    answer = held(respond(200))
    plugchat.will(answer)
    updating = update.begin()
    await answer.arrived.wait()
    await stores.folded()

    pending = await update.process.get("acme", LOCAL)
    answer.release.set()

    assert pending.state is WebhookState.PENDING
    assert pending.url == REDACTED
    assert (await updating).state is WebhookState.ACCEPTED


@pytest.mark.parametrize(
    ("answer", "kind", "state"),
    [
        (respond(200, b'{"value": false}'), errors.ProviderRejected, WebhookState.REJECTED),
        (respond(302), errors.ProviderRejected, WebhookState.REJECTED),
        (respond(400), errors.ProviderRejected, WebhookState.REJECTED),
        (respond(401), errors.ProviderUnauthorized, WebhookState.REJECTED),
        (respond(405), errors.ProviderMethodNotAllowed, WebhookState.REJECTED),
        (respond(415), errors.ProviderUnsupportedMediaType, WebhookState.REJECTED),
        (respond(429), errors.ProviderRateLimited, WebhookState.REJECTED),
        (respond(503), errors.ProviderUnavailable, WebhookState.UNKNOWN),
        (provider.drop, errors.ProviderUnavailable, WebhookState.UNKNOWN),
    ],
)
async def test_a_failed_update_is_raised_and_recorded(
    answer: provider.Answer,
    kind: type[errors.ProviderError],
    state: WebhookState,
    update: Updates,
    stores: Stores,
    plugchat: Provider,
) -> None:
    """A no is REJECTED, silence is UNKNOWN; the address in force stays the one accepted before."""
    await update(OTHER_URL)
    plugchat.will(answer)

    with pytest.raises(errors.ProviderError) as raised:
        await update()
    await stores.folded()
    shown = await update.process.get("acme", LOCAL)

    assert type(raised.value) is kind
    assert (shown.state, shown.error) == (state, str(raised.value))
    assert shown.url_in_force == OTHER_URL
    assert reason_of(raised.value) == shown.error_reason


async def test_wrong_fields_are_told_together(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """Every wrong field is named, and nothing is recorded or sent."""
    with pytest.raises(errors.FieldsInvalid) as raised:
        await update("http://127.0.0.1/", instance="a/b", request_id="1")

    assert [field for field, _ in raised.value.violations] == ["instance", "url", "request_id"]
    assert await stores.events() == []
    assert plugchat.connections == 0


@pytest.mark.parametrize(
    "request_id", ["x", _REQUEST_ID[:-1], _REQUEST_ID.replace("-", ""), f"{{{_REQUEST_ID}}}"]
)
async def test_a_request_id_is_a_uuid(update: Updates, request_id: str) -> None:
    """Only the 8-4-4-4-12 form of a UUID is taken."""
    with pytest.raises(errors.FieldsInvalid, match="request_id"):
        await update(request_id=request_id)


async def test_hosts_beside_the_allow_list_are_refused(update: Updates) -> None:
    """The configured hosts are the only ones."""
    with pytest.raises(errors.FieldsInvalid, match="PLUGSTATUS_WEBHOOK_HOSTS"):
        await update("https://elsewhere.example/")


async def test_without_credentials_nothing_is_recorded(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """An instance without authorization is told so before anything happens."""
    with pytest.raises(errors.CredentialsMissing):
        await update(instance="nobody")

    assert await stores.events() == []
    assert plugchat.connections == 0


async def test_validate_only_does_nothing(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """What would be sent is shown as UNSPECIFIED; nothing is recorded or sent."""
    checked = await update(validate_only=True, request_id=str(uuid.uuid4()))

    assert (checked.state, checked.url, checked.update_time_us) == (
        WebhookState.UNSPECIFIED,
        REDACTED,
        0,
    )
    assert await stores.events() == []
    assert plugchat.connections == 0


async def test_validate_only_checks_fields_and_credentials(update: Updates) -> None:
    """Validation refuses what the update would refuse."""
    with pytest.raises(errors.FieldsInvalid):
        await update("http://h.example/", validate_only=True)
    with pytest.raises(errors.CredentialsMissing):
        await update(instance="nobody", validate_only=True)


async def test_what_cannot_be_recorded_is_not_sent(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """Without the log the answer is LOG_UNAVAILABLE, and PlugChat hears nothing."""
    await stores.appender.close()

    with pytest.raises(errors.LogUnavailable):
        await update()

    assert plugchat.connections == 0


async def test_a_defect_is_recorded_and_raised(
    update: Updates, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody foresaw leaves an UNKNOWN outcome, without its text."""

    async def fail(*_: object) -> None:
        raise RuntimeError("pl-s3cret")

    monkeypatch.setattr(PlugchatClient, "update_webhook", fail)

    with pytest.raises(RuntimeError):
        await update()
    await stores.folded()
    shown = await update.process.get("acme", LOCAL)

    assert (shown.state, shown.error_reason) == (WebhookState.UNKNOWN, "INTERNAL")
    assert "s3cret" not in shown.error


async def test_an_instance_never_updated_is_not_found(update: Updates) -> None:
    """Without any attempt there is no webhook to tell of; a name that is none is refused."""
    with pytest.raises(errors.WebhookNotFound):
        await update.process.get("acme", LOCAL)
    with pytest.raises(errors.FieldsInvalid):
        await update.process.get("..", LOCAL)


async def test_outcomes_are_counted(update: Updates, stores: Stores, plugchat: Provider) -> None:
    """The metric counts outcomes by state."""
    plugchat.will(respond(200), respond(400))
    await update()
    with pytest.raises(errors.ProviderRejected):
        await update()

    def counted(outcome: str) -> float | None:
        return stores.metrics.registry.get_sample_value(
            "plugstatus_webhook_updates_total", {"outcome": outcome}
        )

    assert (counted("accepted"), counted("rejected")) == (1.0, 1.0)


async def test_no_secret_is_left_anywhere(
    update: Updates, stores: Stores, plugchat: Provider, tmp_path: Path
) -> None:
    """Neither the authorization nor the query's values are in a file, a log line or an error."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    keep = Keep(logging.DEBUG)
    root = logging.getLogger()
    level = root.level
    root.addHandler(keep)
    root.setLevel(logging.DEBUG)
    echo = b'{"error": "Bearer pl-s3cret may not call ?token=webhook-s3cret"}'
    answers = [
        respond(200, echo),
        respond(200, b'{"value": false, "echo": "webhook-s3cret"}'),
        respond(302, b"", "Location: https://h.example/?token=webhook-s3cret"),
        respond(401, echo),
        respond(503, echo),
        respond(503, echo),
        respond(503, echo),
        provider.drop,
        provider.drop,
        provider.speak(b"HTTP/1.1 pl-s3cret webhook-s3cret\r\n\r\n"),
    ]
    told: list[BaseException] = []
    try:
        with capture_logs() as logs:
            plugchat.will(*answers)
            while len(plugchat.requests) < len(answers):
                try:
                    await update(request_id=str(uuid.uuid4()))
                except errors.PlugstatusError as error:
                    told.append(error)
            for url in (f"{URL}#x", f"http://u:p@h.example/{URL}", f"{URL} "):
                with pytest.raises(errors.FieldsInvalid) as raised:
                    await update(url)
                told.append(raised.value)
            await stores.folded()
    finally:
        root.removeHandler(keep)
        root.setLevel(level)
    (tmp_path / "credentials.toml").unlink()
    files = contents(tmp_path)

    assert {"events.db", "views.db"} <= files.keys()
    assert len(told) == 8
    assert any("httpcore" in line or "connect_tcp" in line for line in lines)
    assert any(entry["event"] == "webhook update concluded" for entry in logs)
    assert [name for name, content in files.items() if b"s3cret" in content] == []
    assert [told_one for told_one in told if "s3cret" in full_text(told_one)] == []
    assert "s3cret" not in str(logs)
    # At debug, which the service never sets for it, httpcore shows the answer's own head.
    assert "s3cret" not in "\n".join(line for line in lines if "receive_response" not in line)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its name."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def full_text(error: BaseException) -> str:
    """What a log line of the error could hold: message, fields, causes."""
    return f"{error!r}{error}{vars(error)}{error.__cause__!r}{error.__context__!r}"


def reason_of(error: errors.PlugstatusError) -> str:
    """The reason the API answers with, from the bytes it sends."""
    [(_, details)] = api_errors.answer(error).trailers
    known = [
        name
        for name in (
            "REJECTED",
            "UNAUTHORIZED",
            "METHOD_NOT_ALLOWED",
            "RATE_LIMITED",
            "UNSUPPORTED_MEDIA_TYPE",
            "UNAVAILABLE",
        )
        if f"PLUGCHAT_{name}".encode() in details
    ]
    assert len(known) == 1
    return f"PLUGCHAT_{known[0]}"
