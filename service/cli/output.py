"""Proto messages for people and for machines."""

from collections.abc import Iterator, Sequence

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from service.gen.plugchat.status.v1 import status_pb2 as pb

_LABEL_WIDTH = 15
_EXCERPT_CHARACTERS_MAX = 100

STATUS_CHOICES = [
    name.removeprefix("STATUS_").lower().replace("_", "-")
    for name, number in pb.Status.items()
    if number
]
"""The statuses as options spell them."""


def status_value(choice: str) -> pb.Status.ValueType:
    """The status one of STATUS_CHOICES names."""
    return pb.Status.Value("STATUS_" + choice.upper().replace("-", "_"))


def plain(text: str) -> str:
    """A text of others as a terminal may show it: what would move or colour it is spelt out."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows of one length as aligned columns; the first one is the header."""
    rows = [tuple(map(plain, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def excerpt(body: bytes, characters_max: int | None = _EXCERPT_CHARACTERS_MAX) -> str:
    """A body on one line, without what a terminal would obey; empty once it was erased."""
    text = body.decode(errors="replace")
    shown = plain(text)
    cut = characters_max is not None and len(shown) > characters_max
    return shown[:characters_max] + ("…" if cut else "")


def json_line(message: Message) -> str:
    """One line: the proto's names, values that are not set included."""
    return MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None,
        ensure_ascii=False,
    )


def time_text(time: Timestamp) -> str:
    """`2026-01-31 12:00:00Z`, with milliseconds where there are any; empty for no time."""
    if not time.seconds and not time.nanos:
        return ""
    fraction = f".{time.nanos // 1_000_000:03d}" if time.nanos else ""
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S}{fraction}Z"


def status_name(status: pb.Status.ValueType) -> str:
    """The name without its prefix; the number of one that a newer server knows."""
    try:
        return pb.Status.Name(status).removeprefix("STATUS_")
    except ValueError:
        return str(status)


def message_text(message: pb.MessageStatus) -> str:
    """A message in a few lines."""
    return "\n".join(
        [f"{plain(message.message_id)}  {status_name(message.status)}", *_message_lines(message)]
    )


def change_text(change: pb.StatusChange) -> str:
    """A change in one line."""
    message = change.message
    before, after = status_name(change.previous_status), status_name(message.status)
    step = after if change.previous_status == message.status else f"{before} → {after}"
    if not change.previous_status:
        step = after
    recipient = f"  {change.recipient.participant}" if change.HasField("recipient") else ""
    return plain(
        f"{time_text(message.update_time)}  {message.instance}  {message.message_id}  "
        f"{step}{recipient}"
    )


def webhook_text(webhook: pb.Webhook) -> str:
    """A webhook in a few lines."""
    state = pb.WebhookState.Name(webhook.state).removeprefix("WEBHOOK_STATE_")
    rows = (
        ("address", webhook.url),
        ("sha256", webhook.url_sha256),
        ("in force", webhook.url_in_force or "none known"),
        ("updated", time_text(webhook.update_time)),
        ("by", webhook.updated_by),
        ("error", webhook.last_error),
    )
    return "\n".join([f"{webhook.instance}  {state}", *labelled(rows)])


def _message_lines(message: pb.MessageStatus) -> Iterator[str]:
    failure = message.failure
    failed = " ".join(part for part in (failure.code, failure.reason) if part)
    rows = [
        ("instance", message.instance),
        ("phone", message.phone + (" (group)" if message.group else "")),
        ("provider says", message.provider_status),
        ("failure", failed or ("no reason given" if message.HasField("failure") else "")),
        ("recipients", str(message.recipient_count or "")),
        ("reports", str(message.report_count)),
        ("last change", time_text(message.update_time)),
        ("cursor", message.cursor),
    ]
    rows += [(status_name(stage.status), _stage_time_text(stage)) for stage in message.stages]
    return labelled(rows)


def _stage_time_text(stage: pb.Stage) -> str:
    """When it happened; marked where only its arrival is known."""
    arrival = " (when it was heard of)" if stage.occur_time == stage.receive_time else ""
    return time_text(stage.occur_time) + arrival


def labelled(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Rows that have a text, one below the other."""
    return (f"  {label:<{_LABEL_WIDTH}}{plain(text)}" for label, text in rows if text)
