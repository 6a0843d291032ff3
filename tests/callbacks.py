"""Callbacks for tests: bodies in, what they are decoded to out."""

import json
from pathlib import Path
from typing import Any

from service.domain.events import Event, EventKind, Position
from service.domain.message import Report
from service.plugchat.decode import Reading, decode

RECEIVED_US = 1_793_491_200_000_000
"""2026-11-01T00:00:00Z, after every moment in the known bodies."""

DAY_US = 24 * 3_600 * 1_000_000
POSITION = Position(7)

KNOWN: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "callbacks.jsonl").read_text().splitlines()
]
"""Bodies the provider is known to send, each with what it means."""


def reading(body: dict[str, Any] | bytes) -> Reading:
    """What a callback of acme, received at RECEIVED_US, says. Bytes go in as they are."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode(Event(POSITION, "acme", RECEIVED_US, EventKind.CALLBACK, content))


def status_callback(**members: Any) -> Reading:
    """What a MessageStatusCallback that says SENT of A means, other members as given."""
    body = {"type": "MessageStatusCallback", "status": "SENT", "ids": ["A"]}
    return reading(body | members)


def delivery_callback(**members: Any) -> Reading:
    """What a DeliveryCallback about A means, other members as given."""
    return reading({"type": "DeliveryCallback", "messageId": "A"} | members)


def only(read: Reading) -> Report:
    """The one report of a callback that makes one."""
    assert read.quarantined is None
    (report,) = read.reports
    return report


def indexed_ids(read: Reading) -> list[tuple[str, int]]:
    """The message ids of a callback's reports, each with its index."""
    assert read.quarantined is None
    return [(report.message_id, report.place.index) for report in read.reports]
