"""What callbacks mean: known bodies, types, quarantine, failures, and odd JSON."""

import json
from datetime import datetime
from typing import Any

import pytest

from service.domain.events import QuarantineReason
from service.domain.instance import Connection, ConnectionState
from service.domain.status import Status
from service.plugchat.decode import Reading
from tests.callbacks import (
    KNOWN,
    POSITION,
    RECEIVED_US,
    delivery_callback,
    indexed_ids,
    only,
    reading,
    status_callback,
)


def _as_read(read: Reading) -> dict[str, Any]:
    """A reading as the file of known bodies spells it."""
    if read.quarantined is not None:
        return {"quarantined": read.quarantined.name}
    reports = []
    for report in read.reports:
        occur_us = None if report.occur_time_estimated else report.occur_time_us
        reports.append(
            {
                "message_id": report.message_id,
                "index": report.place.index,
                "status": report.status.name,
                "provider_status": report.provider_status,
                "occur_time_us": occur_us,
                "participant": report.participant,
                "phone": report.phone,
                "group": report.group,
                "failure_code": report.failure_code,
                "failure_reason": report.failure_reason,
                "provider_instance": report.provider_instance,
            }
        )
    return {"reports": reports}


def _microseconds(text: str | None) -> int | None:
    return None if text is None else round(datetime.fromisoformat(text).timestamp() * 1_000_000)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known["name"])
def test_a_known_body_means_what_is_written_beside_it(known: dict[str, Any]) -> None:
    """Each body the provider is known to send decodes to the outcome worked out for it."""
    expected = {
        name: [
            {name: value for name, value in report.items() if name != "occur_time"}
            | {"occur_time_us": _microseconds(report["occur_time"])}
            for report in value
        ]
        if name == "reports"
        else value
        for name, value in known.items()
        if name in ("reports", "quarantined")
    }

    read = reading(known["body"])

    assert expected == _as_read(read)


def test_a_report_stands_where_its_event_stands() -> None:
    """A report takes instance, position and receive time from its event, not from the body."""
    report = only(status_callback(instanceId="other", momment=None))

    assert ("acme", POSITION, RECEIVED_US, "other") == (
        report.instance,
        report.place.position,
        report.receive_time_us,
        report.provider_instance,
    )


@pytest.mark.parametrize(
    "kind", ["messagestatuscallback", "MESSAGESTATUSCALLBACK", " MessageStatusCallback\n"]
)
def test_a_type_matches_in_any_case_and_with_blanks(kind: str) -> None:
    """A type is known in any case and with blanks around it."""

    assert [("A", 0)] == indexed_ids(status_callback(type=kind))


@pytest.mark.parametrize(
    "kind",
    ["ReceivedCallback", "PRESENCECHATCALLBACK", "ConnectedCallback", " disconnectedcallback "],
)
def test_other_known_types_make_no_report(kind: str) -> None:
    """Types that are known but not of statuses are neither reports nor quarantined."""
    read = reading({"type": kind, "status": "READ", "ids": ["A"], "messageId": "A"})

    assert ((), None) == (read.reports, read.quarantined)


@pytest.mark.parametrize(
    ("body", "state", "occur_time_us"),
    [
        ({"type": "ConnectedCallback"}, ConnectionState.CONNECTED, RECEIVED_US),
        (
            {"type": "connectedcallback", "momment": 1_580_163_342},
            ConnectionState.CONNECTED,
            1_580_163_342_000_000,
        ),
        (
            {"type": "DisconnectedCallback", "momment": 1_580_163_342, "disconnected": True},
            ConnectionState.DISCONNECTED,
            1_580_163_342_000_000,
        ),
        (
            {"type": "DisconnectedCallback", "momment": "1e999999999"},
            ConnectionState.DISCONNECTED,
            RECEIVED_US,
        ),
    ],
    ids=str,
)
def test_connections_are_told(
    body: dict[str, Any], state: ConnectionState, occur_time_us: int
) -> None:
    """Callbacks of the connection say its state, at their moment or when they came."""

    assert Reading(connection=Connection(state, occur_time_us)) == reading(body)


