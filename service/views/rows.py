"""Domain values as table rows and back; the same for every database."""

from collections.abc import Sequence
from typing import Any

import msgspec

from service.domain.events import Place, Position
from service.domain.instance import ConnectionState, Instance
from service.domain.message import Message, MessageKey, Recipient, Stage
from service.domain.status import Status
from service.domain.webhook import WebhookState, WebhookUpdate
from service.views.feed import FeedEntry
from service.wire import frames

Row = tuple[Any, ...]
"""A row in the order of its table's columns."""

_stages = msgspec.json.Decoder(tuple[Stage, ...])
_encode = msgspec.json.Encoder().encode


def message_row(message: Message, encoded: bytes | None) -> Row:
    """`encoded`: the same as callers get it, if that is known."""
    return (
        message.instance,
        message.message_id,
        message.phone,
        message.group,
        int(message.status),
        message.provider_status,
        _encode(message.stages).decode(),
        message.recipient_count,
        message.failure_code,
        message.failure_reason,
        message.report_count,
        message.update_time_us,
        message.changed_at.position,
        message.changed_at.index,
        message.first_at.position,
        message.first_at.index,
        encoded,
        None if encoded is None else message.report_count,
    )


def message_of(row: Sequence[Any]) -> Message:
    """From the columns up to `first_index`."""
    return Message(
        instance=row[0],
        message_id=row[1],
        phone=row[2],
        group=bool(row[3]),
        status=Status(row[4]),
        provider_status=row[5],
        stages=_stages.decode(row[6]),
        recipient_count=row[7],
        failure_code=row[8],
        failure_reason=row[9],
        report_count=row[10],
        update_time_us=row[11],
        changed_at=Place(Position(row[12]), row[13]),
        first_at=Place(Position(row[14]), row[15]),
    )


def recipient_row(key: MessageKey, recipient: Recipient) -> Row:
    return (
        key.instance,
        key.message_id,
        recipient.participant,
        int(recipient.status),
        recipient.provider_status,
        recipient.occur_time_us,
        recipient.receive_time_us,
    )


def recipient_of(row: Sequence[Any]) -> Recipient:
    return Recipient(
        participant=row[2],
        status=Status(row[3]),
        provider_status=row[4],
        occur_time_us=row[5],
        receive_time_us=row[6],
    )


def feed_row(entry: FeedEntry) -> Row:
    return (*entry.row, entry.report, frames.change_head(len(entry.row.change)))


def webhook_row(update: WebhookUpdate) -> Row:
    return (
        update.update_id,
        update.instance,
        update.request_id,
        update.url,
        update.url_sha256,
        update.updated_by,
        int(update.state),
        update.update_time_us,
        update.error,
        update.error_reason,
        update.attempt_time_us,
        update.attempt_position,
        update.url_in_force,
    )


def webhook_of(row: Sequence[Any]) -> WebhookUpdate:
    return WebhookUpdate(
        update_id=row[0],
        instance=row[1],
        request_id=row[2],
        url=row[3],
        url_sha256=row[4],
        updated_by=row[5],
        state=WebhookState(row[6]),
        update_time_us=row[7],
        error=row[8],
        error_reason=row[9],
        attempt_time_us=row[10],
        attempt_position=Position(row[11]),
        url_in_force=row[12],
    )


def instance_row(instance: Instance) -> Row:
    return (
        instance.instance,
        instance.last_callback_time_us,
        int(instance.connection_state),
        instance.connection_time_us,
    )


def instance_of(row: Sequence[Any]) -> Instance:
    return Instance(
        instance=row[0],
        last_callback_time_us=row[1],
        connection_state=ConnectionState(row[2]),
        connection_time_us=row[3],
    )
