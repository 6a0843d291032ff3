"""From a run of events to what they change in the views.

1. Decode the events, in order, until enough reports are together.
2. Load the state of everything they name.
3. Fold the reports in log order, and encode each change as watchers will get it.
4. Hand back all of it as one batch: the store writes it with the checkpoint.
"""

from collections.abc import Collection, Sequence

import msgspec

from service.domain import instance, webhook
from service.domain.events import Event, EventKind, Mark, QuarantineReason
from service.domain.instance import Instance
from service.domain.message import (
    Folded,
    Message,
    MessageKey,
    Recipient,
    RecipientKey,
    Report,
    fold,
)
from service.domain.state import State
from service.domain.webhook import WebhookUpdate
from service.plugchat.decode import Reading
from service.plugchat.reading import read
from service.views.feed import FeedEntry, FeedRow
from service.views.store import Checkpoint, QuarantineRow, ViewsBatch
from service.wire import encode
from service.wire.cursor import CursorCodec

_attempts = msgspec.json.Decoder(webhook.Attempt)
_outcomes = msgspec.json.Decoder(webhook.Outcome)


def fold_events(
    events: Sequence[Event],
    since: Checkpoint,
    state: State,
    cursors: CursorCodec,
    reports_max: int,
) -> ViewsBatch:
    """Fold at least one event, and no more than make `reports_max` reports together.

    `events` follow `since` without a gap, and `state` is that up to there: an erasure among them
    changes nothing of it. Raises RetryLater if it cannot be read.
    """
    return Folding(events, state, cursors, reports_max).folded(since)


class Folding:
    """Events that are decoded, with the state that they meet: points 1 and 2, then 3 and 4."""

    def __init__(
        self, events: Sequence[Event], state: State, cursors: CursorCodec, reports_max: int
    ) -> None:
        """As `fold_events`."""
        readings = _decoded(events, reports_max)
        self._read = list(zip(events, readings, strict=False))
        self._batch = Batch(
            state,
            cursors,
            [report for reading in readings for report in reading.reports],
            {event.instance for event, _ in self._read},
        )

    def folded(self, since: Checkpoint) -> ViewsBatch:
        """To be called once. Asks the state for nothing more, but for webhook outcomes."""
        for event, reading in self._read:
            self._batch.add(event, reading)
        last, _ = self._read[-1]
        return self._batch.finished(since, Mark(last.position, last.receive_time_us))


def quarantined(event: Event, since: Checkpoint) -> ViewsBatch:
    """A batch that steps over an event which could not be folded."""
    row = QuarantineRow(
        event.position, event.instance, QuarantineReason.UNREADABLE, event.receive_time_us
    )
    return ViewsBatch(
        since=since,
        until=Mark(event.position, event.receive_time_us),
        messages=(),
        recipients=(),
        feed=(),
        quarantine=(row,),
        webhooks=(),
        instances=(),
    )


def feed_entry(folded: Folded, message: bytes, report: Report, cursor: str) -> FeedEntry:
    """The feed's row of the report that was folded; `message` is the folded one, encoded."""
    place, told = report.place, folded.message
    row = FeedRow(
        place.position,
        place.index,
        report.receive_time_us,
        told.instance,
        told.message_id,
        told.phone,
        int(told.status),
        folded.changed,
        encode.status_change(message, folded, cursor),
    )
    return FeedEntry(row, encode.status_report(folded, report, cursor).SerializeToString())


def _decoded(events: Sequence[Event], reports_max: int) -> list[Reading]:
    readings: list[Reading] = []
    reports = 0
    for event in events:
        reading = read(event)
        reports += len(reading.reports)
        if readings and reports > reports_max:
            break
        readings.append(reading)
    return readings


