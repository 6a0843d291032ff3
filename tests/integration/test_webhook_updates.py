"""UpdateWebhook as a process: over the real log and views, against a provider over real TLS."""

import asyncio
import dataclasses
import json
import logging
import traceback
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from structlog.testing import capture_logs

from service import config, errors
from service.api import errors as api_errors
from service.api.turns import LocalTurns
from service.api.webhooks import WebhookUpdates
from service.clock import SystemClock
from service.config import Limits
from service.database import schema
from service.database.readers import ReaderPool
from service.domain.events import Event, EventKind, NewEvent, Position
from service.domain.webhook import WebhookState, WebhookUpdate
from service.eventlog.group_commit import GroupCommit
from service.eventlog.log import LogReader
from service.eventlog.sqlite import SqliteLogReader, SqliteLogWriter
from service.plugchat import webhook_url
from service.plugchat.client import PlugchatClient
from service.plugchat.credentials import Credentials
from service.projector.runner import Projector
from service.telemetry import Metrics
from service.views.sqlite import SqliteViewsReader, SqliteViewsWriter
from service.views.store import ViewsReader
from service.wire.cursor import CursorCodec
from tests import provider
from tests.provider import Provider, held, respond

URL = "https://hooks.example.com/instancia/acme/status?token=webhook-s3cret"
REDACTED = "https://hooks.example.com/instancia/acme/status?token=REDACTED"
OTHER_URL = "https://hooks.example.com/other"
LIMITS = Limits(
    provider_attempt_s=5.0, provider_backoff_s=0.0, retry_s=0.0, poll_s=5.0, readers_max=2
)
CREDENTIALS = """
[instance.acme]
authorization = "Bearer pl-s3cret"
[instance.umbrella]
authorization = "Bearer other-pl-s3cret"
"""

_authority = trustme.CA()


class Stores:
    """The log, its appender, the projector and the views, as the service runs them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.metrics = Metrics()
        self._advanced = asyncio.Event()
        self._views_held = False

    async def start(self) -> None:
        events, views = self._folder / "events.db", self._folder / "views.db"
        schema.upgrade_sqlite(schema.Store.EVENT_LOG, events)
        schema.upgrade_sqlite(schema.Store.VIEWS, views)
        reader = SqliteLogReader(events)
        identity = reader.identity
        reader.close()
        loop = asyncio.get_running_loop()
        self.projector = Projector(
            open_log=lambda: SqliteLogReader(events),
            open_views=lambda: SqliteViewsWriter(views, identity),
            cursors=CursorCodec(identity),
            on_advance=lambda: loop.call_soon_threadsafe(self._advanced.set),
            clock=SystemClock(),
            limits=LIMITS,
            metrics=self.metrics,
        )
        self.appender = GroupCommit(
            lambda: SqliteLogWriter(events),
            self.projector.wake,
            batch_events_max=100,
            batch_bytes_max=1 << 20,
            waiting_events_max=100,
            waiting_bytes_max=1 << 20,
        )
        self.log: ReaderPool[LogReader] = ReaderPool("log", lambda: SqliteLogReader(events), 2)
        self.views: ReaderPool[ViewsReader] = ReaderPool(
            "views", lambda: SqliteViewsReader(views), 2
        )
        self.projector.start()
        self.appender.start()

    async def stop(self) -> None:
        await self.appender.close()
        await self.projector.stop()
        self.log.close()
        self.views.close()

    async def views_reached(self, position: Position, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._advanced.clear()
                    checkpoint = await self.views.run(lambda views: views.checkpoint())
                    if checkpoint.mark.position >= position and not self._views_held:
                        return
                    await self._advanced.wait()
        except TimeoutError:
            raise errors.ViewsBehind("the views are behind") from None

    def hold_views(self) -> None:
        """From now on no position is ever reached."""
        self._views_held = True

    async def folded(self) -> None:
        """Return once the views stand at the log's head."""
        head = await self.log.run(lambda log: log.head())
        await self.views_reached(head.position, 10)

    async def events(self, *kinds: EventKind) -> list[Event]:
        found = await self.log.run(lambda log: log.read(Position(0), 1_000, 1 << 20))
        return [event for event in found if not kinds or event.kind in kinds]

    async def outcomes(self) -> list[str]:
        """The states of the recorded outcomes, in log order."""
        return [
            WebhookState(json.loads(event.content)["state"]).name
            for event in await self.events(EventKind.WEBHOOK_OUTCOME)
        ]

    async def record_callback(self, instance: str) -> None:
        body = b'{"type":"MessageStatusCallback","status":"SENT","ids":["1"],"phone":"55"}'
        await self.appender.append(
            NewEvent(instance, SystemClock().now_us(), EventKind.CALLBACK, body)
        )
        await self.folded()


