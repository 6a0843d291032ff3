"""`history` and `status`: each line says what its report changed, and is true."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from service.cli import output, story
from service.domain.events import Event, EventKind, Position
from service.domain.message import Folded, Recipient, fold
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.plugchat.decode import decode
from service.wire import encode
from service.wire.cursor import CursorCodec

NOON = 1_793_534_400
CURSORS = CursorCodec("00" * 16)
SENT = "first heard of: the message is SENT"


class Heard(NamedTuple):
    """A message's history as the API tells it."""

    message: pb.MessageStatus
    reports: list[pb.StatusReport]
    folded: list[Folded]

    def meanings(self) -> list[str]:
        """What is told of each report."""
        return [line.strip() for line in self._lines()[1::2]]

    def said(self) -> list[str]:
        """What each report is told to have said."""
        return [line.split("Z  ", 1)[1] for line in self._lines()[::2]]

    def _lines(self) -> list[str]:
        lines = list(story.told(self.message, self.reports, with_bodies=False))
        return lines[next(at for at, line in enumerate(lines) if line.startswith("heard")) + 1 :]


def _heard(*bodies: dict[str, Any]) -> Heard:
    """What the service makes of callbacks about M that come a minute apart."""
    message, recipients, reports, steps = None, dict[str, Recipient](), [], []
    for number, body in enumerate(bodies, start=1):
        raw = json.dumps({"type": "MessageStatusCallback", "ids": ["M"]} | body).encode()
        received_us = (NOON + 60 * number) * 1_000_000
        event = Event(Position(number), "acme", received_us, EventKind.CALLBACK, raw)
        (report,) = decode(event).reports
        folded = fold(message, recipients.get(report.participant), report)
        message = folded.message
        if folded.recipient is not None:
            recipients[report.participant] = folded.recipient
        shown = encode.status_report(folded, report, CURSORS.encode(report.place, received_us))
        shown.raw = raw
        reports.append(shown)
        steps.append(folded)
    assert message is not None
    return Heard(encode.message_status(message, CURSORS), reports, steps)


def _said(status: str, second: int = 0, **fields: Any) -> dict[str, Any]:
    return {"status": status, "momment": NOON + second} | fields


def test_a_message_that_goes_the_usual_way() -> None:
    """Each step up names where it came from; a repeated one says that it is nothing new."""
    heard = _heard(_said("SENT"), _said("READ", 5), _said("READ", 5))

    assert heard.meanings() == [
        SENT,
        "the message rose from SENT to READ",
        "nothing new: it was READ already",
    ]


def test_late_reports() -> None:
    """What comes late is told as what it is: a stage that was missing, or an earlier time."""
    heard = _heard(_said("READ", 5), _said("SENT", 1), _said("READ", 3), _said("SENT", 2))

    assert heard.meanings() == [
        "first heard of: the message is READ",
        "first heard that it was SENT; the message stays READ, which outranks it",
        "it was READ earlier than heard before (2026-11-01 12:00:05Z)",
        "nothing new; the message stays READ, which outranks it",
    ]


def test_a_failure_that_was_delivered_all_the_same() -> None:
    """Evidence of delivery outranks a failure; what gave the failure's reason says so."""
    failed = {"type": "DeliveryCallback", "messageId": "M", "momment": NOON}
    heard = _heard(
        _said("SENT"),
        _said("FAILED", errorCode=463),
        failed | {"error": "No route", "errorCode": 500},
        _said("RECEIVED"),
        failed | {"error": "Late"},
    )

    assert heard.meanings() == [
        SENT,
        "the message rose from SENT to FAILED; first told the failure's code, 463",
        "first told the failure's reason, “No route”",
        "the message rose from FAILED to RECEIVED",
        "nothing new; the message stays RECEIVED, which outranks it",
    ]
    assert heard.said()[2] == "no word = FAILED (500 No route), happened 2026-11-01 12:00:00Z"


