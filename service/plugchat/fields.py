"""The members of a callback that are read, in a few plain shapes.

    JSON string            str, which may hold NUL and lone surrogates
    JSON number            Number, its digits as sent: no float, no limit on digits
    true, false            bool
    null, or no member     None
    array                  tuple of these; an array inside it is an Object
    object                 Object, its text

msgspec does the work and skips what is not asked for. Nearly all callbacks have the same shapes,
and one whose members all have is read in one go (`Usual`), for a fifth of what it costs member by
member (`Unusual`). msgspec refuses lone surrogate escapes, which JSON allows (RFC 8259, section
8.2), so a body that holds one is read with the standard library.
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


class Unusual(msgspec.Struct, frozen=True, gc=False):
    """The same members in any shape."""

    type: Value
    status: Value
    ids: Value
    id: Value
    message_id: Value
    momment: Value
    phone: Value
    is_group: Value
    participant: Value
    participant_lid: Value
    participant_phone: Value
    error: Value
    error_code: Value
    instance_id: Value


Fields = Usual | Unusual

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
        values = _values(content)
        return Unusual(*[values.get(name) for name in Usual.__struct_encode_fields__])


def _values(content: bytes) -> dict[str, Value]:
    try:
        members = _members.decode(content)
    except msgspec.DecodeError:
        return _standard_library(content)
    names = Usual.__struct_encode_fields__
    return {name: _value(bytes(members[name])) for name in names if name in members}


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
