"""Which events of a log an erasure takes, and the tombstones it puts there."""

import json
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from service.domain.erasure import Erasure, Subject, Tombstone
from service.domain.events import Event, EventKind, Position
from service.domain.message import MessageKey
from service.eventlog.log import LogReader
from service.plugchat.reading import read
from service.upkeep.scan import Found, buried, look, reason_of, still_said
from tests.domain_values import NOW_US

PHONE = "5511987654321"
OTHER = "5521700000303"
ESCAPED = "".join(f"\\u{ord(one):04x}" for one in PHONE)
ALL = Position(1_000_000)
M = MessageKey("acme", "M")


class Events:
    """A log that is a list, from position 1."""

    def __init__(self, *contents: bytes, kind: EventKind = EventKind.CALLBACK) -> None:
        self.events = [
            Event(Position(at), "acme", NOW_US, kind, content)
            for at, content in enumerate(contents, 1)
        ]

    def read(self, after: Position, events_max: int, _bytes_max: int) -> list[Event]:
        return self.events[after : after + events_max]

    def event(self, position: Position) -> Event | None:
        return self.events[position - 1] if 0 < position <= len(self.events) else None

    def bury(self, subject: Subject, positions: Sequence[Position], time_us: int) -> None:
        for position, content in buried(self.log, subject, positions, time_us):
            event = self.events[position - 1]
            self.events[position - 1] = msgspec.structs.replace(
                event, kind=EventKind.TOMBSTONE, content=content
            )

    @property
    def log(self) -> LogReader:
        return cast(LogReader, self)


def callback(*ids: str, **more: Any) -> bytes:
    body = {"type": "MessageStatusCallback", "status": "SENT", "ids": ids, **more}
    return json.dumps(body).encode()


def found(events: Events, subject: Subject) -> Found:
    return look(events.log, subject, Position(0), ALL, 1_000)


def all_of(seen: Found) -> list[Position]:
    return [*seen.others, *seen.addressed]


@pytest.mark.parametrize(
    "body",
    [
        callback("N", phone=PHONE),
        callback("N", phone=int(PHONE)),
        callback("N", phone=OTHER, senderName=f"call +{PHONE}"),
        callback("N", participant=f"{PHONE}@lid"),
        callback(f"3EB0{PHONE}"),
        callback("N", **{PHONE: True}),
        callback("N").replace(b'"N"', f'"{ESCAPED}"'.encode()),
        callback("N", error={"to": f"{PHONE}"}),
        callback("N", quoted=f'{{"phone":"{ESCAPED}"}}'),
        b'{"phone":"%b","phone":"%b"}' % (PHONE.encode(), OTHER.encode()),
        b'{"type":"Novel","phone":"%b"}' % PHONE.encode(),
        b'{"deep":' + b"[" * 900 + ESCAPED.join('""').encode() + b"]" * 900 + b"}",
        PHONE.encode(),
    ],
)
def test_bodies_that_hold_the_phone(body: bytes) -> None:
    """Wherever a body holds the phone it is found, read by somebody or not."""
    assert all_of(found(Events(body), Subject(phone=PHONE))) == [1]


@pytest.mark.parametrize(
    "body",
    [
        callback("N", phone=OTHER),
        callback("N", phone=PHONE[:-1]),
        callback("M"),
        b"{}",
        callback("N", quoted="\\"),
    ],
)
def test_bodies_that_do_not(body: bytes) -> None:
    """What neither holds the phone nor names a message of it is left alone."""
    assert found(Events(body), Subject(phone=PHONE)) == Found(Position(1), [], [], set(), set())


def test_bodies_that_name_a_message_of_the_phone() -> None:
    """They go too, read by somebody or not, apart from those that say whose a message is."""
    events = Events(
        callback("M"),
        callback("N", quoted="M"),
        b'{"type":"Novel","about":"M"}',
        callback("M", phone=PHONE),
        callback("MM"),
        b'{"ids":["\\u004d"]}',
    )
    events.events.append(msgspec.structs.replace(events.events[0], position=7, instance="umbrella"))
    seen = found(events, Subject(phone=PHONE, messages=frozenset({M})))

    assert (seen.others, seen.addressed) == ([1, 2, 3, 6], [4])
    assert seen.messages == {M}


