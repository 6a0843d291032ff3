"""What is posted."""

import json
import random
from collections.abc import Iterator

from service.domain.events import EventKind, NewEvent

_UNDER_WAY_MAX = 2_000
_USUAL = {
    "status": "RECEIVED",
    "ids": ["3EB0C767D097B7C1F2"],
    "momment": 1632234645000,
    "phone": "5544999999999",
    "type": "MessageStatusCallback",
    "instanceId": "3A1B",
}

USUAL = json.dumps(_USUAL).encode()
"""One status of one message: what nearly all callbacks are."""


def of_many(first: int, count: int) -> bytes:
    """One callback about so many messages, to fill a store with; at most 10,000."""
    ids = [numbered(number) for number in range(first, first + count)]
    return json.dumps(_USUAL | {"ids": ids}).encode()


def numbered(number: int) -> str:
    """A message id."""
    return f"3EB0{number:016X}"


def number_of(message_id: str) -> int:
    return int(message_id.removeprefix("3EB0"), 16)


def mixed(events: int, seed: int = 1) -> Iterator[NewEvent]:
    """Callbacks about many messages, each heard of several times: of people and of groups, some of
    them repeated, some late, a few that make no report."""
    dice = random.Random(seed)
    time_us = 1_760_000_000_000_000
    under_way: list[tuple[str, str, list[str]]] = []
    for _ in range(events):
        time_us += dice.randrange(2_000)
        if not under_way or dice.random() < 0.3:
            group = dice.random() < 0.1
            phone = f"1203630{dice.randrange(10**11):011d}-group" if group else _phone(dice)
            words = ["SENT", "RECEIVED", "READ", "PLAYED"][: dice.choice([2, 3, 3, 4])]
            under_way.append((f"3EB0{dice.getrandbits(64):016X}", phone, words))
        place = dice.randrange(len(under_way))
        message_id, phone, words = under_way[place]
        word = words[0] if dice.random() < 0.1 else words.pop(0)
        if not words or len(under_way) > _UNDER_WAY_MAX:
            under_way.pop(place)
        body = _USUAL | {
            "status": word,
            "ids": [message_id],
            "momment": time_us // 1_000 - dice.randrange(60_000),
            "phone": phone,
        }
        if phone.endswith("-group"):
            body["participant"] = _phone(dice)
        if dice.random() < 0.01:
            body["type"] = "SomethingNew"
        yield NewEvent("bench", time_us, EventKind.CALLBACK, json.dumps(body).encode())


def _phone(dice: random.Random) -> str:
    return f"55119{dice.randrange(10**8):08d}"
