"""How reports become the state of a message: the fold.

    status, stages, failure's time        greatest rank, least times: a join semilattice, so that
    recipients' status and times          order and repetition of reports cannot matter
    provider_status, phone,               first non-empty value in log order: the named exception
    failure code and reason
    group                                 true once any report said so
    report_count                          every report, repeated ones too

What one report costs does not grow with the number of recipients: a recipient is loaded and
stored by itself, and the message only counts them.
"""

from typing import NamedTuple

import msgspec

from service.domain.events import Place
from service.domain.status import Status


class MessageKey(NamedTuple):
    instance: str
    message_id: str


class RecipientKey(NamedTuple):
    instance: str
    message_id: str
    participant: str


class Report(msgspec.Struct, frozen=True, gc=False):
    """What one callback says about one message."""

    place: Place
    instance: str
    message_id: str
    status: Status
    provider_status: str
    """The word as sent; may be empty."""
    participant: str
    """Who of a group or broadcast; empty where the callback names nobody."""
    phone: str
    group: bool
    occur_time_us: int
    occur_time_estimated: bool
    """The callback gave no plausible time, so `occur_time_us` is `receive_time_us`."""
    receive_time_us: int
    failure_code: str
    failure_reason: str
    provider_instance: str
    """The body's own `instanceId`; only shown, never used."""


class Stage(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A status a message has had, with the least times heard of it."""

    status: Status
    occur_time_us: int
    receive_time_us: int


class Message(msgspec.Struct, frozen=True, gc=False):
    """The state of a message after its first report or a later one."""

    instance: str
    message_id: str
    phone: str
    group: bool
    status: Status
    provider_status: str
    stages: tuple[Stage, ...]
    """In order of rank, one a status, never empty."""
    recipient_count: int
    failure_code: str
    failure_reason: str
    report_count: int
    update_time_us: int
    """Receive time of the last change."""
    changed_at: Place
    """The report that last changed the message or one of its recipients."""
    first_at: Place
    """The first report of the message; names it in snapshot cursors."""

    def stage(self, status: Status) -> Stage | None:
        """The stage of that status, or None if it was never heard."""
        return next((stage for stage in self.stages if stage.status is status), None)


class Recipient(msgspec.Struct, frozen=True, gc=False):
    """The state of one participant of a group or broadcast message."""

    participant: str
    status: Status
    provider_status: str
    occur_time_us: int
    """Least occur time heard of this status; `receive_time_us` likewise."""
    receive_time_us: int


class Folded(msgspec.Struct, frozen=True, gc=False):
    """What a report made of a message and, where it names one, of its recipient."""

    message: Message
    recipient: Recipient | None
    previous_status: Status
    """UNSPECIFIED for a message's first report."""
    changed: bool
    """Any field but report_count and the two places differs, or the recipient does."""

    @property
    def advanced(self) -> bool:
        """The message's status rose."""
        return self.message.status > self.previous_status


def fold(message: Message | None, recipient: Recipient | None, report: Report) -> Folded:
    """Fold one report, the next in log order, into a message and the recipient it names.

    `message` is None if this is its first report; `recipient` is None if this is the first report
    of that participant, or the report names none.
    """
    new_recipient = _fold_recipient(recipient, report) if report.participant else None
    joins = int(new_recipient is not None and recipient is None)
    if message is None:
        first = _first_message(report, joins)
        return Folded(first, new_recipient, Status.UNSPECIFIED, changed=True)
    folded = _fold_message(message, report, joins)
    changed = new_recipient != (recipient if report.participant else None) or _differs(
        message, folded
    )
    if changed:
        folded = msgspec.structs.replace(
            folded, update_time_us=report.receive_time_us, changed_at=report.place
        )
    return Folded(folded, new_recipient, message.status, changed)


def _first_message(report: Report, recipient_count: int) -> Message:
    failed = report.status is Status.FAILED
    return Message(
        instance=report.instance,
        message_id=report.message_id,
        phone=report.phone,
        group=report.group,
        status=report.status,
        provider_status=report.provider_status,
        stages=(Stage(report.status, report.occur_time_us, report.receive_time_us),),
        recipient_count=recipient_count,
        failure_code=report.failure_code if failed else "",
        failure_reason=report.failure_reason if failed else "",
        report_count=1,
        update_time_us=report.receive_time_us,
        changed_at=report.place,
        first_at=report.place,
    )


def _fold_message(message: Message, report: Report, joins: int) -> Message:
    """The message with the report's facts; its places and update time are still the old ones."""
    failed = report.status is Status.FAILED
    status, provider_status = _outranked(
        message.status, message.provider_status, report.status, report.provider_status
    )
    return Message(
        instance=message.instance,
        message_id=message.message_id,
        phone=message.phone or report.phone,
        group=message.group or report.group,
        status=status,
        provider_status=provider_status,
        stages=_fold_stages(message.stages, report),
        recipient_count=message.recipient_count + joins,
        failure_code=message.failure_code or (report.failure_code if failed else ""),
        failure_reason=message.failure_reason or (report.failure_reason if failed else ""),
        report_count=message.report_count + 1,
        update_time_us=message.update_time_us,
        changed_at=message.changed_at,
        first_at=message.first_at,
    )


def _differs(old: Message, new: Message) -> bool:
    return (
        new.status is not old.status
        or new.stages != old.stages
        or new.recipient_count != old.recipient_count
        or new.provider_status != old.provider_status
        or new.phone != old.phone
        or new.group != old.group
        or new.failure_code != old.failure_code
        or new.failure_reason != old.failure_reason
    )


def _outranked(old: Status, old_word: str, new: Status, new_word: str) -> tuple[Status, str]:
    """The higher status with its word: of equal ones the first word that is not empty."""
    if new > old:
        return new, new_word
    if new is old:
        return old, old_word or new_word
    return old, old_word


def _fold_stages(stages: tuple[Stage, ...], report: Report) -> tuple[Stage, ...]:
    for place, stage in enumerate(stages):
        if stage.status is report.status:
            occur_time_us = min(stage.occur_time_us, report.occur_time_us)
            receive_time_us = min(stage.receive_time_us, report.receive_time_us)
            if (occur_time_us, receive_time_us) == (stage.occur_time_us, stage.receive_time_us):
                return stages
            earlier = Stage(stage.status, occur_time_us, receive_time_us)
            return (*stages[:place], earlier, *stages[place + 1 :])
        if stage.status > report.status:
            heard = Stage(report.status, report.occur_time_us, report.receive_time_us)
            return (*stages[:place], heard, *stages[place:])
    return (*stages, Stage(report.status, report.occur_time_us, report.receive_time_us))


def _fold_recipient(recipient: Recipient | None, report: Report) -> Recipient:
    heard = Recipient(
        participant=report.participant,
        status=report.status,
        provider_status=report.provider_status,
        occur_time_us=report.occur_time_us,
        receive_time_us=report.receive_time_us,
    )
    if recipient is None or report.status > recipient.status:
        return heard
    if report.status < recipient.status:
        return recipient
    return Recipient(
        participant=recipient.participant,
        status=recipient.status,
        provider_status=recipient.provider_status or report.provider_status,
        occur_time_us=min(recipient.occur_time_us, report.occur_time_us),
        receive_time_us=min(recipient.receive_time_us, report.receive_time_us),
    )
