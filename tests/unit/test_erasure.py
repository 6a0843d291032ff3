"""What is to be forgotten, and what stays of a callback that told of others too."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.erasure import Erasure, Subject, Tombstone, tombstone
from service.domain.events import Event, EventKind, Place, Position
from service.domain.instance import Connection, ConnectionState
from service.domain.message import MessageKey, Report
from tests.domain_values import NOW_US, ids, report, reports, texts

PHONE = "5511987654321"
OTHER = "5521700000303"
ESCAPED = "".join(f"\\u{ord(one):04X}" for one in PHONE)
OF_PHONE = Subject(phone=PHONE, messages=frozenset({MessageKey("acme", "M")}))
REPORT_TEXTS = (
    "provider_status",
    "participant",
    "phone",
    "failure_code",
    "failure_reason",
    "provider_instance",
)


def event_at(position: int, instance: str = "acme", receive_time_us: int = NOW_US) -> Event:
    return Event(Position(position), instance, receive_time_us, EventKind.TOMBSTONE, b"")


@pytest.mark.parametrize(
    ("subject", "instance", "message_id", "expected"),
    [
        (OF_PHONE, "acme", "M", True),
        (OF_PHONE, "umbrella", "M", False),
        (OF_PHONE, "acme", "N", False),
        (OF_PHONE, "umbrella", f"3EB0{PHONE}_1", True),
        (Subject(phone=PHONE), "acme", "M", False),
        (Subject(message_id="M"), "acme", "M", True),
        (Subject(message_id="M"), "umbrella", "M", True),
        (Subject(message_id="M"), "acme", "M2", False),
        (Subject(message_id="M"), "acme", "m", False),
        (Subject(message_id="M", instance="acme"), "acme", "M", True),
        (Subject(message_id="M", instance="acme"), "umbrella", "M", False),
    ],
)
def test_messages_that_go(subject: Subject, instance: str, message_id: str, expected: bool) -> None:
    """A message goes by its id, by its phone, or because its id holds the phone."""
    assert subject.has_message(instance, message_id) is expected


@pytest.mark.parametrize(
    ("subject", "texts", "expected"),
    [
        (OF_PHONE, ["a", f"tel +{PHONE};"], True),
        (OF_PHONE, [f"{PHONE}-1623456789-group"], True),
        (OF_PHONE, ["M"], True),
        (OF_PHONE, ["MM", OTHER, ""], False),
        (OF_PHONE, [], False),
        (OF_PHONE, [PHONE[:-1], PHONE[1:]], False),
        (OF_PHONE, [f'{{"to":"{ESCAPED}"}}'], True),
        (Subject(message_id="M"), ["M"], True),
        (Subject(message_id="M"), ["about M"], False),
        (Subject(message_id="M", instance="umbrella"), ["M"], False),
    ],
)
def test_bodies_that_go(subject: Subject, texts: list[str], expected: bool) -> None:
    """A body of acme goes if a text of it is such a message's id, or holds the phone."""
    assert subject.is_in("acme", texts) is expected


@pytest.mark.parametrize(
    "text",
    [
        PHONE,
        f"{PHONE}@lid",
        ESCAPED,
        ESCAPED.lower(),
        f'{{"a":["{ESCAPED}"]}}',
        ESCAPED.replace("\\", "\\\\"),
        ESCAPED.replace("\\", "\\\\\\\\"),
        "5511\\u0000987654321",
        '"5511987654321\\',
        "\\ud800" + ESCAPED,
        "\ud800\\u0035" + PHONE[1:],
    ],
)
def test_texts_that_hold_a_phone(text: str) -> None:
    """However JSON that is quoted in a text spells the phone, the text holds it and goes."""
    assert OF_PHONE.holds(text)
    assert OF_PHONE.without(text) == ""


@pytest.mark.parametrize(
    "text", ["", OTHER, PHONE[1:], "\\", "\\u12", "\\x\\", "\\u0035", "5511 9"]
)
def test_texts_that_do_not(text: str) -> None:
    """Any other text stays as it was."""
    assert not OF_PHONE.holds(text)
    assert OF_PHONE.without(text) == text


