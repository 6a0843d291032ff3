"""The members of a callback, read one at a time into a few plain shapes.

    JSON string            str, which may hold NUL and lone surrogates
    JSON number            Number, its digits as sent: no float, no limit on digits
    true, false            bool
    null, or no member     None
    array                  list of these; an array inside it is an Object
    object                 Object, its text

msgspec does the work and skips what is not asked for. It refuses lone surrogate escapes, which
JSON allows (RFC 8259, section 8.2), so a body that holds one is read with the standard library.
"""

import json
from typing import NoReturn

import msgspec


class Number(str):
    """A JSON number, as it was spelt."""

    __slots__ = ()


class Object(str):
    """A JSON object, or an array inside an array, as text: only shown, never looked into."""

    __slots__ = ()


Value = str | Number | Object | bool | list["Value"] | None

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string = msgspec.json.Decoder(str)
_strings = msgspec.json.Decoder(list[str])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_LITERALS: dict[bytes, bool | None] = {b"true": True, b"false": False, b"null": None}


class Fields:
    """A callback's members by name; None for one that is not there. The last of several counts."""

    def __init__(self, content: bytes) -> None:
        """Raises ValueError or RecursionError if the content is not a JSON object."""
        self._raw: dict[str, msgspec.Raw] = {}
        self._values: dict[str, Value] = {}
        try:
            self._raw = _members.decode(content)
        except msgspec.DecodeError:
            self._values = _standard_library(content)

    def __getitem__(self, name: str) -> Value:
        raw = self._raw.get(name)
        return self._values.get(name) if raw is None else _value(bytes(raw))


def _value(raw: bytes) -> Value:
    first = raw[:1]
    if first == b'"':
        return _string.decode(raw)
    if first == b"[":
        try:
            return list[Value](_strings.decode(raw))
        except msgspec.ValidationError:
            return [_item(bytes(item)) for item in _items.decode(raw)]
    if first == b"{":
        return Object(raw.decode())
    return _LITERALS[raw] if raw in _LITERALS else Number(raw.decode())


def _item(raw: bytes) -> Value:
    return Object(raw.decode()) if raw[:1] == b"[" else _value(raw)


def _standard_library(content: bytes) -> dict[str, Value]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON")

    decoded = json.loads(content, parse_int=Number, parse_float=Number, parse_constant=refuse)
    if not isinstance(decoded, dict):
        raise ValueError("not an object")  # noqa: TRY004
    return {name: _plain(value) for name, value in decoded.items()}


def _plain(value: object) -> Value:
    if isinstance(value, list):
        return [_shallow(item) for item in value]
    return _shallow(value)


def _shallow(value: object) -> Value:
    if isinstance(value, dict | list):
        return Object(json.dumps(value))
    assert value is None or isinstance(value, str | bool)
    return value
