"""Random callbacks of every kind, each with what it means.

Whoever makes a body says what it means, so nothing of the service is asked how to read one. A body
carries its number, which tells later which one of them an event of the log is.
"""

import json
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from tests.fold_model import FAILED, Said

INSTANCES = ("acme", "Acme", "b.2", "z_1")
PHONES = ("5511987650001", "5511987650002", "+55 11 98765-0003", "77001@lid")
GROUPS = ("120363019502650977-group", "120363019502650978-group")
PARTICIPANTS = ("5511987650001", "77001@lid", "77002", "77003@lid")
ODD_IDS = ("a", "B", "b", "é", "z\u0301", "\uffee", "\U0001f600", "\U00010000", "x" * 128, "900719")
"""By code point they do not stand as they do by UTF-16, by letter, or without regard to case."""

WORDS = {
    "SENT": 40,
    "MESSAGE_SENT": 40,
    "RECEIVED": 60,
    "delivery_ack": 60,
    "READ": 70,
    " message_read ": 70,
    "PLAYED": 80,
    "READ-SELF": 20,
    "PENDING": 30,
    "FAILED": FAILED,
    "Undelivered": FAILED,
    "NOVEL": 10,
    "": 10,
}
_BEGIN_S = 1_760_000_000
_REASONS = ("", "expired", "no route to this number")
_CODES: tuple[Any, ...] = ("", "470", 131026)
_BYTES_MAX = 1_000_000


class Body(msgspec.Struct, frozen=True):
    """One callback to post."""

    number: int
    instance: str
    content: str
    said: tuple[Said, ...]
    """What it says, as of position 0 and received at 0; an `occur_us` of 0 is the receive time."""


class _Facts(NamedTuple):
    """Members of a body, and what they mean for each of its reports."""

    members: dict[str, Any]
    said: Said


