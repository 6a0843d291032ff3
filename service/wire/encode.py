"""Domain values as proto messages, and frames as bytes."""

from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.events import QuarantineReason
from service.domain.instance import ConnectionState
from service.domain.message import Folded, Message, Recipient, Report
from service.domain.progress import Progress
from service.domain.status import Status
from service.domain.webhook import WebhookUpdate
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.wire import frames
from service.wire.cursor import CursorCodec

_US_PER_S = 1_000_000


def timestamp(time_us: int) -> Timestamp:
    """Microseconds since 1970 as a proto Timestamp."""
    seconds, fraction_us = divmod(time_us, _US_PER_S)
    return Timestamp(seconds=seconds, nanos=fraction_us * 1_000)


def message_status(message: Message, cursors: CursorCodec, cursor: str = "") -> pb.MessageStatus:
    """The message. `cursor`: of the report that last changed it, if somebody has it already."""
    # Field by field, and where it stays: a part that is made first and then handed over is copied,
    # and with that a message cost three times as much.
    encoded = pb.MessageStatus()
    encoded.instance = message.instance
    encoded.message_id = message.message_id
    encoded.phone = message.phone
    encoded.group = message.group
    encoded.status = _status(message.status)
    encoded.provider_status = message.provider_status
    encoded.recipient_count = message.recipient_count
    encoded.report_count = message.report_count
    encoded.cursor = cursor or cursors.encode(message.changed_at, message.update_time_us)
    _put_time(encoded.update_time, message.update_time_us)
    add_stage = encoded.stages.add
    for stage in message.stages:
        status = stage.status
        added = add_stage()
        added.status = _status(status)
        _put_time(added.occur_time, stage.occur_time_us)
        _put_time(added.receive_time, stage.receive_time_us)
        if status is message.status:
            _put_time(encoded.occur_time, stage.occur_time_us)
            _put_time(encoded.receive_time, stage.receive_time_us)
        if status is Status.FAILED:
            encoded.failure.code = message.failure_code
            encoded.failure.reason = message.failure_reason
            _put_time(encoded.failure.occur_time, stage.occur_time_us)
    return encoded


def message(value: Message, cursors: CursorCodec, cursor: str = "") -> bytes:
    """The same as bytes."""
    return message_status(value, cursors, cursor).SerializeToString()


def recipient(value: Recipient) -> pb.Recipient:
    encoded = pb.Recipient()
    _put_recipient(encoded, value)
    return encoded


def _put_recipient(encoded: pb.Recipient, value: Recipient) -> None:
    encoded.participant = value.participant
    encoded.status = _status(value.status)
    encoded.provider_status = value.provider_status
    _put_time(encoded.occur_time, value.occur_time_us)
    _put_time(encoded.receive_time, value.receive_time_us)


def status_change(message: bytes, folded: Folded, cursor: str) -> bytes:
    """What a watcher gets for the report that was folded; `message` is the folded one, encoded."""
    about = pb.StatusChange()
    about.previous_status = _status(folded.previous_status)
    about.cursor = cursor
    if folded.recipient is not None:
        _put_recipient(about.recipient, folded.recipient)
    return frames.of_message(message) + about.SerializeToString()


def status_report(folded: Folded, report: Report, cursor: str) -> pb.StatusReport:
    """The report as it is listed; without `raw`, which stays in the log."""
    encoded = pb.StatusReport()
    encoded.cursor = cursor
    encoded.status = _status(report.status)
    encoded.provider_status = report.provider_status
    encoded.participant = report.participant
    encoded.occur_time_estimated = report.occur_time_estimated
    encoded.advanced = folded.advanced
    encoded.provider_instance = report.provider_instance
    _put_time(encoded.occur_time, report.occur_time_us)
    _put_time(encoded.receive_time, report.receive_time_us)
    return encoded


def webhook(update: WebhookUpdate) -> pb.Webhook:
    """The update; without a time if it was only checked."""
    return pb.Webhook(
        instance=update.instance,
        url=update.url,
        url_sha256=update.url_sha256,
        state=cast("pb.WebhookState.ValueType", int(update.state)),
        update_time=timestamp(update.update_time_us) if update.update_time_us else None,
        updated_by=update.updated_by,
        last_error=update.error,
        url_in_force=update.url_in_force,
    )


def connection_state(state: ConnectionState) -> pb.ConnectionState.ValueType:
    return cast("pb.ConnectionState.ValueType", int(state))


def webhook_update(update: WebhookUpdate) -> pb.WebhookUpdate:
    return pb.WebhookUpdate(
        instance=update.instance,
        url=update.url,
        url_sha256=update.url_sha256,
        state=cast("pb.WebhookState.ValueType", int(update.state)),
        start_time=timestamp(update.attempt_time_us),
        update_time=timestamp(update.update_time_us),
        updated_by=update.updated_by,
        last_error=update.error,
        request_id=update.request_id,
    )


def progress(value: Progress) -> pb.TaskProgress:
    return pb.TaskProgress(done=value.done, total=value.total, unit=value.unit, note=value.note)


def quarantine_reason(reason: QuarantineReason) -> pb.QuarantineReason.ValueType:
    return cast("pb.QuarantineReason.ValueType", int(reason))


def _put_time(encoded: Timestamp, time_us: int) -> None:
    seconds = time_us // _US_PER_S
    encoded.seconds = seconds
    encoded.nanos = (time_us - seconds * _US_PER_S) * 1_000


def _status(status: Status) -> pb.Status.ValueType:
    return cast("pb.Status.ValueType", status)
