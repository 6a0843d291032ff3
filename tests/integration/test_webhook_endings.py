"""How webhook updates end when the log, the caller or the server goes away."""

import asyncio
import json

import pytest

from service import errors
from service.api.access import LOCAL
from service.clock import SystemClock
from service.domain.events import EventKind, NewEvent, Position
from service.domain.webhook import WebhookState
from service.eventlog.group_commit import GroupCommit
from tests.provider import Provider, held, respond
from tests.webhook_process import (
    OTHER_URL,
    REDACTED,
    FailingAppender,
    Stores,
    Updates,
)


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
    left = await update.process.get("acme", LOCAL)

    recovered = await update.make().recover()
    await stores.folded()

    assert left.state is WebhookState.PENDING
    assert recovered == 1
    assert (await update.process.get("acme", LOCAL)).state is WebhookState.UNKNOWN


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
    await update.turns.asked("instance acme", times=2)

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
    await appender.failed.wait()

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
    shown = await update.process.get("acme", LOCAL)
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
    assert (await process.get("acme", LOCAL)).error_reason == "LOG_UNAVAILABLE"
    assert plugchat.connections == 0


async def test_views_that_are_away_do_not_spoil_the_answer(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """An answer that was heard and recorded is given in time, whatever the views are doing."""
    stores.hold_views()
    answer = held(respond(200))
    plugchat.will(answer)
    update.make(webhook_update_s=2.0, outcome_record_s=0.1, outcome_shown_s=3_600.0)
    updating = update.begin()
    await answer.arrived.wait()
    answer.release.set()

    assert (await updating).state is WebhookState.ACCEPTED