class Bodies:
    """Makes them; two with the same dice and number of ids make the same."""

    def __init__(self, dice: random.Random, ids: int, first: int = 1) -> None:
        """`first` is the first one's number."""
        self._dice = dice
        self.ids = (*ODD_IDS, *(f"3EB0{number:06X}" for number in range(ids)))
        """Every id that `next` may use, in any instance."""
        self._number = first - 1
        self._past: list[tuple[str, dict[str, Any], tuple[Said, ...]]] = []
        self._fresh = 0

    def next(self) -> Body:
        kinds = {
            self._status: 12,
            self._receipt: 5,
            self._delivery: 4,
            self._again: 4,
            self._quarantined: 1,
            self._connection: 1,
        }
        (make,) = self._dice.choices(list(kinds), list(kinds.values()))
        return make()

    def last(self) -> Body:
        """One that says nothing of any message."""
        return self._connection()

    def about(self, message_id: str) -> Body:
        """One that says that a message was read."""
        facts = Said((0, 0), 0, ("", ""), WORDS["READ"], "READ")
        return self._made(
            _Facts({"type": "MessageStatusCallback", "status": "READ", "ids": [message_id]}, facts),
            [message_id],
        )

    def large(self, count: int) -> Body:
        """One about so many messages never told of before, each with a long text."""
        ids = [large_id(self._fresh + number) for number in range(count)]
        self._fresh += count
        phone = self._dice.choice(PHONES)
        reason = "x" * 1_000
        members = {"status": "FAILED", "phone": phone, "error": reason, "ids": ids}
        facts = Said((0, 0), 0, ("", ""), FAILED, "FAILED", phone, reason=reason)
        body = self._made(_Facts({"type": "MessageStatusCallback", **members}, facts), ids)
        assert len(body.content) < _BYTES_MAX
        return body

    def _status(self) -> Body:
        """About the message as a whole, in disorder; the phone may come late, or never."""
        dice = self._dice
        word = dice.choice(list(WORDS))
        phone = dice.choice(("", "", *PHONES))
        moment, occur_us = self._moment()
        members = {"type": "MessageStatusCallback", "status": word, **moment}
        if phone or dice.random() < 0.5:
            members["phone"] = phone
        said = Said((0, 0), 0, ("", ""), WORDS[word], word, phone, occur_us=occur_us)
        if WORDS[word] == FAILED:
            members["error"] = reason = dice.choice(_REASONS)
            members["errorCode"] = code = dice.choice(_CODES)
            said = said._replace(reason=reason, code=str(code))
        return self._with_ids(_Facts(members, said))

    def _receipt(self) -> Body:
        """Of one participant of a group, or of a broadcast."""
        dice = self._dice
        word = dice.choice(list(WORDS))
        who = dice.choice(PARTICIPANTS)
        chat = dice.choice((*GROUPS, PHONES[0], ""))
        moment, occur_us = self._moment()
        said = Said((0, 0), 0, ("", ""), WORDS[word], word, chat, chat in GROUPS)
        said = said._replace(participant=who.removesuffix("@lid"), occur_us=occur_us)
        members = {"type": "MessageStatusCallback", "status": word, "phone": chat, **moment}
        member = dice.choice(("participant", "participantLid", "participantPhone"))
        if dice.random() < 0.2:
            members["isGroup"] = True
            said = said._replace(group=True)
        return self._with_ids(_Facts({**members, member: who}, said))

    def _delivery(self) -> Body:
        """Sent, or failed, of one message; the same one may be delivered after all."""
        dice = self._dice
        phone, message_id = dice.choice(PHONES), dice.choice(self.ids)
        error, code = dice.choice(_REASONS), dice.choice(_CODES)
        moment, occur_us = self._moment()
        members = {"type": "DeliveryCallback", "phone": phone, "messageId": message_id, **moment}
        members |= {"error": error, "errorCode": code}
        rank = FAILED if error else 40
        said = Said((0, 0), 0, ("", ""), rank, "", phone, occur_us=occur_us)
        said = said._replace(code=str(code), reason=error)
        return self._made(
            _Facts({**members, "error": error, "errorCode": code}, said), [message_id]
        )

    def _again(self) -> Body:
        """One of the last bodies once more, in the same instance or in another."""
        if not self._past:
            return self._status()
        instance, members, said = self._dice.choice(self._past[-60:])
        if self._dice.random() < 0.3:
            instance = self._dice.choice(INSTANCES)
        return self._numbered(instance, members, said)

    def _quarantined(self) -> Body:
        status = {"type": "MessageStatusCallback"}
        members = self._dice.choice(
            (
                {"type": 7},
                {"type": "NovelCallback", "ids": [self.ids[0]]},
                {**status, "ids": [self.ids[0]]},
                {**status, "status": "READ", "ids": []},
                {**status, "status": "READ", "ids": [None, "", "x" * 129]},
            )
        )
        return self._numbered(self._dice.choice(INSTANCES), members, ())

    def _connection(self) -> Body:
        name = self._dice.choice(("ConnectedCallback", "disconnectedcallback"))
        return self._numbered(self._dice.choice(INSTANCES), {"type": name}, ())

    def _moment(self) -> tuple[dict[str, Any], int]:
        """A member, and when it says that it happened; 0 where that is nothing to believe."""
        seconds = _BEGIN_S + self._dice.randrange(2_000)
        occur_us = seconds * 1_000_000
        return self._dice.choice(
            (
                ({}, 0),
                ({"momment": 7}, 0),
                ({"momment": "soon"}, 0),
                ({"momment": seconds}, occur_us),
                ({"momment": str(seconds)}, occur_us),
                ({"momment": seconds * 1_000 + 250}, occur_us + 250_000),
                ({"momment": occur_us + 7}, occur_us + 7),
            )
        )

    def _with_ids(self, facts: _Facts) -> Body:
        """About a few messages; with repeated and invalid ids between them, in both members."""
        dice = self._dice
        ids: list[Any] = dice.choices(self.ids, k=dice.choice((1, 1, 1, 2, 3, 6)))
        if dice.random() < 0.2:
            ids.insert(dice.randrange(len(ids) + 1), dice.choice((None, "", 1.5, "x" * 129)))
        if dice.random() < 0.2:
            ids.append(ids[0])
        if dice.random() < 0.1:
            # A number whose digits are an id.
            ids.append(900719)
        if len(ids) > 1 and dice.random() < 0.2:
            members = {**facts.members, "ids": ids[:-1], "id": ids[-1]}
            # A member that is null is no candidate; in an array it takes its place.
            given = ids if ids[-1] is not None else ids[:-1]
        else:
            members, given = {**facts.members, "ids": ids}, ids
        return self._made(facts._replace(members=members), given)

    def _made(self, facts: _Facts, ids: Sequence[Any]) -> Body:
        """A body whose reports are about the valid ones of these ids, at their first places."""
        instance = self._dice.choice(INSTANCES)
        places: dict[str, int] = {}
        for index, one in enumerate(ids):
            name = str(one) if isinstance(one, int) else one
            if isinstance(name, str) and 1 <= len(name) <= 128:
                places.setdefault(name, index)
        said = tuple(
            facts.said._replace(place=(0, index), key=("", name)) for name, index in places.items()
        )
        self._past.append((instance, facts.members, said))
        return self._numbered(instance, facts.members, said)

    def _numbered(self, instance: str, members: dict[str, Any], said: tuple[Said, ...]) -> Body:
        self._number += 1
        content = json.dumps({**members, "number": self._number})
        here = tuple(one._replace(key=(instance, one.key[1])) for one in said)
        return Body(self._number, instance, content, here)


def large_id(number: int) -> str:
    """The id of a message in a large body, counted over all of them."""
    return f"L{number:06X}"


def number_of(content: bytes) -> int:
    """Which body an event of the log is."""
    return int(json.loads(content)["number"])