@pytest.mark.parametrize("status", ["", "  ", "SEEN-BY-ALIENS"])
def test_an_unknown_word_is_unrecognized_not_quarantined(status: str) -> None:
    """An empty or unknown status word makes an UNRECOGNIZED report that keeps the word as sent."""
    report = only(status_callback(status=status))

    assert (Status.UNRECOGNIZED, status) == (report.status, report.provider_status)


TYPE_MISSING = QuarantineReason.TYPE_MISSING
STATUS_MISSING = QuarantineReason.STATUS_MISSING
IDS_MISSING = QuarantineReason.IDS_MISSING
TOO_MANY = [str(number) for number in range(10_001)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, TYPE_MISSING),
        ({"status": "SENT", "ids": ["A"]}, TYPE_MISSING),
        ({"type": None, "ids": ["A"]}, TYPE_MISSING),
        ({"type": 5, "ids": []}, TYPE_MISSING),
        ({"type": True}, TYPE_MISSING),
        ({"type": ["MessageStatusCallback"]}, TYPE_MISSING),
        ({"type": {"a": "MessageStatusCallback"}, "ids": TOO_MANY}, TYPE_MISSING),
        ({"type": ""}, QuarantineReason.TYPE_UNKNOWN),
        ({"type": "StatusCallback", "ids": []}, QuarantineReason.TYPE_UNKNOWN),
        ({"type": "Message StatusCallback"}, QuarantineReason.TYPE_UNKNOWN),
        ({"type": "MessageStatusCallback", "ids": ["A"]}, STATUS_MISSING),
        ({"type": "MessageStatusCallback", "status": None, "ids": []}, STATUS_MISSING),
        ({"type": "MessageStatusCallback", "status": 3, "ids": TOO_MANY}, STATUS_MISSING),
        ({"type": "MessageStatusCallback", "status": ["SENT"]}, STATUS_MISSING),
        ({"type": "MessageStatusCallback", "status": {}}, STATUS_MISSING),
        ({"type": "MessageStatusCallback", "status": "SENT"}, IDS_MISSING),
        ({"type": "MessageStatusCallback", "status": "", "ids": [], "id": None}, IDS_MISSING),
        ({"type": "MessageStatusCallback", "status": "SENT", "messageId": "A"}, IDS_MISSING),
        ({"type": "DeliveryCallback", "ids": ["A"], "id": "A", "zaapId": "A"}, IDS_MISSING),
        (
            {"type": "MessageStatusCallback", "status": "?", "ids": TOO_MANY},
            QuarantineReason.TOO_MANY_IDS,
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_quarantine_gives_the_first_reason_that_applies(
    body: dict[str, Any], reason: QuarantineReason
) -> None:
    """A callback that cannot be read as a report is quarantined with the first fault in order."""

    assert Reading(quarantined=reason) == reading(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"MessageStatusCallback"',
        b"{",
        b"{}{}",
        b'{"type":NaN}',
        b'{"type":"\xff"}',
        b'{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_an_object_of_json_is_unreadable(body: bytes) -> None:
    """Bytes that ingress never records do not stop decoding either: they are UNREADABLE."""

    assert Reading(quarantined=QuarantineReason.UNREADABLE) == reading(body)


@pytest.mark.parametrize("error", [None, False, 0, 0.0, "", [], {}], ids=repr)
def test_a_delivery_without_an_error_is_sent(error: object) -> None:
    """An error that is null, false, 0 or empty is none: the message left for WhatsApp."""
    report = only(delivery_callback(error=error))

    assert (Status.SENT, "", "") == (report.status, report.failure_reason, report.provider_status)


@pytest.mark.parametrize("spelling", ["-0", "0.000", "0e5", "0E-5", "-0.0e+10", "{ }", "[ ]"])
def test_other_spellings_of_nothing_are_no_error(spelling: str) -> None:
    """Zero and empty values are no error however they are spelt."""
    body = f'{{"type":"DeliveryCallback","messageId":"A","error":{spelling}}}'

    assert Status.SENT == only(reading(body.encode())).status


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("Phone number does not exist", "Phone number does not exist"),
        (" ", " "),
        ("0", "0"),
        ("false", "false"),
        (True, "true"),
        (463, "463"),
        (-1, "-1"),
        (0.5, "0.5"),
        (["no route", 5], "no route, 5"),
        ({"code": 5}, '{"code": 5}'),
    ],
    ids=repr,
)
def test_a_delivery_with_an_error_has_failed(error: object, reason: str) -> None:
    """Any other error is a failure, and its text is the reason."""
    report = only(delivery_callback(error=error, errorCode="SHADOW_BAN", status="whatever"))

    assert (Status.FAILED, reason, "SHADOW_BAN", "whatever") == (
        report.status,
        report.failure_reason,
        report.failure_code,
        report.provider_status,
    )


