"""Random callbacks that name each other's people, and a short model of what erasure leaves of them.

The model never reads a body: the generator tells it every text that it wrote, and what it meant.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from service.domain.erasure import Subject

RANKS = {"SENT": 40, "FAILED": 50, "RECEIVED": 60, "READ": 70, "PLAYED": 80}
PHONES = ("5511987654321", "5511900000102", "5521700000303")
PART = "55119000001"
"""Stands in the second phone, and in no other text but by chance."""
OLD_GROUP = f"{PHONES[0]}-1623456789-group"
GROUP = "120363019502650977-group"
IDS = ("A", "B", "C", "D", "77", f"3EB0{PHONES[0]}", f"{PHONES[1]}_7", "F")
INSTANCES = ("acme", "umbrella")

Key = tuple[str, str]


class Members(list[tuple[str, Any]]):
    """A JSON object, whose names may repeat."""


class Spelling:
    """Spells JSON at random, and keeps every text that it wrote."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._escaped = dice.choice((0.0, 0.0, 0.2, 1.0))
        self.texts: set[str] = set()

    def value(self, value: Any) -> str:
        if isinstance(value, Members):
            return "{" + ",".join(f"{self._text(k)}:{self.value(v)}" for k, v in value) + "}"
        if isinstance(value, list):
            return "[" + " , ".join(map(self.value, value)) + "]"
        if isinstance(value, str):
            if value.isdigit() and value[0] != "0" and self._dice.random() < 0.3:
                self.texts.add(value)
                return value
            return self._text(value)
        return json.dumps(value)

    def _text(self, text: str) -> str:
        self.texts.add(text)
        return '"' + "".join(map(self._character, text)) + '"'

    def _character(self, one: str) -> str:
        if self._dice.random() < self._escaped:
            code = f"{ord(one):04x}"
            return "\\u" + (code.upper() if self._dice.random() < 0.5 else code)
        return json.dumps(one)[1:-1]


@dataclass(frozen=True)
class Said:
    """One report, as a callback meant it."""

    key: Key
    index: int
    word: str
    phone: str = ""
    group: bool = False
    participant: str = ""
    code: str = ""
    reason: str = ""
    reason_texts: frozenset[str] = frozenset()
    provider_instance: str = ""

    def without(self, phone: str) -> "Said":
        """The same, but for the texts that hold the phone."""
        if not phone:
            return self
        cut: dict[str, Any] = {
            name: ""
            for name in ("word", "phone", "participant", "code", "reason", "provider_instance")
            if any(phone in text for text in self._texts(name))
        }
        return replace(self, **cut, rank_word=self.rank_word or self.word)

    rank_word: str = ""
    """The word that gave the rank, once it is not shown any more."""

    @property
    def rank(self) -> int:
        return RANKS[self.rank_word or self.word]

    def texts(self) -> set[str]:
        names = ("word", "phone", "participant", "code", "reason", "provider_instance")
        return {self.key[1]}.union(*(self._texts(name) for name in names if getattr(self, name)))

    def _texts(self, name: str) -> set[str]:
        text = str(getattr(self, name))
        return {text, *self.reason_texts} if name == "reason" and text else {text}


@dataclass
class Posted:
    """One callback, or what is left of it."""

    instance: str
    raw: bytes
    """Empty once it is erased."""
    texts: set[str]
    said: list[Said] = field(default_factory=list)
    quarantined: bool = False


class Counts(NamedTuple):
    callbacks: int
    messages: int
    recipients: int


class Shown(NamedTuple):
    """What the views have to show of a message."""

    phone: str
    group: bool
    ranks: tuple[int, ...]
    word: str
    code: str
    reason: str
    reports: tuple[tuple[int, int], ...]
    recipients: dict[str, tuple[int, str]]


class Model:
    """Every callback at its position, and what each forget takes."""

    def __init__(self) -> None:
        self.posted: dict[int, Posted] = {}

    def reports(self) -> dict[Key, list[tuple[int, Said]]]:
        found: dict[Key, list[tuple[int, Said]]] = {}
        for position, one in sorted(self.posted.items()):
            for said in sorted(one.said, key=lambda said: said.index):
                found.setdefault(said.key, []).append((position, said))
        return found

    def unambiguous(self, subject: Subject) -> Subject:
        """The subject, with the instance it has to name where several have the id."""
        known = sorted(key[0] for key in self.reports() if key[1] == subject.message_id)
        if len(known) > 1 and not subject.instance:
            return msgspec.structs.replace(subject, instance=known[0])
        return subject

    def forget(self, subject: Subject) -> Counts:
        phone, of_id, reports = subject.phone, subject.message_id, self.reports()

        def mine(key: Key) -> bool:
            if not phone:
                return key[1] == of_id and subject.instance in ("", key[0])
            return phone in key[1] or phone == _first(s.phone for _, s in reports[key])

        going = {key for key in reports if mine(key)}
        recipients: set[tuple[Key, str]] = set()
        callbacks = 0
        for one in self.posted.values():
            named = {(one.instance, text) for text in one.texts}
            asked = not phone and subject.instance in ("", one.instance) and of_id in one.texts
            held = phone and any(phone in text for text in one.texts)
            if not (asked or held or (phone and named & going)):
                continue
            callbacks += 1
            staying = [said for said in one.said if said.key not in going]
            recipients |= {
                (said.key, said.participant)
                for said in staying
                if phone and phone in said.participant
            }
            one.said = [said.without(phone) for said in staying]
            one.texts = set().union(*(said.texts() for said in one.said))
            one.raw, one.quarantined = b"", False
        return Counts(callbacks, len(going), len(recipients))

    def shown(self) -> dict[Key, Shown]:
        return {key: _shown(reports) for key, reports in self.reports().items()}