def test_bodies_that_name_a_message() -> None:
    """By id, of one instance or of each; a text that only holds the id names another message."""
    events = Events(callback("M", phone=PHONE), callback("MM"), b'{"id":"\\u004D"}', b'{"x":["M"]}')
    events.events.append(msgspec.structs.replace(events.events[0], position=5, instance="umbrella"))
    everywhere = found(events, Subject(message_id="M"))
    in_acme = found(events, Subject(message_id="M", instance="acme"))

    assert (everywhere.others, everywhere.addressed) == ([1, 3, 4, 5], [])
    assert (in_acme.others, in_acme.addressed) == ([1, 3, 4], [])
    assert everywhere.messages == {M, MessageKey("umbrella", "M")}
    assert in_acme.messages == {M}


def test_recipients_of_others_are_told() -> None:
    """Participants that hold the phone go; of messages that go themselves none is counted."""
    events = Events(
        callback("N", "M", participant=PHONE),
        callback("N", participantPhone=f"{PHONE}@lid"),
        callback("N", participant=OTHER, phone=PHONE),
    )
    seen = found(events, Subject(phone=PHONE, messages=frozenset({M})))

    assert seen.recipients == {(MessageKey("acme", "N"), PHONE)}
    assert seen.messages == {M}


def test_other_events_are_left_alone() -> None:
    """An address of ours, an outcome, an earlier erasure: none of them is a callback's body."""
    kinds = [kind for kind in EventKind if kind not in (EventKind.CALLBACK, EventKind.TOMBSTONE)]
    for kind in kinds:
        events = Events(callback("M", phone=PHONE), kind=kind)

        assert all_of(found(events, Subject(phone=PHONE))) == []
        assert found(events, Subject(message_id="M")).others == []


def test_a_look_goes_no_further_than_told() -> None:
    """It ends at its number of events, and never behind the last position asked for."""
    events = Events(*[callback("M")] * 10)
    subject = Subject(message_id="M")
    looked = [
        look(events.log, subject, Position(after), Position(until), most)
        for after, until, most in ((0, 4, 100), (4, 10, 3), (7, 10, 100), (10, 20, 5))
    ]

    assert [one.until for one in looked] == [4, 7, 10, 20]
    assert [one.others for one in looked] == [[1, 2, 3, 4], [5, 6, 7], [8, 9, 10], []]


def test_tombstones_keep_others_and_their_first_reason() -> None:
    """A second erasure finds what the first left, takes its part, and keeps time and reason."""
    events = Events(callback("M", "N", "O", phone=PHONE, participant="p", errorCode=f"E{OTHER}"))
    events.bury(Subject(message_id="M"), [Position(1)], NOW_US)
    by_id = [one.message_id for one in read(events.events[0]).reports]
    seen = found(events, Subject(phone=PHONE, messages=frozenset({MessageKey("acme", "N")})))
    events.bury(
        Subject(phone=PHONE, messages=frozenset({MessageKey("acme", "N")})), all_of(seen), 9
    )
    left = msgspec.json.decode(events.events[0].content, type=Tombstone)
    (report,) = read(events.events[0]).reports

    assert by_id == ["N", "O"]
    assert (left.erase_time_us, left.reason) == (NOW_US, "message")
    assert (report.message_id, report.place.index, report.phone) == ("O", 2, "")
    assert (report.participant, report.failure_code) == ("p", f"E{OTHER}")
    assert found(events, Subject(phone=PHONE)) == Found(Position(1), [], [], set(), set())
    assert all_of(found(events, Subject(phone=OTHER))) == [1]
    assert found(events, Subject(message_id="O")).others == [1]
    assert found(events, Subject(message_id="N")).others == []


def test_escapes_in_an_object_do_not_stay() -> None:
    """An error that was an object is shown as it was spelt, and goes if it spells the phone."""
    body = callback("M", "N").replace(b'"SENT"', b'"SENT","error":{"to":"%b"}' % ESCAPED.encode())
    events = Events(body)
    events.bury(Subject(phone=PHONE, messages=frozenset({M})), [Position(1)], NOW_US)
    (report,) = read(events.events[0]).reports

    assert (report.message_id, report.failure_reason) == ("N", "")


def test_a_position_that_is_not_there_is_left_out() -> None:
    """Retention may have removed it."""
    assert buried(Events().log, Subject(message_id="M"), [Position(3)], NOW_US) == []


def test_what_is_still_said() -> None:
    """Whether any event holds the text as it would stand in a file."""
    events = Events(*[b"{}"] * 5_000, callback("M"))

    assert still_said(events.log, '"M"')
    assert not still_said(events.log, '"N"')


def test_reasons() -> None:
    """A tombstone says by what it was asked, and not for whom."""
    assert (reason_of(Subject(phone=PHONE)), reason_of(Subject(message_id="M"))) == (
        "phone",
        "message",
    )
    assert PHONE not in msgspec.json.encode(Erasure(1, "phone", (1, 2), 1)).decode()