def test_recipients_of_a_group() -> None:
    """A receipt that moves only its recipient names the recipient."""
    heard = _heard(
        _said("READ", participant="1"),
        _said("RECEIVED", participant="2"),
        _said("READ", participant="2"),
        _said("READ", 9, participant="3@lid"),
        _said("READ", 8, participant="3"),
        _said("READ", participant="2"),
        _said("PLAYED", participant="4"),
    )

    assert heard.meanings() == [
        "first heard of: the message is READ",
        "first heard of 2; first heard that it was RECEIVED; "
        "the message stays READ, which outranks it",
        "2 rose from RECEIVED to READ",
        "first heard of 3",
        "3 was READ earlier than heard before",
        "nothing new: it was READ already",
        "the message rose from READ to PLAYED; first heard of 4",
    ]


def test_what_a_report_brings_beside_its_status() -> None:
    """The first to tell a word, a phone or a group says so; a later phone is nothing new."""
    heard = _heard(
        {"type": "DeliveryCallback", "messageId": "M", "momment": NOON},
        _said("sent"),
        _said("SENT", phone="1-group"),
        _said("SENT", phone="2", isGroup=True),
    )

    assert heard.meanings()[1:] == [
        "first told the word, “sent”",
        "first told the phone, 1-group; first told that it went to a group",
        "nothing new: it was SENT already",
    ]


def test_our_own_reading_and_unknown_words() -> None:
    """Neither is told as news of the delivery."""
    heard = _heard(_said("SENT"), _said("READ_BY_ME"), _said("SEEN", momment="soon"))

    assert heard.meanings()[1:] == [
        "first heard that it was READ_BY_ME; the message stays SENT, which outranks it",
        "first heard that it was UNRECOGNIZED; the message stays SENT, which outranks it",
    ]
    assert heard.said()[1:] == [
        "“READ_BY_ME” = READ_BY_ME (we read it: no news of its delivery), "
        "happened 2026-11-01 12:00:00Z",
        "“SEEN” = UNRECOGNIZED (unknown: no news of its delivery), without a usable time",
    ]


def test_an_estimated_time_is_marked() -> None:
    """A stage of which only the arrival is known says so, until a report tells the time."""
    estimated, told = _heard({"status": "READ"}), _heard({"status": "READ"}, _said("READ"))

    assert "2026-11-01 12:01:00Z (when it was heard of)" in output.message_text(estimated.message)
    assert "heard of" not in output.message_text(told.message)
    assert told.meanings()[1] == "it was READ earlier than heard before (2026-11-01 12:01:00Z)"


def test_a_history_whose_beginning_was_removed() -> None:
    """It says how many reports are gone, and claims nothing that rests on them."""
    message, reports, _ = _heard(
        _said("SENT"), _said("SENT"), _said("READ"), _said("RECEIVED", phone="1"), _said("READ")
    )
    heard = Heard(message, reports[1:], [])
    lines = list(story.told(message, reports[1:], with_bodies=False))

    assert "heard 4 times, of 5 ever:" in lines
    assert heard.meanings() == [
        "it did not raise the status, which came from what is no longer kept",
        "the message rose to READ",
        "the message stays READ, which outranks it",
        "it was READ already",
    ]


def test_a_history_that_begins_with_a_rise() -> None:
    """Where the oldest report left raised the status, it is not taken for the first one either."""
    message, reports, _ = _heard(
        _said("SENT", phone="1"), _said("READ"), _said("SENT", phone="1"), _said("PLAYED")
    )

    assert Heard(message, reports[1:], []).meanings() == [
        "the message rose to READ",
        "the message stays READ, which outranks it",
        "the message rose from READ to PLAYED",
    ]


def test_a_history_that_the_server_folds_otherwise() -> None:
    """Where the server came to another status than its reports do, only that is told."""
    message, reports, _ = _heard(
        _said("SENT"), _said("RECEIVED"), _said("SENT", phone="1"), _said("READ", isGroup=True)
    )
    reports[1].advanced = False

    assert Heard(message, reports, []).meanings() == [
        SENT,
        "it did not raise the status, which came from what is no longer kept",
        "it did not raise the status, which came from what is no longer kept",
        "the message rose to READ",
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"type":"MessageStatusCallback","status":"SENT","ids":["N"],"momment":1793534400}',
        b'{"type":"MessageStatusCallback","status":"sent","ids":["M"],"momment":1793534400}',
        b'{"type":"MessageStatusCallback","status":"SENT","ids":["M"],"momment":1793534401}',
    ],
    ids=["erased", "nothing", "another message", "another word", "another time"],
)
def test_behind_a_body_that_does_not_tell(body: bytes) -> None:
    """Behind a report whose body is gone, or means something else, only the status is told."""
    heard = _heard(_said("SENT"), _said("SENT", phone="1"), _said("SENT"), _said("READ"))
    heard.reports[1].raw = body

    assert heard.meanings() == [
        SENT,
        "it was SENT already",
        "it was SENT already",
        "the message rose from SENT to READ",
    ]


