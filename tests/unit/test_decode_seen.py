"""Bodies as consumers of such callbacks meet them: groups, broadcasts, failures, new members."""

from typing import Any

import pytest

from service.domain.events import QuarantineReason
from service.domain.instance import Connection, ConnectionState
from tests.callbacks import RECEIVED_US, reading

AT_US = 1_777_494_009_341_000
SENT_AT = {"instanceId": "instance.id", "momment": 1_777_494_009_341, "phoneDevice": 0}
STATUS = {"type": "MessageStatusCallback", "ids": ["A"], **SENT_AT}
DELIVERY = {"type": "DeliveryCallback", "messageId": "A", "zaapId": "Z", **SENT_AT}
GROUP = {"phone": "120363019502650977-group", "isGroup": True, "participantDevice": 2}

Row = tuple[str, str, str, str, bool, int | None]
"""Status, word, participant, phone, group, occur time; None for an estimated one."""


def _row(body: dict[str, Any]) -> Row:
    """What the one report of a body comes to."""
    read = reading(body)
    assert read.quarantined is None
    (report,) = read.reports
    occur_us = None if report.occur_time_estimated else report.occur_time_us
    return (
        report.status.name,
        report.provider_status,
        report.participant,
        report.phone,
        report.group,
        occur_us,
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            STATUS | GROUP | {"status": "READ", "participant": "81896604192873@lid"},
            ("READ", "READ", "81896604192873", GROUP["phone"], True, AT_US),
        ),
        (
            STATUS | GROUP | {"status": "RECEIVED", "participant": "5544999999999"},
            ("RECEIVED", "RECEIVED", "5544999999999", GROUP["phone"], True, AT_US),
        ),
        (
            STATUS
            | {"status": "READ", "phone": "status@broadcast", "participant": None}
            | {"participantLid": "818@lid", "participantPhone": "5544999999999"},
            ("READ", "READ", "818", "status@broadcast", False, AT_US),
        ),
        (
            STATUS | {"status": "RECEIVED", "phone": "12345-broadcast", "participantPhone": "55"},
            ("RECEIVED", "RECEIVED", "55", "12345-broadcast", False, AT_US),
        ),
        (
            STATUS | {"status": "SENT", "phone": "120363@newsletter", "isNewsletter": True},
            ("SENT", "SENT", "", "120363@newsletter", False, AT_US),
        ),
        (
            STATUS | {"status": "READ", "phone": "81896604192873@lid", "chatLid": "818@lid"},
            ("READ", "READ", "", "81896604192873@lid", False, AT_US),
        ),
        (
            STATUS | {"status": "NEVER_HEARD_OF", "phone": "554499999999"},
            ("UNRECOGNIZED", "NEVER_HEARD_OF", "", "554499999999", False, AT_US),
        ),
        (
            STATUS | {"status": "READ_BY_ME", "momment": 1_777_494_009_341_000, "fromMe": False},
            ("READ_BY_ME", "READ_BY_ME", "", "", False, AT_US),
        ),
        (
            STATUS | {"status": "SENT", "momment": 26_151_515_154, "fromApi": True},
            ("SENT", "SENT", "", "", False, None),
        ),
        (
            DELIVERY | {"phone": "554499999999"},
            ("SENT", "", "", "554499999999", False, AT_US),
        ),
        (
            DELIVERY | {"phone": "554499999999", "error": "Phone number does not exist"},
            ("FAILED", "", "", "554499999999", False, AT_US),
        ),
        (
            DELIVERY | {"phone": GROUP["phone"], "error": None, "status": "RECEIVED"},
            ("SENT", "RECEIVED", "", GROUP["phone"], True, AT_US),
        ),
    ],
    ids=lambda value: value.get("status", value["type"]) if isinstance(value, dict) else "",
)
def test_a_receipt_as_it_is_met(body: dict[str, Any], expected: Row) -> None:
    """Each body makes the one report that its members spell out."""

    assert expected == _row(body)


def test_a_reconnection_with_a_moment_of_no_unit() -> None:
    """Eleven digits that no date has leave the arrival as the time of the connection."""
    body = {"type": "ConnectedCallback", "connected": True, "momment": 26_151_515_154}

    assert Connection(ConnectionState.CONNECTED, RECEIVED_US) == reading(body).connection


@pytest.mark.parametrize(
    "kind", ["SentCallback", "ReadCallback", "ReceivedNotification", "PresenceCallback", "message"]
)
def test_a_type_that_is_not_in_the_table_is_kept_apart(kind: str) -> None:
    """A type that only resembles a known one is no receipt, whatever its status and ids say."""
    body = {"type": kind, "status": "READ", "ids": ["A"], "messageId": "A"}

    assert QuarantineReason.TYPE_UNKNOWN == reading(body).quarantined