@given(st.text(), st.integers(0, 4), st.booleans())
def test_quoting_hides_nothing(around: str, times: int, ascii_only: bool) -> None:
    """JSON within JSON, as deep as it may be, hides no phone, whatever characters it has."""
    for phone in ("\U0001f600\u00e9-group", 'a"b\\c/d', PHONE):
        text = f"{around}{phone}{around}"
        for _ in range(times):
            text = json.dumps(text, ensure_ascii=ascii_only)

        assert Subject(phone=phone).holds(text)


def test_a_message_has_no_phone_to_hold() -> None:
    """Forgetting a message empties no text of what stays."""
    subject = Subject(message_id="M")

    assert not subject.holds("M")
    assert subject.without("about M") == "about M"


def test_nothing_stays_of_a_callback_about_one() -> None:
    """A callback about the message alone leaves the time, the reason and nothing personal."""
    left = tombstone(OF_PHONE, [report(phone=PHONE, participant="p")], None, NOW_US, "phone")

    assert left == Tombstone(NOW_US, "phone")
    assert msgspec.json.decode(msgspec.json.encode(left)) == {
        "erase_time_us": NOW_US,
        "reason": "phone",
    }


def test_a_connection_stays() -> None:
    """What a callback told of the instance itself is no person's."""
    connection = Connection(ConnectionState.CONNECTED, NOW_US)

    assert tombstone(OF_PHONE, [], connection, 1, "phone").connection == connection


def test_what_was_said_of_others_stays() -> None:
    """The other reports stay where they were, all their fields but those that hold the phone."""
    said = [
        report(7, message_id=name, place=Place(Position(7), index), **fields)
        for index, name in ((0, "M"), (2, "N"), (3, f"x{PHONE}"), (5, "O"))
        for fields in [dict.fromkeys(REPORT_TEXTS, "kept") | {"group": True}]
    ]
    for name in REPORT_TEXTS:
        spoilt = [msgspec.structs.replace(one, **{name: f"+{PHONE}"}) for one in said]
        left = tombstone(OF_PHONE, spoilt, None, NOW_US + 5, "phone")
        again = left.reports(event_at(7, receive_time_us=said[0].receive_time_us))

        assert again == tuple(msgspec.structs.replace(said[at], **{name: ""}) for at in (1, 3))
        assert PHONE not in msgspec.json.encode(left).decode()


@given(st.lists(reports, min_size=1, max_size=4), ids)
def test_tombstones_survive_being_stored(said: list[Report], message_id: str) -> None:
    """Stored and read again a tombstone tells every other report exactly as it was."""
    first = said[0]
    shared = [
        msgspec.structs.replace(
            first, message_id=one.message_id, place=Place(first.place.position, index)
        )
        for index, one in enumerate(said)
    ]
    left = tombstone(Subject(message_id=message_id), shared, None, NOW_US, "message")
    stored = msgspec.json.decode(msgspec.json.encode(left), type=Tombstone)
    at = event_at(first.place.position, first.instance, first.receive_time_us)

    assert stored == left
    assert list(stored.reports(at)) == [one for one in shared if one.message_id != message_id]


@given(st.lists(reports, min_size=1, max_size=3), texts.filter(bool))
def test_erasing_what_was_left(said: list[Report], phone: str) -> None:
    """What one erasure left and another one takes is the same as what both take at once."""
    first = said[0]
    shared = [
        msgspec.structs.replace(
            first, message_id=f"{index}{one.message_id}", place=Place(first.place.position, index)
        )
        for index, one in enumerate(said)
    ]
    at = event_at(first.place.position, first.instance, first.receive_time_us)
    one, other = Subject(phone=phone), Subject(message_id=shared[-1].message_id)
    one_first = tombstone(one, shared, None, 1, "x").reports(at)
    other_first = tombstone(other, shared, None, 1, "x").reports(at)

    assert tombstone(other, one_first, None, 1, "x") == tombstone(one, other_first, None, 1, "x")
    assert tombstone(one, one_first, None, 1, "x") == tombstone(one, shared, None, 1, "x")


def test_an_erasure_names_nobody() -> None:
    """The event that says what was erased has places, a time and a reason, and no more."""
    assert Erasure.__struct_fields__ == ("erase_time_us", "reason", "positions", "erased_count")
