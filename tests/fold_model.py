"""Random events of every kind, and a short model of what they come to and what retention leaves.

The model never reads a body: who makes an event says what it means. Nothing is kept but that: each
question is answered from all of it anew, by first, least and greatest.
"""

import json
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from service.domain.events import EventKind, NewEvent, QuarantineReason
from service.domain.instance import ConnectionState
from service.domain.webhook import Attempt, Outcome, WebhookState

BEGIN_US = 1_793_491_200_000_000
HOUR_US = 3_600_000_000
INSTANCES = ("acme", "other")
PHONES = ("5511987650001", "5511987650002", "5511987650003")
GROUP = "120363019502650977-group"
RANKS = {"SENT": 40, "RECEIVED": 60, "READ": 70, "PLAYED": 80, "READ-SELF": 20, "odd": 10, " ": 10}
FAILED = 50

Key = tuple[str, str]
Place = tuple[int, int]


class Said(NamedTuple):
    """One report."""

    place: Place
    time_us: int
    key: Key
    rank: int
    word: str = ""
    phone: str = ""
    group: bool = False
    participant: str = ""
    occur_us: int = 0
    code: str = ""
    reason: str = ""


class Recipient(NamedTuple):
    rank: int
    word: str
    occur_us: int
    time_us: int


class State(NamedTuple):
    """What a message is after some reports, without its count and places."""

    rank: int
    word: str
    phone: str
    group: bool
    stages: tuple[tuple[int, int, int], ...]
    recipients: tuple[tuple[str, Recipient], ...]
    code: str
    reason: str


class Known(NamedTuple):
    """What is shown of a message."""

    state: State
    report_count: int
    update_time_us: int
    changed_at: Place
    first_at: Place


class Webhook(NamedTuple):
    instance: str
    position: int
    state: WebhookState
    url: str
    url_in_force: str


class Instance(NamedTuple):
    last_callback_time_us: int
    connection: ConnectionState
    connection_time_us: int


@dataclass
class Told:
    """An event and what it means; positions are given once it is in the log."""

    event: NewEvent
    said: list[Said] = field(default_factory=list)
    quarantined: QuarantineReason | None = None
    connection: tuple[ConnectionState, int] | None = None
    attempt: str = ""
    """The update it begins."""
    outcome: tuple[str, WebhookState] | None = None


class Model:
    """Every event told so far, and how far retention has come."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.said: list[Said] = []
        self.kept_from = 1

    def add(self, told: Told) -> None:
        position = len(self.told) + 1
        self.told.append(told)
        self.said += [one._replace(place=(position, one.place[1])) for one in told.said]

    def cut(self, keep_from: int) -> None:
        """Forget the messages that ended before; one that is told of later is a new one."""
        going_on = {one.key for one in self.said if one.place[0] >= keep_from}
        self.said = [one for one in self.said if one.key in going_on]
        self.kept_from = max(self.kept_from, keep_from)

    def messages(self) -> dict[Key, Known]:
        return {key: _known(said) for key, said in self._by_message().items()}

    def feed(self) -> dict[Place, tuple[str, str, str, int, bool]]:
        """Of each kept report: its message, that one's phone and status then, did it change."""
        found = {}
        for key, said in self._by_message().items():
            for count, one in enumerate(said, start=1):
                state = _state(said[:count])
                changed = count == 1 or state != _state(said[: count - 1])
                if one.place[0] >= self.kept_from:
                    found[one.place] = (*key, state.phone, state.rank, changed)
        return found

    def quarantine(self) -> dict[int, QuarantineReason]:
        return {
            position: told.quarantined
            for position, told in enumerate(self.told, start=1)
            if told.quarantined is not None and position >= self.kept_from
        }

    def webhooks(self) -> dict[str, Webhook]:
        """By update: those kept, and of each instance the last one before."""
        found: dict[str, Webhook] = {}
        last: dict[str, str] = {}
        for position, told in enumerate(self.told, start=1):
            instance = told.event.instance
            before = found.get(last.get(instance, ""))
            if told.attempt:
                in_force = before.url_in_force if before else ""
                found[told.attempt] = Webhook(
                    instance, position, WebhookState.PENDING, _url(told.attempt), in_force
                )
                last[instance] = told.attempt
            elif told.outcome and told.outcome[0] in found:
                name, state = told.outcome
                accepted = state is WebhookState.ACCEPTED
                begun = found[name]
                if begun.state in (WebhookState.PENDING, WebhookState.UNKNOWN):
                    in_force = begun.url if accepted else begun.url_in_force
                    found[name] = begun._replace(state=state, url_in_force=in_force)
            elif (
                told.event.kind is EventKind.CALLBACK
                and before is not None
                and before.state is WebhookState.ACCEPTED
            ):
                found[last[instance]] = before._replace(state=WebhookState.CONFIRMED)
        old = [one for one in found.values() if one.position < self.kept_from]
        newest = {one.instance: one.position for one in sorted(old, key=lambda one: one.position)}
        return {
            name: one for name, one in found.items() if one.position >= newest.get(one.instance, 0)
        }

    def instances(self) -> dict[str, Instance]:
        found: dict[str, Instance] = {}
        for told in self.told:
            if told.event.kind is EventKind.CALLBACK:
                name = told.event.instance
                old = found.get(name, Instance(0, ConnectionState.UNSPECIFIED, 0))
                new = told.connection
                if new is None or new[1] < old.connection_time_us:
                    new = old[1:]
                found[name] = Instance(max(old[0], told.event.receive_time_us), *new)
        return found

    def _by_message(self) -> dict[Key, list[Said]]:
        found: dict[Key, list[Said]] = defaultdict(list)
        for one in self.said:
            found[one.key].append(one)
        return found


