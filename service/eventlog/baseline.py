"""The baseline: what removed events had come to, for all that later events go on with.

When retention removes the oldest events, the state they had folded to stays here for every
message that later events are about, so that building the views from the log gives the same as
before. It stands exactly at the last removed event, because both change in one transaction.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, Protocol

import msgspec

from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient
from service.domain.state import State
from service.domain.webhook import WebhookUpdate


class BaselineKind(IntEnum):
    """What a row holds, as JSON. The numbers are stored: never reuse one."""

    MESSAGE = 1
    RECIPIENT = 2
    """`part` is the participant."""
    WEBHOOK = 3
    """`id` is the update's."""
    INSTANCE = 4


class BaselineKey(NamedTuple):
    kind: BaselineKind
    instance: str
    id: str
    """The message's, unless the kind says otherwise."""
    part: str


class BaselineRow(NamedTuple):
    key: BaselineKey
    content: bytes


class BaselinePart(NamedTuple):
    """Rows, as what they hold."""

    messages: list[Message]
    recipients: list[tuple[MessageKey, Recipient]]
    webhooks: list[WebhookUpdate]
    instances: list[Instance]


class Baseline(State, Protocol):
    """Raises LogUnavailable if the store cannot be read."""

    def recipients_of(self, key: MessageKey) -> list[Recipient]: ...

    def parts(self, rows_max: int) -> Iterator[BaselinePart]:
        """All of it, so many rows at a time. Each part is read when it is asked for."""
        ...

    def webhooks(self) -> list[WebhookUpdate]: ...


_encode = msgspec.json.Encoder().encode
MESSAGES = msgspec.json.Decoder(Message)
RECIPIENTS = msgspec.json.Decoder(Recipient)
WEBHOOKS = msgspec.json.Decoder(WebhookUpdate)
INSTANCES = msgspec.json.Decoder(Instance)


def message_key(key: MessageKey) -> BaselineKey:
    return BaselineKey(BaselineKind.MESSAGE, key.instance, key.message_id, "")


def recipient_key(key: MessageKey, participant: str) -> BaselineKey:
    return BaselineKey(BaselineKind.RECIPIENT, key.instance, key.message_id, participant)


def webhook_key(update: WebhookUpdate) -> BaselineKey:
    return BaselineKey(BaselineKind.WEBHOOK, update.instance, update.update_id, "")


def message_row(message: Message) -> BaselineRow:
    key = MessageKey(message.instance, message.message_id)
    return BaselineRow(message_key(key), _encode(message))


def recipient_row(key: MessageKey, recipient: Recipient) -> BaselineRow:
    return BaselineRow(recipient_key(key, recipient.participant), _encode(recipient))


def webhook_row(update: WebhookUpdate) -> BaselineRow:
    return BaselineRow(webhook_key(update), _encode(update))


def instance_row(instance: Instance) -> BaselineRow:
    return BaselineRow(
        BaselineKey(BaselineKind.INSTANCE, instance.instance, "", ""), _encode(instance)
    )


def part_of(rows: list[BaselineRow]) -> BaselinePart:
    part = BaselinePart([], [], [], [])
    for key, content in rows:
        match key.kind:
            case BaselineKind.MESSAGE:
                part.messages.append(MESSAGES.decode(content))
            case BaselineKind.RECIPIENT:
                message = MessageKey(key.instance, key.id)
                part.recipients.append((message, RECIPIENTS.decode(content)))
            case BaselineKind.WEBHOOK:
                part.webhooks.append(WEBHOOKS.decode(content))
            case BaselineKind.INSTANCE:
                part.instances.append(INSTANCES.decode(content))
    return part
