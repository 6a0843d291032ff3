"""The views as the rest of the service sees them; `sqlite` is an implementation.

Both halves are synchronous and are each used by one thread at a time. Reads raise
ViewsUnavailable if the store cannot be read.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import msgspec

from service.domain.events import Mark, Place, Point, Position, QuarantineReason
from service.domain.instance import Instance
from service.domain.message import Message, Recipient
from service.domain.status import Status
from service.domain.webhook import WebhookUpdate


class MessageKey(NamedTuple):
    instance: str
    message_id: str


class RecipientKey(NamedTuple):
    instance: str
    message_id: str
    participant: str


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """How far a generation of the views is."""

    generation: int
    mark: Mark
    """The last event folded in; ORIGIN at the very start."""


class FeedRow(msgspec.Struct, frozen=True, gc=False):
    """One report, as watchers get it and as filters see it."""

    place: Place
    receive_time_us: int
    instance: str
    message_id: str
    phone: str
    """The message's, right after the report; `status` likewise."""
    status: Status
    changed: bool
    change: bytes
    """An encoded StatusChange."""


class FeedPage(NamedTuple):
    generation: int
    """Of the views the rows are of: those of another one are not a stream's to send."""
    rows: list[FeedRow]
    end: Point
    """How far the page looked; the next one goes on behind it."""


class FeedEntry(NamedTuple):
    """A feed row with what is only listed: an encoded StatusReport without `raw`."""

    row: FeedRow
    report: bytes


class QuarantineRow(NamedTuple):
    position: Position
    instance: str
    reason: QuarantineReason
    receive_time_us: int


class ViewsBatch(msgspec.Struct, frozen=True, gc=False):
    """Everything that folding some events in changes, from one checkpoint to the next."""

    since: Checkpoint
    until: Mark
    messages: Collection[Message]
    recipients: Collection[tuple[MessageKey, Recipient]]
    feed: Sequence[FeedEntry]
    quarantine: Sequence[QuarantineRow]
    webhooks: Collection[WebhookUpdate]
    instances: Collection[Instance]


class FeedFilter(msgspec.Struct, frozen=True, gc=False):
    """Which feed rows are asked for: AND between the fields, OR within; empty means any."""

    instances: frozenset[str] = frozenset()
    message_ids: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()
    statuses: frozenset[Status] = frozenset()
    unchanged: bool = False
    """Also the reports that changed nothing."""

    def matches(self, row: FeedRow) -> bool:
        return (
            (row.changed or self.unchanged)
            and (not self.instances or row.instance in self.instances)
            and (not self.message_ids or row.message_id in self.message_ids)
            and (not self.phones or row.phone in self.phones)
            and (not self.statuses or row.status in self.statuses)
        )


class MessageFilter(msgspec.Struct, frozen=True, gc=False):
    """Which messages are asked for: AND between the fields, empty and 0 mean any."""

    instance: str = ""
    phone: str = ""
    statuses: frozenset[Status] = frozenset()
    """OR within."""
    updated_from_us: int = 0
    updated_until_us: int = 0
    """Exclusive."""

    def matches(self, message: Message) -> bool:
        return (
            (not self.instance or message.instance == self.instance)
            and (not self.phone or message.phone == self.phone)
            and (not self.statuses or message.status in self.statuses)
            and message.update_time_us >= self.updated_from_us
            and (not self.updated_until_us or message.update_time_us < self.updated_until_us)
        )


class MessagePage(NamedTuple):
    messages: list[Message]
    end: Place | None
    """How far the page looked; None once nothing is left."""


class ListedReport(NamedTuple):
    place: Place
    report: bytes
    """An encoded StatusReport without `raw`."""


class ViewsWriter(Protocol):
    """The projector's side."""

    def checkpoint(self) -> Checkpoint: ...

    def messages(self, keys: Collection[MessageKey]) -> dict[MessageKey, Message]:
        """The known ones of these."""
        ...

    def recipients(self, keys: Collection[RecipientKey]) -> dict[RecipientKey, Recipient]:
        """The known ones of these."""
        ...

    def last_webhook(self, instance: str) -> WebhookUpdate | None:
        """The instance's last attempt."""
        ...

    def webhook(self, update_id: str) -> WebhookUpdate | None: ...

    def instance(self, name: str) -> Instance | None: ...

    def apply(self, batch: ViewsBatch) -> None:
        """Write all of it in one durable transaction, or nothing.

        Raises CheckpointMoved if the views do not stand at `batch.since`, ViewsUnavailable if
        the store cannot be written.
        """
        ...

    def close(self) -> None: ...


class ViewsReader(Protocol):
    """The API's side."""

    def log_identity(self) -> str:
        """The log these views are of; empty before the first checkpoint."""
        ...

    def checkpoint(self) -> Checkpoint: ...

    def message(self, key: MessageKey) -> Message | None: ...

    def messages_by_id(self, message_id: str, messages_max: int) -> list[Message]:
        """Those of all instances that hold the id, in order of instance, at most so many."""
        ...

    def feed(
        self, after: Place, until: Mark, wanted: FeedFilter, rows_max: int, bytes_max: int
    ) -> FeedPage:
        """The wanted rows behind `after`, up to the end of event `until`, in log order.

        Looks at no more than `rows_max` rows, and stops as soon as the found changes reach
        `bytes_max` bytes. A page ends at the end of an event, or inside one that is larger than
        a page; once nothing is left, at the end of `until`.
        """
        ...

    def recipients(self, key: MessageKey, after: str, rows_max: int) -> list[Recipient]:
        """Those behind participant `after`, by code point; empty begins with the first."""
        ...

    def reports(self, key: MessageKey, after: Place, rows_max: int) -> list[ListedReport]:
        """Every report of the message behind `after`, in log order."""
        ...

    def last_changed(
        self, wanted: MessageFilter, before: Place, messages_max: int, looked_max: int
    ) -> MessagePage:
        """The wanted messages last changed before that place, last changed first.

        Looks at no more than `looked_max` messages, so a page may be short or empty and not be
        the last one. What it costs does not grow with the number of messages if the filter is
        empty, or only an instance, a phone or one status: each has an index.
        """
        ...

    def quarantine(self, instance: str, before: Position, rows_max: int) -> list[QuarantineRow]:
        """Newest first; of every instance if that is empty."""
        ...

    def webhook_updates(
        self, instance: str, before: Position, rows_max: int
    ) -> list[WebhookUpdate]:
        """By attempt, newest first; of every instance if that is empty."""
        ...

    def instances(self, after: str, rows_max: int) -> list[Instance]:
        """Those behind that name, by code point."""
        ...

    def last_webhook(self, instance: str) -> WebhookUpdate | None: ...

    def webhook_by_request(self, request_id: str) -> WebhookUpdate | None:
        """The last attempt made with that request_id."""
        ...

    def pending_webhooks(self) -> list[WebhookUpdate]:
        """Attempts without an outcome, oldest first."""
        ...

    def close(self) -> None: ...
