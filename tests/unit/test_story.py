"""`history`: each line says what its report changed, and is true."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from service.cli import story
from service.gen.plugchat.status.v1 import status_pb2 as pb

NOON = 1_793_534_400


def _report(
    status: str, second: int = 0, *, advanced: bool = False, **fields: Any
) -> pb.StatusReport:
    return pb.StatusReport(
        status=pb.Status.Value(f"STATUS_{status}"),
        provider_status=status.lower(),
        occur_time=Timestamp(seconds=NOON + second),
        receive_time=Timestamp(seconds=NOON + 60),
        advanced=advanced,
        raw=b"{}",
        **fields,
    )


def _meanings(*reports: pb.StatusReport) -> list[str]:
    message = pb.MessageStatus(message_id="M", report_count=len(reports))
    lines = list(story.told(message, reports, with_bodies=False))
    return [line.strip() for line in lines[4::2]]


def test_a_message_that_goes_the_usual_way() -> None:
    """Each step up names where it came from; a repeated one says that it is nothing new."""

    assert _meanings(
        _report("SENT", advanced=True), _report("READ", 5, advanced=True), _report("READ", 5)
    ) == [
        "first heard of: the message is SENT",
        "the message rose from SENT to READ",
        "nothing new: it was READ already",
    ]


def test_late_reports() -> None:
    """What comes late is told as what it is: a stage that was missing, or an earlier time."""

    assert _meanings(
        _report("READ", 5, advanced=True),
        _report("SENT", 1),
        _report("READ", 3),
        _report("SENT", 2),
    ) == [
        "first heard of: the message is READ",
        "first heard that it was SENT; the message stays READ, which outranks it",
        "it was READ earlier than heard before",
        "the message stays READ, which outranks it",
    ]


def test_a_failure_that_was_delivered_all_the_same() -> None:
    """Evidence of delivery outranks a failure, before it and after."""

    assert _meanings(
        _report("SENT", advanced=True),
        _report("FAILED", advanced=True),
        _report("RECEIVED", advanced=True),
        _report("FAILED"),
    ) == [
        "first heard of: the message is SENT",
        "the message rose from SENT to FAILED",
        "the message rose from FAILED to RECEIVED",
        "the message stays RECEIVED, which outranks it",
    ]


def test_recipients_of_a_group() -> None:
    """A receipt that moves only its recipient names the recipient."""

    assert _meanings(
        _report("READ", advanced=True, participant="1"),
        _report("RECEIVED", participant="2"),
        _report("READ", participant="2"),
        _report("READ", participant="2"),
    ) == [
        "first heard of: the message is READ",
        "first heard of 2; first heard that it was RECEIVED; "
        "the message stays READ, which outranks it",
        "2 rose from RECEIVED to READ",
        "nothing new: it was READ already",
    ]


def test_our_own_reading_and_unknown_words() -> None:
    """Neither is told as a change of what is known of the delivery."""

    assert _meanings(
        _report("SENT", advanced=True), _report("READ_BY_ME"), _report("UNRECOGNIZED")
    )[1:] == [
        "first heard that it was READ_BY_ME; the message stays SENT, which outranks it",
        "first heard that it was UNRECOGNIZED; the message stays SENT, which outranks it",
    ]


def test_a_history_whose_beginning_was_removed() -> None:
    """It says how many reports are gone, and does not take the oldest one left for the first."""
    message = pb.MessageStatus(message_id="M", report_count=7)
    lines = list(story.told(message, [_report("SENT")], with_bodies=False))

    assert lines[2] == "heard 1 times, of 7 ever:"
    assert lines[4].strip() == "what was heard before it is no longer kept"


def test_an_erased_body_is_told() -> None:
    """`--raw` says of a report without a body that it was erased."""
    erased = _report("SENT", advanced=True)
    erased.raw = b""
    lines = list(story.told(pb.MessageStatus(), [erased], with_bodies=True))

    assert lines[-1].strip() == "(its body was erased)"


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
