"""Callbacks as PlugChat would send them: disordered, repeated, sometimes odd. Seeded."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

_STEPS = ("SENT", "RECEIVED", "READ", "PLAYED")
_STEP_WEIGHTS = (10, 25, 60, 5)
"""How far messages get, by the last step heard."""

_REPEATED = 0.08
_OLD_SPELLING = 0.1
_FAILED = 0.02
_GROUP = 0.05
_BY_ME = 0.03
_SHUFFLE_WINDOW = 40
"""Callbacks change places with others this far away: receipts overtake each other."""


def callbacks(messages: int, seed: int, now_ms: int) -> Iterator[dict[str, Any]]:
    """The bodies of so many messages' callbacks, in the order they would arrive.

    About three callbacks a message. The same arguments give the same bodies.
    """
    chance = random.Random(seed)
    window: list[dict[str, Any]] = []
    for number in range(messages):
        for body in _message(chance, number, now_ms):
            window.append(body)
            if chance.random() < _REPEATED:
                window.append(dict(body))
            while len(window) > _SHUFFLE_WINDOW:
                yield window.pop(chance.randrange(len(window)))
    chance.shuffle(window)
    yield from window


def _message(chance: random.Random, number: int, now_ms: int) -> Iterator[dict[str, Any]]:
    sent_ms = now_ms - chance.randrange(60_000)
    message_id = f"3EB0{chance.getrandbits(72):018X}"
    phone = f"55{chance.randrange(11, 99)}9{chance.randrange(10**8):08d}"
    if chance.random() < _FAILED:
        yield {
            "type": "DeliveryCallback",
            "phone": phone,
            "messageId": message_id,
            "zaapId": message_id,
            "error": "Phone number does not exist",
        }
        return
    last = chance.choices(range(len(_STEPS)), _STEP_WEIGHTS)[0]
    participants = [f"{chance.getrandbits(46)}@lid" for _ in range(3)]
    in_group = chance.random() < _GROUP
    for step in range(last + 1):
        word = _STEPS[step]
        body = {
            "type": "MessageStatusCallback",
            "status": f"MESSAGE_{word}" if chance.random() < _OLD_SPELLING else word,
            "ids": [message_id],
            "phone": f"{phone}-group" if in_group else phone,
            "momment": _seconds_only(sent_ms + step * chance.randrange(1, 30_000)),
            "phoneDevice": 0,
            "isGroup": in_group,
        }
        if in_group and step:
            for participant in participants:
                yield {**body, "participant": participant}
        else:
            yield body
    if number and chance.random() < _BY_ME:
        yield {
            "type": "MessageStatusCallback",
            "status": "READ_BY_ME",
            "ids": [message_id],
            "phone": phone,
            "momment": sent_ms * 1_000,
        }


def _seconds_only(time_ms: int) -> int:
    """Event times are mostly whole seconds, in milliseconds."""
    return time_ms // 1_000 * 1_000


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1_000)
