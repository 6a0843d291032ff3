"""The members of a callback that are read, in a few plain shapes.

    JSON string            str, which may hold NUL and lone surrogates
    JSON number            Number, its digits as sent: no float, no limit on digits
    true, false            bool
    null, or no member     None
    array                  tuple of these; an array inside it is an Object
    object                 Object, its text

msgspec does the work and skips what is not asked for. Nearly all callbacks have the same shapes,
and one whose members all have is read in one go (`Usual`), for a ninth of what it costs member by
member (`Unusual`). msgspec refuses lone surrogate escapes, which JSON allows (RFC 8259, section
8.2), so a body that holds one is read with the standard library.
"""

import json
from collections.abc import Mapping
from typing import NoReturn

import msgspec


class Number(str):
    """A JSON number, as it was spelt."""

    __slots__ = ()


class Object(str):
    """A JSON object, or an array inside an array, as text: only shown, never looked into."""

    __slots__ = ()


Value = str | Number | Object | bool | int | tuple["Value", ...] | None
"""An int only where a number's spelling does not matter."""


class Usual(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Members as they nearly always are. The last of several of a name counts."""

    type: str | None = None
    status: str | None = None
    ids: str | tuple[str, ...] | None = None
    id: str | tuple[str, ...] | None = None
    message_id: str | tuple[str, ...] | None = None
    momment: int | str | None = None
    phone: str | None = None
    is_group: bool | None = None
    participant: str | None = None
    participant_lid: str | None = None
    participant_phone: str | None = None
    error: str | bool | None = None
    error_code: str | None = None
    instance_id: str | None = None


class Unusual:
    """The same members in any shape, each read when it is asked for: one may be a megabyte that
    nobody needs."""

    def __init__(self, members: Mapping[str, msgspec.Raw] | Mapping[str, Value]) -> None:
        self._members = members

    def __getattr__(self, name: str) -> Value:
        member = self._members.get(_NAMES[name])
        return _value(bytes(member)) if isinstance(member, msgspec.Raw) else member


Fields = Usual | Unusual

_NAMES = dict(zip(Usual.__struct_fields__, Usual.__struct_encode_fields__, strict=True))
"""A member's name as it is sent, by its attribute's."""

_usual = msgspec.json.Decoder(Usual)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_string = msgspec.json.Decoder(str)
_strings = msgspec.json.Decoder(tuple[str, ...])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_LITERALS: dict[bytes, bool | None] = {b"true": True, b"false": False, b"null": None}


def fields_of(content: bytes) -> Fields:
    """Raises ValueError or RecursionError if the content is not a JSON object."""
    try:
        return _usual.decode(content)
    except msgspec.DecodeError:
        pass
    try:
        return Unusual(_members.decode(content))
    except msgspec.DecodeError:
        return Unusual(_standard_library(content))


def _value(raw: bytes) -> Value:
    first = raw[:1]
    if first == b'"':
        return _string.decode(raw)
    if first == b"[":
        try:
            return _strings.decode(raw)
        except msgspec.ValidationError:
            return tuple(_item(bytes(item)) for item in _items.decode(raw))
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
        return tuple(_shallow(item) for item in value)
    return _shallow(value)


def _shallow(value: object) -> Value:
    if isinstance(value, dict | list):
        return Object(json.dumps(value))
    assert value is None or isinstance(value, str | bool)
    return value