def _known(said: list[Said]) -> Known:
    changes = [
        one
        for count, one in enumerate(said)
        if count == 0 or _state(said[: count + 1]) != _state(said[:count])
    ]
    last = changes[-1]
    return Known(_state(said), len(said), last.time_us, last.place, said[0].place)


def _state(said: list[Said]) -> State:
    failed = [one for one in said if one.rank == FAILED]
    best = _best(said)
    stages = [(rank, _best([one for one in said if one.rank == rank])) for rank in _ranks(said)]
    people = {one.participant for one in said} - {""}
    return State(
        rank=best.rank,
        word=best.word,
        phone=_first(one.phone for one in said),
        group=any(one.group for one in said),
        stages=tuple((rank, stage.occur_us, stage.time_us) for rank, stage in stages),
        recipients=tuple(
            (who, _best([one for one in said if one.participant == who])) for who in sorted(people)
        ),
        code=_first(one.code for one in failed),
        reason=_first(one.reason for one in failed),
    )


def _best(said: list[Said]) -> Recipient:
    """The greatest rank heard, its first word and its least times."""
    rank = max(one.rank for one in said)
    best = [one for one in said if one.rank == rank]
    return Recipient(
        rank,
        _first(one.word for one in best),
        min(one.occur_us for one in best),
        min(one.time_us for one in best),
    )


def _ranks(said: list[Said]) -> list[int]:
    return sorted({one.rank for one in said})


def _first(texts: Any) -> str:
    return next((str(text) for text in texts if text), "")


def _url(update: str) -> str:
    return f"https://hooks.example/{update}"