@pytest.fixture
async def plugchat() -> AsyncIterator[Provider]:
    async with Provider(_authority) as running:
        running.will(respond(200))
        yield running


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    running = Stores(tmp_path)
    await running.start()
    yield running
    await running.stop()


class Updates:
    """Makes the process under test, and calls it with defaults."""

    def __init__(self, folder: Path, plugchat: Provider, stores: Stores) -> None:
        self._folder = folder
        self._plugchat = plugchat
        self._stores = stores
        self.turns = LocalTurns()
        self.process = self.make()

    def make(self, *, appender: Any = None, **limits: Any) -> WebhookUpdates:
        """Another process over the same stores, with other limits or appender."""
        (self._folder / "credentials.toml").write_text(CREDENTIALS)
        _authority.cert_pem.write_to_path(str(self._folder / "ca.pem"))
        settings = dataclasses.replace(
            config.load(
                {
                    "DATA_DIR": str(self._folder),
                    "PLUGCHAT_URL": self._plugchat.url,
                    "PLUGCHAT_CA_FILE": str(self._folder / "ca.pem"),
                    "PLUGCHAT_CREDENTIALS_FILE": str(self._folder / "credentials.toml"),
                }
            ),
            limits=dataclasses.replace(LIMITS, **limits),
        )
        self.process = WebhookUpdates(
            appender=appender or self._stores.appender,
            log=self._stores.log,
            views=self._stores.views,
            views_reached=self._stores.views_reached,
            plugchat=PlugchatClient(settings, SystemClock()),
            credentials=Credentials(settings, SystemClock()),
            clock=SystemClock(),
            limits=settings.limits,
            allowed_hosts=frozenset({"hooks.example.com"}),
            metrics=self._stores.metrics,
            turns=self.turns,
        )
        return self.process

    async def __call__(
        self, url: str = URL, instance: str = "acme", **fields: Any
    ) -> WebhookUpdate:
        given = {"validate_only": False, "request_id": "", "caller": "billing", **fields}
        return await self.process.update(instance, url, **given)

    def begin(self, *args: Any, **fields: Any) -> asyncio.Task[WebhookUpdate]:
        return asyncio.create_task(self(*args, **fields))


@pytest.fixture
def update(tmp_path: Path, plugchat: Provider, stores: Stores) -> Updates:
    return Updates(tmp_path, plugchat, stores)


