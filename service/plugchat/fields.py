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

_ABSENT = msgspec.Raw(b"")


class _Members(msgspec.Struct, rename="camel", gc=False):
    """The members any kind of callback is read for. The last of several with one name counts."""

    type: msgspec.Raw = _ABSENT
    status: msgspec.Raw = _ABSENT
    ids: msgspec.Raw = _ABSENT
    id: msgspec.Raw = _ABSENT
    message_id: msgspec.Raw = _ABSENT
    momment: msgspec.Raw = _ABSENT
    phone: msgspec.Raw = _ABSENT
    participant: msgspec.Raw = _ABSENT
    participant_lid: msgspec.Raw = _ABSENT
    participant_phone: msgspec.Raw = _ABSENT
    is_group: msgspec.Raw = _ABSENT
    instance_id: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    error_code: msgspec.Raw = _ABSENT


_JSON_NAMES = {field.name: field.encode_name for field in msgspec.structs.fields(_Members)}
_members = msgspec.json.Decoder(_Members)
_string = msgspec.json.Decoder(str)
_strings = msgspec.json.Decoder(list[str])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_LITERALS: dict[bytes, bool | None] = {b"true": True, b"false": False, b"null": None}


class Fields:
    """A callback's members by their snake-case names; None for one that is not there."""

    def __init__(self, content: bytes) -> None:
        """Raises ValueError or RecursionError if the content is not a JSON object."""
        self._members: _Members | None = None
        self._values: dict[str, Value] = {}
        try:
            self._members = _members.decode(content)
        except msgspec.DecodeError:
            values = _standard_library(content)
            self._values = {name: values.get(json_name) for name, json_name in _JSON_NAMES.items()}

    def __getitem__(self, name: str) -> Value:
        if self._members is None:
            return self._values[name]
        return _value(bytes(getattr(self._members, name)))


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
    if raw == b"":
        return None
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
