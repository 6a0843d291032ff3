"""Decoding is total: nothing a body can hold stops it."""

import json
from typing import Any

import structlog
from hypothesis import given
from hypothesis import strategies as st

from service.domain.events import QuarantineReason
from service.domain.message import fold
from service.plugchat.decode import Reading
from service.wire.encode import status_report
from tests.callbacks import KNOWN, RECEIVED_US, reading

NAMES = ["type", "status", "ids", "id", "messageId", "momment", "phone", "participant"]
NAMES += ["participantLid", "participantPhone", "isGroup", "instanceId", "error", "errorCode", "x"]
TYPES = ["MessageStatusCallback", "DeliveryCallback", "deliverycallback ", "ReceivedCallback", "X"]

numbers = st.one_of(
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([10**400, -(10**17), 10**17, 1_632_234_645_000]),
)
strings = st.one_of(
    st.text(max_size=150),
    st.text("\0\ud800\udfffAé\U0001f600@lid-group ", max_size=90),
    st.sampled_from([*TYPES, "SENT", "read", "FAILED", "1e999999999"]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, strings),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(strings, inner, max_size=3)
    ),
    max_leaves=8,
)
bodies = st.dictionaries(st.sampled_from(NAMES), values, max_size=8).flatmap(
    lambda body: st.sampled_from(TYPES).map(lambda kind: {"type": kind} | body)
)
spans = st.tuples(st.integers(0, 10_000), st.integers(0, 12))


def _check_sound(read: Reading) -> None:
    """What every reading promises, whatever the body was."""
    places = [report.place for report in read.reports]
    ids = [report.message_id for report in read.reports]
    assert not (read.reports and read.quarantined)
    assert places == sorted(set(places))
    assert len(set(ids)) == len(ids)
    for report in read.reports:
        assert 1 <= len(report.message_id) <= 128
        short = (report.phone, report.participant, report.provider_status, report.failure_code)
        assert max(len(text.encode()) for text in short) <= 64
        assert len(report.failure_reason.encode()) <= 1_024
        assert "\0" not in "".join([report.message_id, report.failure_reason, *short])
        assert report.occur_time_us <= RECEIVED_US + 24 * 3_600 * 1_000_000
        # Protobuf refuses what is not UTF-8 or too large for a field.
        assert status_report(fold(None, None, report), report, "cursor").SerializeToString()


@given(bodies)
def test_any_object_is_decoded(body: dict[str, Any]) -> None:
    """Any JSON object gives reports, nothing or a reason other than UNREADABLE."""
    read = reading(body)

    assert read.quarantined is not QuarantineReason.UNREADABLE
    _check_sound(read)


@given(bodies)
def test_a_lone_surrogate_changes_nothing_beside_it(body: dict[str, Any]) -> None:
    """A body means the same when an unread member of it holds a lone surrogate."""
    expected = reading(body | {"other": "", "error": None})

    assert expected == reading(body | {"other": "\ud800", "error": None})


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded(body: bytes) -> None:
    """Bytes of any kind never raise."""
    with structlog.testing.capture_logs():
        _check_sound(reading(body))


@given(st.sampled_from(KNOWN), st.lists(st.tuples(spans, st.binary(max_size=12)), min_size=1))
def test_a_damaged_known_body_is_decoded(
    known: dict[str, Any], damages: list[tuple[tuple[int, int], bytes]]
) -> None:
    """A known body with parts cut out, overwritten or put in never raises."""
    body = json.dumps(known["body"]).encode()
    for (start, length), instead in damages:
        at = start % (len(body) + 1)
        body = body[:at] + instead + body[at + length :]

    with structlog.testing.capture_logs():
        _check_sound(reading(body))


@given(
    st.sampled_from(KNOWN),
    st.dictionaries(st.sampled_from(NAMES), values, min_size=1, max_size=3),
)
def test_a_known_body_with_other_members_is_decoded(
    known: dict[str, Any], members: dict[str, Any]
) -> None:
    """A known body with any of its members replaced is never UNREADABLE."""
    read = reading(known["body"] | members)

    assert read.quarantined is not QuarantineReason.UNREADABLE
    _check_sound(read)
