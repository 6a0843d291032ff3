"""Domain values as proto messages, and frames as bytes."""

from typing import cast

from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.events import QuarantineReason
from service.domain.instance import ConnectionState
from service.domain.message import Folded, Message, Recipient, Report, Stage
from service.domain.progress import Progress
from service.domain.status import Status
from service.domain.webhook import WebhookUpdate
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.wire.cursor import CursorCodec

_US_PER_S = 1_000_000


def timestamp(time_us: int) -> Timestamp:
    """Microseconds since 1970 as a proto Timestamp."""
    seconds, fraction_us = divmod(time_us, _US_PER_S)
    return Timestamp(seconds=seconds, nanos=fraction_us * 1_000)


def message_status(message: Message, cursors: CursorCodec) -> pb.MessageStatus:
    """The message; its cursor is that of the report that last changed it."""
    current = message.stage(message.status)
    assert current is not None
    encoded = pb.MessageStatus(
        instance=message.instance,
        message_id=message.message_id,
        phone=message.phone,
        group=message.group,
        status=_status(message.status),
        provider_status=message.provider_status,
        occur_time=timestamp(current.occur_time_us),
        receive_time=timestamp(current.receive_time_us),
        stages=[_stage(stage) for stage in message.stages],
        recipient_count=message.recipient_count,
        report_count=message.report_count,
        update_time=timestamp(message.update_time_us),
        cursor=cursors.encode(message.changed_at, message.update_time_us),
    )
    failed = message.stage(Status.FAILED)
    if failed is not None:
        encoded.failure.code = message.failure_code
        encoded.failure.reason = message.failure_reason
        encoded.failure.occur_time.CopyFrom(timestamp(failed.occur_time_us))
    return encoded


def recipient(value: Recipient) -> pb.Recipient:
    return pb.Recipient(
        participant=value.participant,
        status=_status(value.status),
        provider_status=value.provider_status,
        occur_time=timestamp(value.occur_time_us),
        receive_time=timestamp(value.receive_time_us),
    )


def status_change(folded: Folded, report: Report, cursors: CursorCodec) -> pb.StatusChange:
    """What a watcher gets for the report that was folded."""
    return pb.StatusChange(
        message=message_status(folded.message, cursors),
        previous_status=_status(folded.previous_status),
        recipient=recipient(folded.recipient) if folded.recipient else None,
        cursor=cursors.encode(report.place, report.receive_time_us),
    )


def in_snapshot(message: Message, cursor: str, cursors: CursorCodec) -> bytes:
    """An encoded StatusChange of a message as it is; `cursor` names its place in the snapshot."""
    return pb.StatusChange(
        message=message_status(message, cursors), cursor=cursor
    ).SerializeToString()


def status_report(folded: Folded, report: Report, cursors: CursorCodec) -> pb.StatusReport:
    """The report as it is listed; without `raw`, which stays in the log."""
    return pb.StatusReport(
        cursor=cursors.encode(report.place, report.receive_time_us),
        status=_status(report.status),
        provider_status=report.provider_status,
        participant=report.participant,
        occur_time=timestamp(report.occur_time_us),
        occur_time_estimated=report.occur_time_estimated,
        receive_time=timestamp(report.receive_time_us),
        advanced=folded.advanced,
        provider_instance=report.provider_instance,
    )


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


def _stage(stage: Stage) -> pb.Stage:
    return pb.Stage(
        status=_status(stage.status),
        occur_time=timestamp(stage.occur_time_us),
        receive_time=timestamp(stage.receive_time_us),
    )


def _status(status: Status) -> pb.Status.ValueType:
    return cast("pb.Status.ValueType", int(status))
