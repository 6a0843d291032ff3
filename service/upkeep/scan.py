"""Which events an erasure takes, and what stays of each."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from service.domain.erasure import Subject, Tombstone, tombstone
from service.domain.events import BEFORE_FIRST, Event, EventKind, Position
from service.domain.message import MessageKey, Report
from service.eventlog.log import LogReader
from service.plugchat.reading import read
from service.plugchat.texts import texts

_tombstones = msgspec.json.Decoder(Tombstone)
_encode = msgspec.json.Encoder().encode


class Found(NamedTuple):
    """What a look at a stretch of the log gives."""

    until: Position
    """How far it looked."""
    addressed: list[Position]
    """Events to erase whose word on whom a message went to holds the phone."""
    others: list[Position]
    """Those that only name such a message, or hold the phone anywhere else."""
    messages: set[MessageKey]
    """The messages that go, as far as these events name them."""
    recipients: set[tuple[MessageKey, str]]
    """The recipients that go, of messages that stay."""


def look(
    log: LogReader, subject: Subject, after: Position, until: Position, events_max: int
) -> Found:
    """Look at the next events behind `after`, none behind `until`."""
    found = Found(until, [], [], set(), set())
    events = [
        event for event in log.read(after, events_max, _PLENTY_BYTES) if event.position <= until
    ]
    needles = [text.encode() for text in (subject.phone, subject.message_id) if text]
    for event in events:
        if not _concerned(event, subject, needles):
            continue
        reports = read(event).reports
        addressed = subject.phone and any(subject.holds(one.phone) for one in reports)
        (found.addressed if addressed else found.others).append(event.position)
        for report in reports:
            key = MessageKey(report.instance, report.message_id)
            if subject.has_message(*key):
                found.messages.add(key)
            elif subject.holds(report.participant):
                found.recipients.add((key, report.participant))
    return found._replace(until=events[-1].position) if events else found


def buried(
    log: LogReader, subject: Subject, positions: Iterable[Position], erase_time_us: int
) -> list[tuple[Position, bytes]]:
    """The tombstones to put at these positions."""
    return [
        (position, _encode(_tombstone(event, subject, erase_time_us)))
        for position in positions
        if (event := log.event(position)) is not None
    ]


def _tombstone(event: Event, subject: Subject, erase_time_us: int) -> Tombstone:
    reading = read(event)
    if event.kind is EventKind.TOMBSTONE:
        # A second erasure takes more of it, and leaves when and why it first was.
        before = _tombstones.decode(event.content)
        return tombstone(
            subject, reading.reports, reading.connection, before.erase_time_us, before.reason
        )
    return tombstone(
        subject, reading.reports, reading.connection, erase_time_us, reason_of(subject)
    )


def still_said(log: LogReader, text: str) -> bool:
    """Does an event hold the text as it stands in a file?"""
    needle = text.encode()
    position = BEFORE_FIRST
    while events := log.read(position, _SCAN_EVENTS, _PLENTY_BYTES):
        if any(needle in event.content for event in events):
            return True
        position = events[-1].position
    return False


def reason_of(subject: Subject) -> str:
    return "phone" if subject.phone else "message"


def _concerned(event: Event, subject: Subject, needles: list[bytes]) -> bool:
    if event.kind is EventKind.CALLBACK:
        # Most bodies hold neither, and need not be taken apart to know it.
        possible = subject.messages or b"\\" in event.content
        if not possible and not any(needle in event.content for needle in needles):
            return False
        return subject.is_in(event.instance, texts(event.content))
    if event.kind is EventKind.TOMBSTONE:
        reports = read(event).reports
        return any(
            subject.has_message(report.instance, report.message_id) for report in reports
        ) or any(map(subject.holds, _texts(event, reports)))
    return False


def _texts(event: Event, reports: Iterable[Report]) -> Iterable[str]:
    if event.kind is EventKind.CALLBACK:
        return texts(event.content)
    return [
        text
        for report in reports
        for text in (
            report.message_id,
            report.participant,
            report.phone,
            report.provider_status,
            report.failure_code,
            report.failure_reason,
            report.provider_instance,
        )
    ]


_SCAN_EVENTS = 2_000
_PLENTY_BYTES = 8 * 1024 * 1024
"""Contents held in memory at once."""
