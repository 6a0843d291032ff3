"""Webhook updates by request id, and one at a time."""

import asyncio
import uuid

import msgspec
import pytest

from service import errors
from service.api.access import LOCAL, Caller
from service.domain.events import EventKind
from service.domain.webhook import WebhookState
from tests.provider import Provider, held, respond
from tests.webhook_process import (
    OTHER_URL,
    URL,
    FailingAppender,
    Stores,
    Updates,
)


async def test_an_accepted_request_is_repeated_without_sending(
    update: Updates, stores: Stores, plugchat: Provider
) -> None:
    """The same request id and request give the accepted update again, also once CONFIRMED."""
    request_id = str(uuid.uuid4())
    first = await update(request_id=request_id)

    again = await update(
        request_id=request_id.upper(), caller=Caller("somebody else", frozenset({"admin"}))
    )
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
    await update.turns.asked("instance acme", times=2)
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
        await waiting.update("acme", OTHER_URL, False, "", LOCAL)
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
