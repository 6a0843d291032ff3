"""Rows of every table of the views, and both slots as a rebuild fills them."""

from typing import Any

from service.domain.events import Place, Position, QuarantineReason
from service.domain.instance import ConnectionState, Instance
from service.domain.message import MessageKey, Recipient
from service.domain.status import Status
from service.views.store import GenerationWriter, QuarantineRow, SpareWriter, ViewsWriter
from tests.domain_values import NOW_US, message, webhook_update
from tests.view_stores import batch, feed_entry

PROGRAM = "9.9"


def one_of_each(name: str = "M", position: int = 1) -> dict[str, Any]:
    """A row of every table, by what a batch calls them."""
    return {
        "messages": [message(name, changed_at=Place(Position(position), 0))],
        "recipients": [(MessageKey("acme", name), recipient("77"))],
        "feed": [feed_entry(position, message_id=name)],
        "quarantine": [quarantined(position)],
        "webhooks": [webhook_update(f"u-{name}", attempt_position=Position(position))],
        "instances": [instance(f"i-{name}")],
    }


def recipient(participant: str, status: Status = Status.READ) -> Recipient:
    return Recipient(participant, status, "READ", NOW_US, NOW_US)


def quarantined(position: int, instance: str = "acme") -> QuarantineRow:
    return QuarantineRow(Position(position), instance, QuarantineReason.TYPE_UNKNOWN, NOW_US)


def instance(name: str, heard_us: int = NOW_US) -> Instance:
    return Instance(name, heard_us, ConnectionState.UNSPECIFIED, 0)


def begun(writer: ViewsWriter, generation: int = 0) -> SpareWriter:
    """The spare slot, as a rebuild begins it."""
    spare = writer.spare()
    above = generation or writer.checkpoint().generation + 1
    spare.begin(above, Position(1), PROGRAM)
    return spare


def put(into: GenerationWriter, until: int, **given: Any) -> None:
    into.apply(batch(into.checkpoint(), until, **given))
