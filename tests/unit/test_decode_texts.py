"""Who a callback is about: participants, phones, groups; and how texts are bounded."""

import json
from typing import Any

import pytest

from tests.callbacks import delivery_callback, only, reading, status_callback


@pytest.mark.parametrize(
    ("members", "participant"),
    [
        ({}, ""),
        ({"participant": None, "participantLid": "", "participantPhone": None}, ""),
        ({"participant": "1", "participantLid": "2", "participantPhone": "3"}, "1"),
        ({"participantLid": "2", "participantPhone": "3"}, "2"),
        ({"participantPhone": "3"}, "3"),
        ({"participant": "", "participantPhone": "3"}, "3"),
        ({"participant": "253300000000036@lid"}, "253300000000036"),
        ({"participant": None, "participantLid": "253300000000036@lid"}, "253300000000036"),
        ({"participant": "@lid", "participantLid": "2@lid"}, "2"),
        ({"participant": 253300000000036}, "253300000000036"),
        ({"participant": True, "participantLid": ["2"], "participantPhone": {"3": 3}}, ""),
        ({"participant": "1@lid@lid"}, "1@lid"),
        ({"participant": "1@s.whatsapp.net"}, "1@s.whatsapp.net"),
        ({"participant": "9" * 62 + "@lid"}, "9" * 62),
        ({"participant": "9" * 80 + "@lid"}, "9" * 64),
        ({"participant": "77@lid\0"}, "77"),
    ],
    ids=repr,
)
def test_the_participant_is_the_first_that_is_named(
    members: dict[str, Any], participant: str
) -> None:
    """Who reported is `participant`, else its LID, else its phone, without `@lid`; or nobody."""

    assert participant == only(status_callback(**members)).participant


@pytest.mark.parametrize(
    ("members", "group"),
    [
        ({}, False),
        ({"isGroup": True}, True),
        ({"isGroup": False}, False),
        ({"isGroup": None}, False),
        ({"phone": "120363019502650977-group"}, True),
        ({"phone": "120363019502650977-group", "isGroup": False}, True),
        ({"phone": "5" * 64 + "-group"}, True),
        ({"phone": "1203-group\0"}, True),
        ({"phone": "-group-5544999999999"}, False),
        ({"phone": "120363019502650977-broadcast"}, False),
        ({"phone": "status@broadcast"}, False),
    ],
    ids=repr,
)
def test_a_group_is_told_by_a_flag_or_by_the_phone(members: dict[str, Any], group: bool) -> None:
    """A report is of a group if `isGroup` says so, or its whole phone ends in `-group`."""

    assert group == only(status_callback(**members)).group


@pytest.mark.parametrize(
    ("phone", "expected"),
    [
        ("5544999999999", "5544999999999"),
        (5544999999999, "5544999999999"),
        ("253300000000036@lid", "253300000000036@lid"),
        (None, ""),
        (True, ""),
        (["5544999999999"], ""),
        ({"n": 1}, ""),
    ],
    ids=repr,
)
def test_a_phone_is_kept_as_sent(phone: object, expected: str) -> None:
    """A phone is the string or the digits that were sent; anything else is none."""

    assert expected == only(status_callback(phone=phone)).phone


SHORT = [
    ("x" * 64, "x" * 64),
    ("x" * 65, "x" * 64),
    ("x" * 63 + "é", "x" * 63),
    ("x" * 62 + "é", "x" * 62 + "é"),
    ("x" * 61 + "\U0001f600", "x" * 61),
    ("x" * 60 + "\U0001f600!", "x" * 60 + "\U0001f600"),
    ("a\0b", "ab"),
    ("\0" * 5 + "x" * 64, "x" * 64),
    ("a\ud800b", "a\ufffdb"),
    ("\udc00", "\ufffd"),
    ("x" * 62 + "\ud800", "x" * 62),
    ("x" * 61 + "\ud800", "x" * 61 + "\ufffd"),
]


@pytest.mark.parametrize(("text", "expected"), SHORT, ids=ascii)
def test_short_texts_are_cut_at_64_bytes(text: str, expected: str) -> None:
    """Phone, participant, word and code end at a character within 64 bytes, fit for any store."""
    members = {"phone": text, "participant": text, "status": text, "errorCode": text}
    report = only(delivery_callback(error="E", **members))
    other = only(status_callback(**members))

    texts = [
        [each.phone, each.participant, each.provider_status, each.failure_code]
        for each in (report, other)
    ]

    assert [[expected] * 4] * 2 == texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x" * 1_024, "x" * 1_024),
        ("x" * 1_025, "x" * 1_024),
        ("é" * 513, "é" * 512),
        ("x" + "é" * 512, "x" + "é" * 511),
        ("\U0001f600" * 257, "\U0001f600" * 256),
        ("a\0\ud800", "a\ufffd"),
    ],
    ids=lambda text: ascii(text)[:16],
)
def test_a_reason_is_cut_at_1024_bytes(text: str, expected: str) -> None:
    """A failure's reason ends at a character within 1,024 bytes of UTF-8."""

    assert expected == only(delivery_callback(error=text)).failure_reason


@pytest.mark.parametrize("error", [{"text": "é" * 2_000}, ["é" * 600, "é" * 600]], ids=["{}", "[]"])
def test_a_reason_of_any_shape_is_bounded(error: object) -> None:
    """The text of an error that is an object or an array is cut like any other."""
    body = {"type": "DeliveryCallback", "messageId": "A", "error": error}

    read = [reading(json.dumps(body, ensure_ascii=escaped).encode()) for escaped in (True, False)]
    sizes = [len(only(each).failure_reason.encode()) for each in read]

    assert all(1_000 < size <= 1_024 for size in sizes)