async def test_an_accepted_update_is_recorded_and_shown(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """The returned update is what the views make of the two recorded events."""
    updated = await update()
    await stores.folded()

    assert updated == await update.process.get("acme")
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

    pending = await update.process.get("acme")
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
    shown = await update.process.get("acme")

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
    "request_id", ["x", str(uuid.uuid4())[:-1], uuid.uuid4().hex, f"{{{uuid.uuid4()}}}"]
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


class FailingAppender:
    """Appends, except that the next so many outcomes fail."""

    def __init__(self, appender: GroupCommit, failures: int) -> None:
        self._appender = appender
        self.failures = failures

    def append(self, event: NewEvent) -> asyncio.Future[Position]:
        if event.kind is EventKind.WEBHOOK_OUTCOME and self.failures:
            self.failures -= 1
            raise errors.LogUnavailable("disk full")
        return self._appender.append(event)


async def test_an_outcome_is_recorded_at_a_later_try(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """A log that is away for a moment costs nothing but that moment."""
    update.make(appender=FailingAppender(stores.appender, failures=4))

    updated = await update()

    assert updated.state is WebhookState.ACCEPTED
    assert await stores.outcomes() == ["ACCEPTED"]
    assert plugchat.connections == 1


async def test_an_outcome_that_stays_unrecorded_becomes_unknown(
    update: Updates, stores: Stores
) -> None:
    """The caller gets LOG_UNAVAILABLE, the attempt stays PENDING until a server starts."""
    update.make(appender=FailingAppender(stores.appender, failures=5))
    with pytest.raises(errors.LogUnavailable, match="outcome"):
        await update()
    await stores.folded()
    left = await update.process.get("acme")

    recovered = await update.make().recover()
    await stores.folded()

    assert left.state is WebhookState.PENDING
    assert recovered == 1
    assert (await update.process.get("acme")).state is WebhookState.UNKNOWN


async def test_an_accepted_request_is_repeated_without_sending(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """The same request id and request give the accepted update again, also once CONFIRMED."""
    request_id = str(uuid.uuid4())
    first = await update(request_id=request_id)

    again = await update(request_id=request_id.upper(), caller="somebody else")
    await stores.record_callback("acme")
    confirmed = await update(request_id=request_id)

    assert again == first
    assert confirmed == msgspec.structs.replace(first, state=WebhookState.CONFIRMED)
    assert plugchat.connections == 1
    assert len(await stores.events(EventKind.WEBHOOK_ATTEMPT)) == 1


async def test_a_rejected_request_is_refused_again_without_sending(
    update: Updates, plugchat: Provider
) -> None:
    """The same request id and request raise the recorded error again."""
    request_id = str(uuid.uuid4())
    plugchat.will(respond(403), respond(200))
    with pytest.raises(errors.ProviderUnauthorized) as first:
        await update(request_id=request_id)

    with pytest.raises(errors.ProviderUnauthorized) as again:
        await update(request_id=request_id)

    assert str(again.value) == str(first.value)
    assert plugchat.connections == 1


async def test_an_unknown_outcome_is_sent_again(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """The same request id sends again where no answer was heard, and then keeps that answer."""
    request_id = str(uuid.uuid4())
    plugchat.will(respond(500), respond(500), respond(500), respond(200))
    with pytest.raises(errors.ProviderUnavailable):
        await update(request_id=request_id)

    second = await update(request_id=request_id)
    third = await update(request_id=request_id)

    assert second == third
    assert await stores.outcomes() == ["UNKNOWN", "ACCEPTED"]
    assert plugchat.connections == 4


async def test_a_pending_attempt_is_sent_again(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """An attempt whose outcome nobody recorded does not keep its request from being made."""
    request_id = str(uuid.uuid4())
    update.make(appender=FailingAppender(stores.appender, failures=5))
    with pytest.raises(errors.LogUnavailable):
        await update(request_id=request_id)

    updated = await update(request_id=request_id)

    assert updated.state is WebhookState.ACCEPTED
    assert plugchat.connections == 2


@pytest.mark.parametrize(("url", "instance"), [(URL + "x", "acme"), (URL, "umbrella")])
async def test_a_request_id_is_for_one_request(
    url: str, instance: str, update: Updates, plugchat: Provider
) -> None:
    """The request id of another address or instance is refused, and nothing is sent."""
    request_id = str(uuid.uuid4())
    await update(request_id=request_id)

    with pytest.raises(errors.RequestIdReused):
        await update(url, instance, request_id=request_id)

    assert plugchat.connections == 1


async def test_a_request_made_twice_at_once_is_sent_once(
    update: Updates, plugchat: Provider
) -> None:
    """The second of two simultaneous calls with one request id gets the first one's answer."""
    request_id = str(uuid.uuid4())

    first, second = await asyncio.gather(
        update(request_id=request_id), update(request_id=request_id)
    )

    assert first == second
    assert plugchat.connections == 1


async def test_a_request_id_used_at_once_for_two_instances_is_refused_once(
    update: Updates, plugchat: Provider
) -> None:
    """A request id has turns of its own, so two instances cannot both use it."""
    request_id = str(uuid.uuid4())

    answers = await asyncio.gather(
        update(request_id=request_id),
        update(instance="umbrella", request_id=request_id),
        return_exceptions=True,
    )

    assert sorted(type(answer).__name__ for answer in answers) == [
        "RequestIdReused",
        "WebhookUpdate",
    ]
    assert plugchat.connections == 1


async def test_views_that_stay_behind_send_nothing(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """A request id that cannot be looked up is not taken for a new one."""
    stores.hold_views()
    update.make(webhook_update_s=5.8)

    with pytest.raises(errors.ViewsBehind):
        await update(request_id=str(uuid.uuid4()))

    assert plugchat.connections == 0
    assert await stores.events() == []


async def test_updates_without_request_id_need_no_views(update: Updates, stores: Stores) -> None:
    """Views that are behind keep nobody from changing a webhook."""
    stores.hold_views()

    assert (await update()).state is WebhookState.ACCEPTED


async def test_updates_of_an_instance_take_turns(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """The second is sent only once the first one's outcome is recorded."""
    answer = held(respond(200))
    plugchat.will(answer, respond(200))
    first = update.begin()
    await answer.arrived.wait()
    second = update.begin(OTHER_URL)
    await update(instance="umbrella")

    before = len(plugchat.requests)
    answer.release.set()
    await asyncio.gather(first, second)

    assert before == 2
    assert [event.kind.name for event in await stores.events() if event.instance == "acme"] == [
        "WEBHOOK_ATTEMPT",
        "WEBHOOK_OUTCOME",
        "WEBHOOK_ATTEMPT",
        "WEBHOOK_OUTCOME",
    ]
    assert len(update.turns) == 0


async def test_a_turn_that_does_not_come_in_time_is_given_up(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """Whoever waits too long is told so while there is time, and nothing of theirs is recorded."""
    answer = held(respond(200))
    plugchat.will(answer)
    first = update.begin()
    await answer.arrived.wait()
    waiting = update.make(webhook_update_s=5.8)

    with pytest.raises(errors.LimitExceeded):
        await waiting.update("acme", OTHER_URL, False, "", "billing")
    answer.release.set()
    await first

    assert len(await stores.events(EventKind.WEBHOOK_ATTEMPT)) == 1
    assert len(update.turns) == 0


async def test_too_many_updates_are_refused(update: Updates, plugchat: Provider) -> None:
    """Updates under way are bounded, those of callers that left included."""
    answer = held(respond(200))
    plugchat.will(answer)
    update.make(webhook_updates_max=1)
    first = update.begin()
    await answer.arrived.wait()

    with pytest.raises(errors.LimitExceeded, match="webhook_updates_max is 1"):
        await update(instance="umbrella")
    answer.release.set()

    assert (await first).state is WebhookState.ACCEPTED


async def test_an_update_goes_on_when_the_caller_leaves(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """A caller that leaves changes neither the update nor its record."""
    answer = held(respond(200))
    plugchat.will(answer, respond(200))
    leaving = update.begin()
    await answer.arrived.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving

    answer.release.set()
    # Its turn comes after the one that was left.
    await update(OTHER_URL)

    assert await stores.outcomes() == ["ACCEPTED", "ACCEPTED"]


async def test_a_failure_after_the_caller_left_is_recorded(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """An error that nobody hears is in the log, and no task complains of it."""
    answer = held(respond(400))
    plugchat.will(answer, respond(200))
    leaving = update.begin()
    await answer.arrived.wait()
    leaving.cancel()
    answer.release.set()

    await update(OTHER_URL)

    assert await stores.outcomes() == ["REJECTED", "ACCEPTED"]


async def test_a_drain_records_unknown(update: Updates, stores: Stores, plugchat: Provider) -> None:
    """What is under way ends as UNKNOWN, what waits or comes later is refused unrecorded."""
    answer = held(respond(200))
    plugchat.will(answer)
    under_way = update.begin()
    await answer.arrived.wait()
    waiting = update.begin(OTHER_URL)
    await asyncio.wait([waiting], timeout=0)

    await update.process.drain()
    await update.process.drain()
    outcomes = await stores.outcomes()
    answers = await asyncio.gather(under_way, waiting, update(), return_exceptions=True)

    assert outcomes == ["UNKNOWN"]
    assert [type(answer) for answer in answers] == [errors.ShuttingDown] * 3
    assert len(await stores.events(EventKind.WEBHOOK_ATTEMPT)) == 1
    assert len(update.turns) == 0


async def test_a_drain_cuts_the_pause_between_tries_short(update: Updates, stores: Stores) -> None:
    """A log that fails in a drain is tried again at once, so that the drain ends."""
    appender = FailingAppender(stores.appender, failures=4)
    update.make(appender=appender, retry_s=3_600.0)
    updating = update.begin()
    while appender.failures == 4:
        await asyncio.wait([updating], timeout=0.01)

    async with asyncio.timeout(10):
        await update.process.drain()

    assert (await updating).state is WebhookState.ACCEPTED
    assert await stores.outcomes() == ["ACCEPTED"]


async def test_recovery_ends_what_a_dead_server_began(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """A PENDING attempt of an ended server becomes UNKNOWN; one under way here is left alone."""
    answer = held(respond(200))
    plugchat.will(answer)
    under_way = update.begin(instance="umbrella")
    await answer.arrived.wait()
    await stores.appender.append(
        NewEvent(
            "acme",
            SystemClock().now_us(),
            EventKind.WEBHOOK_ATTEMPT,
            json.dumps(
                {
                    "update_id": "u",
                    "request_id": "",
                    "url": REDACTED,
                    "url_sha256": "",
                    "updated_by": "x",
                }
            ).encode(),
        )
    )
    await stores.folded()

    recovered = await update.process.recover()
    await stores.folded()
    again = await update.process.recover()
    shown = await update.process.get("acme")
    answer.release.set()

    assert (recovered, again) == (1, 0)
    assert (shown.state, shown.error_reason) == (WebhookState.UNKNOWN, "PLUGCHAT_UNAVAILABLE")
    assert (await under_way).state is WebhookState.ACCEPTED


class StuckAppender:
    """Never resolves what it is given until it is let go."""

    def __init__(self, appender: GroupCommit) -> None:
        self._appender = appender
        self.release = asyncio.Event()

    def append(self, event: NewEvent) -> asyncio.Future[Position]:
        async def later() -> Position:
            await self.release.wait()
            return await self._appender.append(event)

        return asyncio.ensure_future(later())


async def test_a_log_that_does_not_answer_is_told_in_time(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """The caller gets LOG_UNAVAILABLE; an attempt recorded too late is not sent, but UNKNOWN."""
    appender = StuckAppender(stores.appender)
    process = update.make(appender=appender, webhook_update_s=0.3, outcome_record_s=0.1)

    with pytest.raises(errors.LogUnavailable, match="does not answer"):
        await update()
    appender.release.set()
    await process.drain()
    await stores.folded()

    assert await stores.outcomes() == ["UNKNOWN"]
    assert (await process.get("acme")).error_reason == "LOG_UNAVAILABLE"
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
    shown = await update.process.get("acme")

    assert (shown.state, shown.error_reason) == (WebhookState.UNKNOWN, "INTERNAL")
    assert "s3cret" not in shown.error


async def test_an_instance_never_updated_is_not_found(update: Updates) -> None:
    """Without any attempt there is no webhook to tell of; a name that is none is refused."""
    with pytest.raises(errors.WebhookNotFound):
        await update.process.get("acme")
    with pytest.raises(errors.FieldsInvalid):
        await update.process.get("..")


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
    files = [path for path in tmp_path.rglob("*") if path.is_file()]

    assert {"events.db", "views.db"} <= {path.name for path in files}
    assert len(told) == 8
    assert any("httpcore" in line or "connect_tcp" in line for line in lines)
    assert any(entry["event"] == "webhook update concluded" for entry in logs)
    for path in files:
        assert b"s3cret" not in path.read_bytes()
    for error in told:
        assert "s3cret" not in str(error) + repr(error)
        assert "s3cret" not in "".join(traceback.format_exception_only(error))
    assert "s3cret" not in str(logs)
    assert "s3cret" not in "\n".join(line for line in lines if "receive_response" not in line)


def reason_of(error: errors.PlugstatusError) -> str:
    """The reason the API answers with, from the bytes it sends."""
    [(_, details)] = api_errors.answer(error).trailers
    known = [
        name
        for name in ("REJECTED", "UNAUTHORIZED", "METHOD_NOT_ALLOWED", "RATE_LIMITED")
        + ("UNSUPPORTED_MEDIA_TYPE", "UNAVAILABLE")
        if f"PLUGCHAT_{name}".encode() in details
    ]
    assert len(known) == 1
    return f"PLUGCHAT_{known[0]}"