class Teller:
    """Makes random events, about so few messages that all of them are told of often."""

    def __init__(self, dice: random.Random, ids: int = 12) -> None:
        self._dice = dice
        self._ids = [f"M{number}" for number in range(ids)]
        self._updates: list[tuple[str, str]] = []
        self._now_us = BEGIN_US

    def told(self) -> Told:
        # Now and again the clock steps back.
        self._now_us += self._dice.choice((1, 60_000_000, HOUR_US, HOUR_US, -HOUR_US // 2))
        kinds = {
            self._status: 12,
            self._delivery: 4,
            self._quarantined: 2,
            self._connection: 2,
            self._attempt: 2,
            self._outcome: 3,
            self._strange: 1,
        }
        (make,) = self._dice.choices(list(kinds), list(kinds.values()))
        return make()

    def _event(self, content: Any, kind: EventKind = EventKind.CALLBACK, instance: str = "") -> Any:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return NewEvent(instance or self._dice.choice(INSTANCES), self._now_us, kind, body)

    def _moment(self) -> tuple[dict[str, int], int]:
        """A member, and when it says that it happened: a moment in another year says nothing."""
        seconds = self._now_us // 10**6 - self._dice.randrange(7_200)
        told = self._dice.choice(({}, {"momment": 7}, {"momment": seconds}))
        return told, seconds * 10**6 if told.get("momment") == seconds else self._now_us

    def _status(self) -> Told:
        dice = self._dice
        word = dice.choice(list(RANKS))
        group = dice.random() < 0.3
        ids = dice.sample(self._ids, dice.choice((1, 1, 1, 2, 4)))
        moment, occur_us = self._moment()
        participant = dice.choice(("", "77001", *PHONES)) if group else ""
        phone = GROUP if group else dice.choice(("", *PHONES))
        body = {"type": "MessageStatusCallback", "status": word, "ids": ids, "phone": phone}
        event = self._event(body | moment | ({"participant": participant} if participant else {}))
        one = Said((0, 0), self._now_us, ("", ""), RANKS[word], word, phone, group, participant)
        return Told(event, self._each(event, ids, one._replace(occur_us=occur_us)))

    def _delivery(self) -> Told:
        dice = self._dice
        message_id = dice.choice(self._ids)
        error, code = dice.choice(("", "expired", "no route")), dice.choice(("", "470", "131026"))
        moment, occur_us = self._moment()
        body = {"type": "DeliveryCallback", "messageId": message_id, "phone": dice.choice(PHONES)}
        event = self._event(body | moment | {"error": error, "errorCode": code})
        one = Said((0, 0), self._now_us, ("", ""), FAILED if error else 40, phone=body["phone"])
        return Told(
            event,
            self._each(
                event, [message_id], one._replace(occur_us=occur_us, code=code, reason=error)
            ),
        )

    def _each(self, event: NewEvent, ids: list[str], said: Said) -> list[Said]:
        return [
            said._replace(place=(0, index), key=(event.instance, message_id))
            for index, message_id in enumerate(ids)
        ]

    def _quarantined(self) -> Told:
        status = {"type": "MessageStatusCallback"}
        content, reason = self._dice.choice(
            (
                ({"type": 7}, QuarantineReason.TYPE_MISSING),
                ({"type": "Novel", "id": "M1"}, QuarantineReason.TYPE_UNKNOWN),
                (status | {"ids": ["M1"]}, QuarantineReason.STATUS_MISSING),
                (status | {"status": "READ", "ids": []}, QuarantineReason.IDS_MISSING),
                (b"{", QuarantineReason.UNREADABLE),
            )
        )
        return Told(self._event(content), quarantined=reason)

    def _connection(self) -> Told:
        up = self._dice.random() < 0.5
        state = ConnectionState.CONNECTED if up else ConnectionState.DISCONNECTED
        moment, occur_us = self._moment()
        name = "ConnectedCallback" if up else "DisconnectedCallback"
        return Told(self._event({"type": name} | moment), connection=(state, occur_us))

    def _attempt(self) -> Told:
        update = f"u{len(self._updates) + 1}"
        attempt = Attempt(update, "", _url(update), "0f" * 32, "local")
        event = self._event(msgspec.json.encode(attempt), EventKind.WEBHOOK_ATTEMPT)
        self._updates.append((update, event.instance))
        return Told(event, attempt=update)

    def _outcome(self) -> Told:
        update, instance = self._dice.choice([*self._updates[-4:], ("unheard", "acme")])
        state = self._dice.choice(
            (WebhookState.ACCEPTED, WebhookState.REJECTED, WebhookState.UNKNOWN)
        )
        content = msgspec.json.encode(Outcome(update, state, "", ""))
        event = self._event(content, EventKind.WEBHOOK_OUTCOME, instance)
        return Told(event, outcome=(update, state))

    def _strange(self) -> Told:
        """Of our own, but unreadable; received but known to say nothing; of a later program."""
        own = self._event(b"{}", EventKind.WEBHOOK_ATTEMPT)
        return self._dice.choice(
            (
                Told(own, quarantined=QuarantineReason.UNREADABLE),
                Told(self._event({"type": "ReceivedCallback"})),
                Told(msgspec.structs.replace(own, kind=99)),
            )
        )
