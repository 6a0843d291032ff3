"""Bodies that PlugChat might send on its worst day: real ones, changed in structure or in bytes."""

import json
import random
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data" / "callbacks.jsonl"
TYPES = ("MessageStatusCallback", "DeliveryCallback", "ConnectedCallback", "DisconnectedCallback")

_NAMES: tuple[str, ...] = (
    "type",
    "status",
    "ids",
    "id",
    "messageId",
    "momment",
    "phone",
    "participant",
)
_NAMES += ("participantLid", "participantPhone", "isGroup", "instanceId", "error", "errorCode", "x")
_WORDS = ("SENT", "MESSAGE_RECEIVED", "read", " Played ", "READ-SELF", "FAILED", "", "QUEUED", "é")
_TEXTS = (
    "", " ", "\0", "a\0b", "A" * 128, "A" * 129, "A" * 70_000,
    "é" * 32, "é" * 64, "\U0001f600" * 40,
    "\ud800", "x\udfffy", "5511999999999", "5511999999999@lid", "1@lid@lid", "120363-group",
    "status@broadcast", "1632234645000", "16322346450000000", "-1", "1e9", "0x10", "NaN", "null",
)  # fmt: skip
_RAW = (
    "1" * 5_000, "-0", "0.0", "1e400", "-1e400", "1E-400", "1632234645", "1632234645000",
    "1632234645000000", "99999999999", "1.5", "123456789012345678901234567890", "1e3", "0",
    '"\\ud83d\\ude00"', '"\\ud800"', '"\\u0000"', "[]", "{}", "[[]]", "[[[1]],{}]", "true", "false",
    "null", '[1,"1",1.0,true,null,[],{}]', "[" * 60 + "]" * 60, '{"a":' * 60 + "1" + "}" * 60,
)  # fmt: skip
_FOREIGN = (
    b"\xef\xbb\xbf",
    b"\xff",
    b"\x00",
    b'"',
    b"\\",
    b"{",
    b"]",
    b",",
    b"NaN",
    b"//",
    b"\xc3",
)


class Mutations:
    """Deterministic for a seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        with DATA.open() as lines:
            self._real: list[dict[str, Any]] = [json.loads(line)["body"] for line in lines]

    def structured(self) -> bytes:
        """An object of a known type, made of a real body."""
        dice = self._dice
        body = dict(dice.choice(self._real))
        if str(body.get("type")) not in TYPES:
            body["type"] = dice.choice(TYPES)
        members = [(name, json.dumps(value)) for name, value in body.items()]
        for _ in range(dice.randint(1, 4)):
            self._change(members)
        if dice.random() < 0.002:
            members.append(("ids", json.dumps([f"I{number}" for number in range(10_001)])))
        members = [one for one in members if one[0] != "type"]
        kind = self._spelt(str(body["type"]))
        members.insert(dice.randint(0, len(members)), ("type", json.dumps(kind)))
        separator = dice.choice((",", ", ", ",\n\t"))
        inside = separator.join(f"{json.dumps(name)}:{value}" for name, value in members)
        # Lone surrogates are spelt as escapes: json.dumps does so.
        return f"{{{inside}}}".encode()

    def torn(self) -> bytes:
        """A body, real or changed, with some of its bytes changed."""
        dice = self._dice
        content = bytearray(self.structured())
        for _ in range(dice.choice((1, 1, 2, 5))):
            at = dice.randrange(len(content) + 1)
            match dice.randrange(7):
                case 0:
                    content[at : at + 1] = bytes([dice.randrange(256)])
                case 1:
                    content[at:at] = dice.choice(_FOREIGN)
                case 2:
                    del content[at : at + dice.randint(1, 9)]
                case 3:
                    content[at:at] = content[dice.randrange(len(content) + 1) :][:40]
                case 4:
                    del content[at:]
                case 5:
                    # Some other value than an object, perhaps.
                    content[:] = dice.choice((b"[%s]", b"[%s,\xff]", b'"%s"')) % bytes(content)
                case _:
                    content[at : at + 1] = bytes(
                        [content[at] ^ 1 << dice.randrange(8)] if at < len(content) else b" "
                    )
            if not content:
                content += b"{}"
        return bytes(content)

    def _change(self, members: list[tuple[str, str]]) -> None:
        dice = self._dice
        name = dice.choice(_NAMES)
        if members and dice.random() < 0.6:
            name = dice.choice(members)[0]
        match dice.randrange(5):
            case 0:
                members[:] = [one for one in members if one[0] != name]
            case 1:
                # Of several members of one name the last counts.
                members.append((name, self._value()))
            case 2:
                members.append((dice.choice((name.upper(), name + " ", "\ud800")), self._value()))
            case 3:
                members.append(("status", json.dumps(self._spelt(dice.choice(_WORDS)))))
            case _:
                members[:] = [
                    (one, self._value() if one == name else value) for one, value in members
                ]

    def _value(self) -> str:
        dice = self._dice
        kind = dice.random()
        if kind < 0.3:
            return json.dumps(dice.choice(_TEXTS))
        if kind < 0.6:
            return dice.choice(_RAW)
        if kind < 0.65:
            count, many = 10_001 if dice.random() < 0.02 else 3, dice.randrange(100)
            return json.dumps([f"I{many}-{number}" for number in range(count)])
        if kind < 0.8:
            return "[" + ",".join(self._value() for _ in range(dice.randint(0, 4))) + "]"
        return json.dumps(
            "".join(chr(dice.randrange(1, 0x2FF)) for _ in range(dice.randint(0, 40)))
        )

    def _spelt(self, text: str) -> str:
        dice = self._dice
        text = dice.choice((text, text, text.upper(), text.lower(), f" {text}\t"))
        return (
            text + dice.choice(("", "", "", "\0", "\ud800", "x")) if dice.random() < 0.1 else text
        )
