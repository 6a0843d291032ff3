"""The views as the rest of the service sees them; `reader` and `writer` implement it.

Both halves are synchronous and are each used by one thread at a time. Reads raise
ViewsUnavailable if the store cannot be read.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from service.domain.events import Mark, Place, Position, QuarantineReason
from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient
from service.domain.state import State
from service.domain.status import Status
from service.domain.webhook import WebhookState, WebhookUpdate
from service.views.feed import FeedEntry, FeedFilter, FeedPage, PackedPage
from service.wire.frames import Bounds


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """How far a generation of the views is."""

    generation: int
    mark: Mark
    """The last event folded in; ORIGIN at the very start."""


class EncodedMessage(NamedTuple):
    """A message as callers get it."""

    instance: str
    message_id: str
    status: int
    """As in Status."""
    encoded: bytes
    """A MessageStatus."""


class SnapshotPage(NamedTuple):
    generation: int
    """Of the views the messages are of."""
    messages: list[EncodedMessage]
    end: MessageKey | None
    """How far the page looked; None once nothing is left."""


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
    refolded: Collection[MessageKey] = ()
    """Messages whose rows here are left out first: what is kept of them is in this batch."""
    released: Collection[Position] = ()
    """Events that leave quarantine."""
    encoded: Mapping[MessageKey, bytes] = {}
    """Some of the messages as callers get them; the others are encoded whenever they are asked
    for."""
    stored: Mapping[MessageKey, Message] = {}
    """Some of the messages as their rows are: what stays of those is not written again."""


class MessageFilter(msgspec.Struct, frozen=True, gc=False):
    """Which messages are asked for: AND between the fields, empty and 0 mean any."""

    instances: frozenset[str] = frozenset()
    """OR within, as for statuses."""
    phone: str = ""
    statuses: frozenset[Status] = frozenset()
    updated_from_us: int = 0
    updated_until_us: int = 0
    """Exclusive."""

    @property
    def of_one_field(self) -> bool:
        """Or of none: what an index of its own finds."""
        asked = bool(self.instances) + bool(self.phone) + bool(self.statuses)
        at_any_time = not (self.updated_from_us or self.updated_until_us)
        return asked <= 1 and at_any_time and len(self.statuses) <= 1

    def matches(self, message: Message) -> bool:
        return (
            (not self.instances or message.instance in self.instances)
            and (not self.phone or message.phone == self.phone)
            and (not self.statuses or message.status in self.statuses)
            and message.update_time_us >= self.updated_from_us
            and (not self.updated_until_us or message.update_time_us < self.updated_until_us)
        )


class MessagePage(NamedTuple):
    messages: list[Message]
    encoded: list[bytes]
    """Each as callers get it."""
    end: Place | None
    """How far the page looked; None once nothing is left."""


class ListedReport(NamedTuple):
    place: Place
    report: bytes
    """An encoded StatusReport without `raw`."""


class Difference(NamedTuple):
    """A row that the live views and the rebuilt ones do not share."""

    table: str
    key: tuple[str, ...]
    fault: str
    """In a few words."""


class Comparison(NamedTuple):
    """A page of a comparison."""

    rows: int
    """Looked at."""
    differences: list[Difference]


class Ahead(Protocol):
    """What a writer does while a batch is being committed."""

    def look_up(self) -> None:
        """Called in the transaction, when all is written: what is read of the views is as it will
        be. What this raises undoes the transaction.
        """
        ...

    def work(self) -> None:
        """Called while the commit is under way. Neither raises nor uses the views."""
        ...


def always() -> bool:
    """For events that were read: they are recorded."""
    return True


class GenerationWriter(State, Protocol):
    """One generation of the views, as it is filled. Writes raise ViewsUnavailable."""

    def checkpoint(self) -> Checkpoint: ...

    def kept_from(self) -> Position:
        """The lowest position whose reports are still here."""
        ...

    def keys_at(self, positions: Collection[Position]) -> set[MessageKey]:
        """The messages that reports of these events are about."""
        ...

    def positions_of(self, keys: Collection[MessageKey]) -> list[Position]:
        """The events with reports about these messages, each once, in order."""
        ...

    def apply(
        self,
        batch: ViewsBatch,
        recorded: Callable[[], bool] = always,
        ahead: Ahead | None = None,
    ) -> bool:
        """Write all of it in one durable transaction, or nothing.

        `recorded` is asked, and may wait, when only the commit is left to be done; False: nothing
        is written, and False comes back. Raises CheckpointMoved if the generation does not stand at
        `batch.since`.
        """
        ...


class SpareWriter(GenerationWriter, Protocol):
    """The generation beside the live one."""

    def program(self) -> str:
        """The version that fills it; empty if nothing was begun."""
        ...

    def clear(self, rows_max: int) -> int:
        """Empty it, so many rows at a time; how many went. Not begun any more. Durable."""
        ...

    def begin(self, generation: int, kept_from: Position, program: str) -> None:
        """An empty one becomes that generation, standing before the first event."""
        ...


class ViewsWriter(GenerationWriter, Protocol):
    """The live generation, and what is done with both."""

    def spare(self) -> SpareWriter: ...

    def switch(self) -> None:
        """The spare generation becomes the live one, and the other way round, at once.

        Raises CheckpointMoved unless both stand at the same event.
        """
        ...

    def compare(self, rows_max: int) -> Iterator[Comparison]:
        """Live and spare, so many rows at a time. Both stand at the same event at each page."""
        ...

    def ended_before(self, position: Position) -> list[MessageKey]:
        """Messages whose last report came before that, among those that had one here."""
        ...

    def prune(self, kept_from: Position) -> None:
        """Leave out what ended before that position: reports, messages, quarantine, webhooks.

        Of an instance's webhook updates the last one before it stays.
        """
        ...

    def rewrite(self) -> None:
        """Write the store's file anew, without the gaps that may keep copies of deleted rows.

        It takes the file's size again on disk. Raises ViewsUnavailable.
        """
        ...

    def wipe(self) -> bool:
        """Empty what lies beside the store's file; False while a reader is in the way."""
        ...

    def close(self) -> None: ...


