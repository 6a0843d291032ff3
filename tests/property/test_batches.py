"""How a log is cut into batches changes nothing of what comes out, for any log and any cuts."""

import json
from collections.abc import Collection
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.domain.events import ORIGIN, Event, EventKind, Position
from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient, RecipientKey
from service.domain.webhook import WebhookUpdate
from service.projector.batch import fold_events
from service.views.feed import FeedEntry
from service.views.store import Checkpoint, QuarantineRow
from service.wire import encode
from service.wire.cursor import CursorCodec
from tests.domain_values import NOW_US

CURSORS = CursorCodec("00" * 16)

bodies = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["MessageStatusCallback"] * 4 + ["DeliveryCallback", "Odd"]),
        "status": st.sampled_from(["SENT", "READ", "FAILED", "READ_BY_ME", "odd", ""]),
        "ids": st.lists(st.sampled_from("MNO"), max_size=3),
        "messageId": st.sampled_from("MN"),
        "momment": st.sampled_from([NOW_US // 1_000, NOW_US // 1_000 - 1, "soon"]),
        "phone": st.sampled_from(["", "5", "6-group"]),
        "participant": st.sampled_from(["", "p", "q@lid"]),
        "error": st.sampled_from(["", "no", "another"]),
    }
)
connections = st.fixed_dictionaries(
    {"type": st.sampled_from(["ConnectedCallback", "DisconnectedCallback"])}
)
logs = st.lists(bodies | connections, min_size=1, max_size=12)


class Views:
    """What the batches so far have come to."""

    def __init__(self) -> None:
        self.known_messages: dict[MessageKey, Message] = {}
        self.known_recipients: dict[RecipientKey, Recipient] = {}
        self.known_instances: dict[str, Instance] = {}
        self.feed: list[FeedEntry] = []
        self.quarantine: list[QuarantineRow] = []
        self.checkpoint = Checkpoint(1, ORIGIN)

    def messages(self, keys: Collection[MessageKey]) -> dict[MessageKey, Message]:
        return {key: self.known_messages[key] for key in keys if key in self.known_messages}

    def recipients(self, keys: Collection[RecipientKey]) -> dict[RecipientKey, Recipient]:
        return {key: self.known_recipients[key] for key in keys if key in self.known_recipients}

    def last_webhook(self, instance: str) -> WebhookUpdate | None:
        return None

    def webhook(self, update_id: str) -> WebhookUpdate | None:
        return None

    def instance(self, name: str) -> Instance | None:
        return self.known_instances.get(name)

    def advance(self, events: list[Event], reports_max: int) -> int:
        """Fold one batch of these events; how many it took."""
        batch = fold_events(events, self.checkpoint, self, CURSORS, reports_max)
        taken = batch.until.position - self.checkpoint.mark.position
        assert batch.since == self.checkpoint
        assert taken == 1 or len(batch.feed) <= reports_max
        for message in batch.messages:
            self.known_messages[MessageKey(message.instance, message.message_id)] = message
        assert batch.encoded == {
            MessageKey(one.instance, one.message_id): encode.message(one, CURSORS)
            for one in batch.messages
        }
        for key, recipient in batch.recipients:
            self.known_recipients[RecipientKey(*key, recipient.participant)] = recipient
        self.known_instances |= {each.instance: each for each in batch.instances}
        self.feed += batch.feed
        self.quarantine += batch.quarantine
        self.checkpoint = Checkpoint(1, batch.until)
        return taken


def _folded(log: list[dict[str, Any]], cuts: list[tuple[int, int]]) -> dict[str, Any]:
    """The views after that log, in batches of so many events and reports, the last cut repeated."""
    views = Views()
    events = [
        Event(
            Position(position),
            "ab"[position % 2],
            NOW_US + position,
            EventKind.CALLBACK,
            json.dumps(body).encode(),
        )
        for position, body in enumerate(log, start=1)
    ]
    while events:
        events_max, reports_max = cuts[0]
        cuts = cuts[1:] or cuts
        taken = views.advance(events[:events_max], reports_max)
        assert taken > 0
        events = events[taken:]
    return vars(views)


@given(logs, st.lists(st.tuples(st.integers(1, 12), st.integers(1, 6)), min_size=1, max_size=6))
def test_cuts_change_nothing(log: list[dict[str, Any]], cuts: list[tuple[int, int]]) -> None:
    """Messages, recipients, instances, quarantine, and every row of the feed are the same.

    And only a callback that is alone in its batch may make more reports than a batch should.
    """

    assert _folded(log, [(100, 1_000)]) == _folded(log, cuts)
