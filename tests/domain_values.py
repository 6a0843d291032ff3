"""Domain values for tests: plain ones by keyword, random ones by hypothesis."""

from typing import Any

from hypothesis import strategies as st

from service.domain.events import Place, Position
from service.domain.message import Message, Recipient, Report, Stage
from service.domain.status import Status
from service.domain.webhook import WebhookState, WebhookUpdate

NOW_US = 1_700_000_000_000_000
"""2023-11-14T22:13:20Z."""

HEARD = [status for status in Status if status is not Status.UNSPECIFIED]


def report(position: int = 1, **given: Any) -> Report:
    """A report of the message M of acme, received `position` seconds after NOW_US."""
    received_us = NOW_US + position * 1_000_000
    values: dict[str, Any] = {
        "place": Place(Position(position), 0),
        "instance": "acme",
        "message_id": "M",
        "status": Status.SENT,
        "provider_status": "SENT",
        "participant": "",
        "phone": "5544999999999",
        "group": False,
        "occur_time_us": received_us - 500_000,
        "occur_time_estimated": False,
        "receive_time_us": received_us,
        "failure_code": "",
        "failure_reason": "",
        "provider_instance": "",
    }
    return Report(**(values | given))


def message(message_id: str = "M", **given: Any) -> Message:
    """A message of acme with one report."""
    status = given.get("status", Status.SENT)
    values: dict[str, Any] = {
        "instance": "acme",
        "message_id": message_id,
        "phone": "5544999999999",
        "group": False,
        "status": status,
        "provider_status": "SENT",
        "stages": (Stage(status, NOW_US, NOW_US + 1),),
        "recipient_count": 0,
        "failure_code": "",
        "failure_reason": "",
        "report_count": 1,
        "update_time_us": NOW_US + 1,
        "changed_at": Place(Position(1), 0),
        "first_at": Place(Position(1), 0),
    }
    return Message(**(values | given))


def webhook_update(update_id: str = "u1", **given: Any) -> WebhookUpdate:
    """A pending update of acme."""
    values: dict[str, Any] = {
        "instance": "acme",
        "update_id": update_id,
        "request_id": "r1",
        "url": "https://hooks.example/a?token=REDACTED",
        "url_sha256": "0f" * 32,
        "updated_by": "local",
        "state": WebhookState.PENDING,
        "update_time_us": NOW_US,
        "error": "",
        "error_reason": "",
        "attempt_time_us": NOW_US,
        "attempt_position": Position(1),
        "url_in_force": "",
    }
    return WebhookUpdate(**(values | given))


# What a store and a proto can hold: no NUL, no lone surrogate.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
ids = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=128)
times_us = st.integers(1_230_768_000_000_000, 4_000_000_000_000_000)
positions = st.integers(1, 2**62).map(Position)
places = st.builds(Place, positions, st.integers(0, 2**32 - 1))
statuses = st.sampled_from(HEARD)
recipients = st.builds(
    Recipient,
    participant=ids,
    status=statuses,
    provider_status=texts,
    occur_time_us=times_us,
    receive_time_us=times_us,
)
reports = st.builds(
    Report,
    place=places,
    instance=st.from_regex(r"[A-Za-z0-9._-]{1,10}", fullmatch=True),
    message_id=ids,
    status=statuses,
    provider_status=texts,
    participant=texts,
    phone=texts,
    group=st.booleans(),
    occur_time_us=times_us,
    occur_time_estimated=st.booleans(),
    receive_time_us=times_us,
    failure_code=texts,
    failure_reason=texts,
    provider_instance=texts,
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Any message a fold could have made, places and texts at random."""
    heard = sorted(draw(st.sets(statuses, min_size=1)))
    return Message(
        instance=draw(st.from_regex(r"[A-Za-z0-9._-]{1,10}", fullmatch=True)),
        message_id=draw(ids),
        phone=draw(texts),
        group=draw(st.booleans()),
        status=heard[-1],
        provider_status=draw(texts),
        stages=tuple(Stage(status, draw(times_us), draw(times_us)) for status in heard),
        recipient_count=draw(st.integers(0, 2**31 - 1)),
        failure_code=draw(texts),
        failure_reason=draw(texts),
        report_count=draw(st.integers(1, 2**31 - 1)),
        update_time_us=draw(times_us),
        changed_at=draw(places),
        first_at=draw(places),
    )