def test_error_and_its_code_count_in_a_status_callback_too() -> None:
    """A status callback takes its status from the word, and the failure's texts from the error."""
    report = only(status_callback(status="FAILED", error="no route", errorCode=463))

    assert (Status.FAILED, "no route", "463") == (
        report.status,
        report.failure_reason,
        report.failure_code,
    )


def test_an_error_does_not_make_a_status_callback_fail() -> None:
    """Only a DeliveryCallback fails by its error; a status callback says what its word says."""

    assert Status.READ == only(status_callback(status="READ", error="no route")).status


@pytest.mark.parametrize("status", [None, 5, ["SENT"], {"a": 1}], ids=repr)
def test_a_delivery_needs_no_word(status: object) -> None:
    """A DeliveryCallback whose status is no string has an empty provider_status."""
    report = only(delivery_callback(status=status))

    assert (Status.SENT, "") == (report.status, report.provider_status)


def test_of_duplicate_keys_the_last_counts() -> None:
    """Of members with the same name the last one counts, with and without a lone surrogate."""
    body = b'{"type":"X","status":"SENT","ids":["A"],"type":"MessageStatusCallback","ids":["B"]%s}'

    read = [reading(body % rest) for rest in (b"", rb',"other":"\ud800"')]

    assert [[("B", 0)], [("B", 0)]] == [indexed_ids(each) for each in read]


@pytest.mark.parametrize("surrogate", ["", '"other":"\\udc00",'])
@pytest.mark.parametrize(
    "nested",
    ["[" * 999 + "]" * 999, '{"a":' * 998 + "[" + "]" + "}" * 998],
    ids=["arrays", "objects"],
)
def test_nesting_of_a_thousand_levels_is_read(nested: str, surrogate: str) -> None:
    """A body nested 1,000 deep is read like any other, wherever the depth is."""
    elsewhere = (
        f'{{"type":"MessageStatusCallback","status":"READ",{surrogate}"x":{nested},"id":"A"}}'
    )
    in_error = elsewhere.replace('"x"', '"error"')
    in_ids = elsewhere.replace('"x"', '"ids"').replace('"ids":{', '"ids":["N",{', 1)
    in_ids = in_ids.replace(',"id":"A"', '],"id":"A"') if '"N"' in in_ids else in_ids

    read = [reading(body.encode()) for body in (elsewhere, in_error, in_ids)]

    assert ["A", "A", "A"] == [each.reports[-1].message_id for each in read]


def test_numbers_of_thousands_of_digits_are_read() -> None:
    """A number too long for Python's own conversion harms no member beside it, nor itself."""
    digits = "9" * 5_000
    body = json.dumps({"type": "MessageStatusCallback", "status": "SENT", "id": "A"})[:-1]

    report = only(reading(f'{body},"momment":{digits},"phone":{digits},"ids":{digits}}}'.encode()))

    assert ("A", True, "9" * 64) == (report.message_id, report.occur_time_estimated, report.phone)