class ViewsReader(Protocol):
    """The API's side."""

    @property
    def usable(self) -> bool:
        """False once the connection is lost: only a new reader helps."""
        ...

    def log_identity(self) -> str:
        """The log these views are of; empty before the first checkpoint."""
        ...

    def checkpoint(self) -> Checkpoint: ...

    def message(self, key: MessageKey) -> Message | None: ...

    def messages_by_id(
        self, message_id: str, instances: Collection[str], messages_max: int
    ) -> list[EncodedMessage]:
        """Those of these instances, or of all, that hold the id, in order, at most so many.

        With instances it costs a look-up each, whatever others hold.
        """
        ...

    def messages_of_ids(
        self, ids: Sequence[str], instances: Collection[str], messages_max: int
    ) -> dict[str, list[EncodedMessage]]:
        """The same for several ids, each given once; in any order where there are several."""
        ...

    def feed(
        self, after: Place, until: Mark, wanted: FeedFilter, rows_max: int, bytes_max: int
    ) -> FeedPage:
        """The wanted rows behind `after`, up to the end of event `until`, in log order.

        Looks at no more than `rows_max` rows, and stops as soon as the found changes reach
        `bytes_max` bytes. A page ends at the end of an event, or inside one that is larger than
        a page; once nothing is left, at the end of `until`.

        Raises CursorExpired if retention has removed reports behind `after`. A filter that names
        a few messages or phones costs a look-up each and what is found, however long the stretch.
        """
        ...

    def changes(
        self, after: Place, until: Mark, wanted: FeedFilter, rows_max: int, bounds: Bounds
    ) -> PackedPage:
        """The same as watchers get it, some frames' worth at most.

        Of a filter that asks for nothing of the message the database puts the frames together:
        that is a quarter of what reading row by row takes.
        """
        ...

    def snapshot(
        self, after: MessageKey, as_of: Position, wanted: FeedFilter, messages_max: int
    ) -> SnapshotPage:
        """The wanted messages behind that key that were last changed at that event or before it.

        By instance and then by id, both by code point. Looks at no more than `messages_max`
        messages, so a page may be short or empty and not be the last one. Costs the same wherever
        the page is; a filter that names ids, phones or instances, a look-up each and what is found.

        Raises CursorExpired if retention has removed reports behind that event.
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
        the last one; with instances, at no more than that of theirs. What it costs does not grow
        with the number of messages if the filter is empty, or only instances, a phone or one
        status: each has an index.
        """
        ...

    def quarantine(
        self, instances: Collection[str], before: Position, rows_max: int
    ) -> list[QuarantineRow]:
        """Newest first; of every instance if there are none."""
        ...

    def webhook_updates(
        self, instances: Collection[str], before: Position, rows_max: int
    ) -> list[WebhookUpdate]:
        """By attempt, newest first; of every instance if there are none."""
        ...

    def instances(self, after: str, rows_max: int, among: Collection[str] = ()) -> list[Instance]:
        """Those behind that name, by code point; of some if there are any."""
        ...

    def last_webhook(self, instance: str) -> WebhookUpdate | None: ...

    def webhook_by_request(self, request_id: str) -> WebhookUpdate | None:
        """The last attempt made with that request_id."""
        ...

    def holds_trace(self, text: str) -> bool:
        """Does the text stand anywhere in the store's files, deleted rows included?"""
        ...

    def webhooks_in(self, state: WebhookState) -> list[WebhookUpdate]:
        """Attempts in that state, oldest first."""
        ...

    def count_of_status(
        self, status: Status, first: Position, until: Position, count_max: int
    ) -> int:
        """Messages of that status, last changed from `first` on and before `until`.

        Counts no further than `count_max`, and costs what it counts.
        """
        ...

    def close(self) -> None: ...