def test_a_status_of_a_newer_server() -> None:
    """A status that this program does not know is told by its number."""
    heard = _heard(_said("SENT"), _said("READ"))
    heard.reports[1].status = 75  # type: ignore[assignment]

    assert heard.meanings() == [SENT, "the message rose from SENT to 75"]


def test_an_erased_body_is_told() -> None:
    """`--raw` says of a report without a body that it was erased."""
    heard = _heard(_said("SENT"))
    heard.reports[0].raw = b""
    lines = list(story.told(heard.message, heard.reports, with_bodies=True))

    assert "heard once:" in lines
    assert lines[-1].strip() == "(its body was erased)"


bodies = st.fixed_dictionaries(
    {"status": st.sampled_from(["SENT", "sent", "FAILED", "READ", "READ_BY_ME", "odd", ""])},
    optional={
        "momment": st.sampled_from([NOON, NOON + 1, NOON - 1]),
        "phone": st.sampled_from(["1", "2-group"]),
        "isGroup": st.booleans(),
        "participant": st.sampled_from(["p", "q@lid"]),
        "error": st.sampled_from(["no", 5]),
        "errorCode": st.sampled_from(["a", 7]),
    },
)


@given(st.lists(bodies, min_size=1, max_size=8))
def test_only_what_changed_nothing_is_nothing_new(said: Sequence[dict[str, Any]]) -> None:
    """`nothing new` stands behind exactly those reports that were no change."""
    heard = _heard(*said)

    assert [not folded.changed for folded in heard.folded] == [
        meaning.startswith("nothing new") for meaning in heard.meanings()
    ]


def test_what_was_removed_from_the_log() -> None:
    """`status` counts it, and says nothing where nothing was removed."""
    none = "\n".join(story.service(pb.GetServiceStatusResponse()))
    removals = pb.RemovalStatus(
        erased_event_count=2,
        expired_event_count=30,
        last_erasure_time=Timestamp(seconds=NOON),
        oldest_event_time=Timestamp(seconds=NOON - 60),
    )
    some = "\n".join(story.service(pb.GetServiceStatusResponse(removals=removals)))

    assert "removed" not in none
    assert "removed        2 events erased (last 2026-11-01 12:00:00Z), 30 expired" in some
    assert "oldest event   2026-11-01 11:59:00Z" in some


def test_the_service_tells_of_its_watchers() -> None:
    """Each with its phase, how far it is behind, and what waits for it."""
    slow = pb.WatcherStatus(
        start_time=Timestamp(seconds=1_764_000_000),
        peer="ipv4:127.0.0.1:5",
        phase=pb.WATCHER_PHASE_BEHIND,
        lag_events=12,
        lag_duration=Duration(seconds=3, nanos=500_000_000),
        queued_bytes=77,
        filter="2 phones",
    )
    now = pb.GetServiceStatusResponse(
        watchers=[slow, pb.WatcherStatus(phase=pb.WATCHER_PHASE_LIVE)],
        watcher_count=2,
        watchers_max=10,
        wait_count=4,
    )
    told = list(story.service(now))
    table = told[told.index("") + 1 :]

    assert "  watchers       2 of at most 10" in told
    assert "  waits          4" in told
    assert [re.split(r" {2,}", line) for line in table] == [
        ["watching since", "from", "phase", "behind", "queued", "filter"],
        [
            "2025-11-24 16:00:00Z",
            "ipv4:127.0.0.1:5",
            "BEHIND",
            "12 events, 3 s",
            "77 bytes",
            "2 phones",
        ],
        ["", "LIVE", "nothing", "0 bytes", "none"],
    ]