def _first(texts: Iterator[str]) -> str:
    return next((text for text in texts if text), "")


def _word_of(said: list[Said]) -> str:
    most = max(one.rank for one in said)
    return _first(one.word for one in said if one.rank == most)


def _shown(reports: list[tuple[int, Said]]) -> Shown:
    said = [one for _, one in reports]
    failed = [one for one in said if one.rank == RANKS["FAILED"]]
    by_participant: dict[str, list[Said]] = {}
    for one in said:
        if one.participant:
            by_participant.setdefault(one.participant, []).append(one)
    return Shown(
        phone=_first(one.phone for one in said),
        group=any(one.group for one in said),
        ranks=tuple(sorted({one.rank for one in said})),
        word=_word_of(said),
        code=_first(one.code for one in failed),
        reason=_first(one.reason for one in failed),
        reports=tuple((position, one.index) for position, one in reports),
        recipients={
            name: (max(one.rank for one in theirs), _word_of(theirs))
            for name, theirs in by_participant.items()
        },
    )


def subject(dice: random.Random) -> Subject:
    """A phone or a message that callbacks may name, or one that they do not."""
    if dice.random() < 0.6:
        return Subject(phone=dice.choice((*PHONES, PART, OLD_GROUP, GROUP, "unheard")))
    instance = dice.choice(("", *INSTANCES))
    return Subject(message_id=dice.choice((*IDS, "unheard")), instance=instance)


def posted(dice: random.Random, depth_max: int = 900) -> Posted:
    """A random callback."""
    spelling = Spelling(dice)
    instance = dice.choice(INSTANCES)
    kind = dice.choices(("status", "delivery", "unknown", "received"), (14, 3, 3, 1))[0]
    word = dice.choice([one for one in RANKS if one != "FAILED"])
    ids = dice.choices(IDS, k=dice.choice((1, 1, 1, 2, 3, 5)))
    participant = dice.choice(("", "", "lid-1", *PHONES))
    given = _given(dice, participant)
    phone, error = given.get("phone", ""), _error(dice)
    # Spelt once, because an object in `error` is shown as it was spelt.
    error_spelt = spelling.value(error)
    said = Said(
        key=(instance, ""),
        index=0,
        word=word if kind == "status" else "",
        rank_word=word,
        phone=phone,
        group=phone.endswith("-group"),
        participant=participant,
        code=given.get("errorCode", ""),
        reason=error_spelt if isinstance(error, Members) else error or "",
        reason_texts=frozenset(spelling.texts),
        provider_instance=given.get("instanceId", ""),
    )
    members = Members(given.items())
    if kind == "status":
        members += [("type", "MessageStatusCallback"), ("status", word), ("ids", ids)]
    elif kind == "delivery":
        ids = ids[:1]
        members += [("type", "DeliveryCallback"), ("messageId", ids[0])]
        said = replace(said, rank_word="SENT" if error is None else "FAILED")
    else:
        members += [("type", "Novel" if kind == "unknown" else "ReceivedCallback"), ("ids", ids)]
        ids = []
    members += _noise(dice, depth_max)
    dice.shuffle(members)
    if phone and dice.random() < 0.2:
        # Of two, the last one counts.
        members.insert(0, ("phone", dice.choice(PHONES)))
    raw = spelling.value(members)
    if error is not None:
        raw = f'{raw[:-1]},"error":{error_spelt}}}'
    reports = [
        replace(said, key=(instance, one), index=ids.index(one)) for one in dict.fromkeys(ids)
    ]
    return Posted(instance, raw.encode(), spelling.texts, reports, kind == "unknown")


def _given(dice: random.Random, participant: str) -> dict[str, str]:
    """The members that reports are made of, beside their word, ids and error."""
    named = dice.choice(("participant", "participantPhone", "participantLid"))
    given = {
        "phone": dice.choice(("", *PHONES, OLD_GROUP, GROUP, GROUP)),
        named: f"{participant}@lid" if participant and dice.random() < 0.5 else participant,
        "instanceId": dice.choice(("", "", "3F0", PHONES[0])),
        "errorCode": dice.choice(("", "", "470", f"E{PHONES[1]}")),
    }
    return {name: text for name, text in given.items() if text}


def _error(dice: random.Random) -> Any:
    told = f"no route to {dice.choice(PHONES)}!"
    return dice.choice((None, None, None, "expired", told, Members([("to", dice.choice(PHONES))])))


def _noise(dice: random.Random, depth_max: int) -> Members:
    """Members that nothing reads."""
    told = dice.choice(PHONES)
    deep: Any = told
    for _ in range(dice.randint(1, depth_max)):
        deep = [deep]
    offered = (
        ("senderName", f"call +{told}, any time"),
        (told, True),
        ("connectedPhone", told),
        ("fromNumber", told),
        ("deep", deep),
        ("more", [Members([("a", 1), ("a", told), ("b", "c")]), [None, 1.5]]),
        ("quoted", dice.choice(IDS)),
        ("about", f"{dice.choice(IDS)} and more"),
    )
    return Members(one for one in offered if dice.random() < 0.12)
