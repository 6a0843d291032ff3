"""What an erasure changes of the baseline."""

from collections import Counter
from typing import NamedTuple

import msgspec

from service.domain.erasure import Subject
from service.domain.message import Message, MessageKey, Recipient
from service.eventlog import baseline as rows
from service.eventlog.baseline import Baseline, BaselineKey, BaselineRow
from service.eventlog.log import BaselineChange

_ROWS = 1_000


class Forgotten(NamedTuple):
    change: BaselineChange
    messages: set[MessageKey]
    """That go."""
    touched: set[MessageKey]
    """That stay, but not as they were."""
    recipients: set[tuple[MessageKey, str]]
    """That go, of messages that stay."""


def forgotten(baseline: Baseline, subject: Subject) -> Forgotten:
    """Reads all of the baseline. Raises LogUnavailable."""
    ended: set[MessageKey] = set()
    changed: dict[MessageKey, Message] = {}
    put: list[BaselineRow] = []
    dropped: list[BaselineKey] = []
    gone: Counter[MessageKey] = Counter()
    recipients: set[tuple[MessageKey, str]] = set()
    # Messages come before the recipients of any of them.
    for part in baseline.parts(_ROWS):
        for message in part.messages:
            key = MessageKey(message.instance, message.message_id)
            if subject.has_message(*key) or (subject.phone and message.phone == subject.phone):
                ended.add(key)
            elif (scrubbed := _message(message, subject)) != message:
                changed[key] = scrubbed
        for key, recipient in part.recipients:
            if key in ended:
                continue
            if subject.holds(recipient.participant):
                dropped.append(rows.recipient_key(key, recipient.participant))
                recipients.add((key, recipient.participant))
                gone[key] += 1
            elif subject.holds(recipient.provider_status):
                put.append(rows.recipient_row(key, _recipient(recipient, subject)))
    for key, message in baseline.messages(gone.keys()).items():
        left = changed.get(key, message)
        changed[key] = msgspec.structs.replace(
            left, recipient_count=left.recipient_count - gone[key]
        )
    put += map(rows.message_row, changed.values())
    touched = changed.keys() | {MessageKey(row.key.instance, row.key.id) for row in put}
    return Forgotten(BaselineChange(list(ended), dropped, put), ended, touched, recipients)


def _message(message: Message, subject: Subject) -> Message:
    return msgspec.structs.replace(
        message,
        phone=subject.without(message.phone),
        provider_status=subject.without(message.provider_status),
        failure_code=subject.without(message.failure_code),
        failure_reason=subject.without(message.failure_reason),
    )


def _recipient(recipient: Recipient, subject: Subject) -> Recipient:
    return msgspec.structs.replace(
        recipient, provider_status=subject.without(recipient.provider_status)
    )