class Batch:
    """The state the batch's events meet, and what they make of it."""

    def __init__(
        self,
        state: State,
        cursors: CursorCodec,
        reports: Sequence[Report],
        instances: Collection[str] = (),
    ) -> None:
        """`reports` are those that will be folded, `instances` those that will be heard: all of
        that is loaded at once.
        """
        self._cursors = cursors
        self._messages: dict[MessageKey, Message] = state.messages(
            {MessageKey(report.instance, report.message_id) for report in reports}
        )
        self._stored = dict(self._messages)
        self._recipients: dict[RecipientKey, Recipient] = state.recipients(
            {_recipient_key(report) for report in reports if report.participant}
        )
        self._webhooks = _Webhooks(state, instances)
        self._known = {name: state.instance(name) for name in instances}
        self._instances: dict[str, Instance] = {}
        self._touched_messages: dict[MessageKey, Message] = {}
        self._encoded: dict[MessageKey, bytes] = {}
        self._touched_recipients: dict[RecipientKey, Recipient] = {}
        self._feed: list[FeedEntry] = []
        self._quarantine: list[QuarantineRow] = []

    def add(self, event: Event, reading: Reading) -> None:
        if event.damaged:
            self._keep_apart(event, QuarantineReason.UNREADABLE)
            return
        match event.kind:
            case EventKind.CALLBACK | EventKind.TOMBSTONE:
                self._webhooks.callback(event)
                self._hear(event, reading)
                for report in reading.reports:
                    self.fold(report)
                if reading.quarantined is not None:
                    self._keep_apart(event, reading.quarantined)
            case EventKind.WEBHOOK_ATTEMPT | EventKind.WEBHOOK_OUTCOME:
                try:
                    self._webhooks.own(event)
                except msgspec.DecodeError:
                    self._keep_apart(event, QuarantineReason.UNREADABLE)
            case EventKind.ERASURE | EventKind.UNKNOWN:
                pass

    def finished(self, since: Checkpoint, until: Mark) -> ViewsBatch:
        return ViewsBatch(
            since=since,
            until=until,
            messages=self._touched_messages.values(),
            recipients=[
                (MessageKey(key.instance, key.message_id), recipient)
                for key, recipient in self._touched_recipients.items()
            ],
            feed=self._feed,
            quarantine=self._quarantine,
            webhooks=self._webhooks.touched.values(),
            instances=self._instances.values(),
            encoded=self._encoded,
            stored=self._stored,
        )

    def _hear(self, event: Event, reading: Reading) -> None:
        name = event.instance
        known = self._instances.get(name) or self._known[name]
        self._instances[name] = instance.heard(
            known, name, event.receive_time_us, reading.connection
        )

    def fold(self, report: Report) -> None:
        key = MessageKey(report.instance, report.message_id)
        recipient_key = _recipient_key(report)
        folded = fold(self._messages.get(key), self._recipients.get(recipient_key), report)
        message = folded.message
        self._messages[key] = self._touched_messages[key] = message
        if folded.recipient is not None:
            self._recipients[recipient_key] = folded.recipient
            self._touched_recipients[recipient_key] = folded.recipient
        cursor = self._cursors.encode(report.place, report.receive_time_us)
        encoded = encode.message(message, self._cursors, cursor if folded.changed else "")
        self._encoded[key] = encoded
        self._feed.append(feed_entry(folded, encoded, report, cursor))

    def _keep_apart(self, event: Event, reason: QuarantineReason) -> None:
        self._quarantine.append(
            QuarantineRow(event.position, event.instance, reason, event.receive_time_us)
        )


class _Webhooks:
    """The webhook updates the batch's events begin, conclude or confirm."""

    def __init__(self, views: State, instances: Collection[str]) -> None:
        self._views = views
        self._last = {name: views.last_webhook(name) for name in instances}
        self.touched: dict[str, WebhookUpdate] = {}

    def callback(self, event: Event) -> None:
        """A callback of the instance confirms an address accepted before it."""
        last = self._last_of(event.instance)
        if last is not None and last.state is webhook.WebhookState.ACCEPTED:
            self._put(webhook.confirmed(last))

    def own(self, event: Event) -> None:
        """Raises msgspec.DecodeError if the content is not what its kind says."""
        if event.kind is EventKind.WEBHOOK_ATTEMPT:
            attempt = _attempts.decode(event.content)
            last = self._last_of(event.instance)
            in_force = last.url_in_force if last else ""
            self._put(
                webhook.attempted(
                    attempt, event.instance, event.position, event.receive_time_us, in_force
                )
            )
            return
        outcome = _outcomes.decode(event.content)
        update = self.touched.get(outcome.update_id) or self._views.webhook(outcome.update_id)
        if update is not None:
            self._put(webhook.concluded(update, outcome, event.receive_time_us))

    def _last_of(self, instance: str) -> WebhookUpdate | None:
        if instance not in self._last:
            self._last[instance] = self._views.last_webhook(instance)
        return self._last[instance]

    def _put(self, update: WebhookUpdate) -> None:
        self.touched[update.update_id] = update
        last = self._last_of(update.instance)
        if last is None or last.attempt_position <= update.attempt_position:
            self._last[update.instance] = update


def _recipient_key(report: Report) -> RecipientKey:
    return RecipientKey(report.instance, report.message_id, report.participant)
