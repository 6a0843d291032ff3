"""From a callback's body to reports: total, pure, and in one place.

type                      read by            gives
MessageStatusCallback     _message_status    a report for each distinct id
DeliveryCallback          _delivery          a report: FAILED with an error, else SENT
the other known ones      nobody             nothing
none, unknown             nobody             quarantine
"""

import re
from collections.abc import Callable
from functools import partial
from typing import TypeGuard

import msgspec
import structlog

from service.domain.events import Event, Place, QuarantineReason
from service.domain.instance import Connection, ConnectionState
from service.domain.message import Report
from service.domain.status import Status
from service.plugchat.fields import Fields, Number, Object, Value, fields_of
from service.plugchat.moment import occur_time_us
from service.plugchat.words import normalized, status_of

MESSAGE_ID_CHARACTERS_MAX = 128
SHORT_TEXT_BYTES_MAX = 64
"""Phone, participant, provider_status, failure code."""
REASON_BYTES_MAX = 1_024
IDS_MAX = 10_000
"""Distinct ids a callback."""

_log = structlog.get_logger(__name__)


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a callback says. Quarantined ones make no reports."""

    reports: tuple[Report, ...] = ()
    quarantined: QuarantineReason | None = None
    connection: Connection | None = None


_NOTHING = Reading()


def decode(event: Event) -> Reading:
    """Read a CALLBACK event. Reports come in the order of their index. Never raises."""
    try:
        return _read(event)
    except Exception:  # noqa: BLE001
        # Whatever a body can hold must not stop the ones behind it; the bytes are kept, and a
        # better decoder reads them at the next rebuild.
        _log.exception("callback unreadable", position=event.position, instance=event.instance)
        return Reading(quarantined=QuarantineReason.UNREADABLE)


def _read(event: Event) -> Reading:
    try:
        fields = fields_of(event.content)
    except (ValueError, RecursionError):
        return Reading(quarantined=QuarantineReason.UNREADABLE)
    kind = fields.type
    if not _is_string(kind):
        return Reading(quarantined=QuarantineReason.TYPE_MISSING)
    name = normalized(kind)
    if name not in CALLBACK_TYPES:
        return Reading(quarantined=QuarantineReason.TYPE_UNKNOWN)
    read = CALLBACK_TYPES[name]
    return read(event, fields) if read is not None else _NOTHING


def _message_status(event: Event, fields: Fields) -> Reading:
    word = fields.status
    if not _is_string(word):
        return Reading(quarantined=QuarantineReason.STATUS_MISSING)
    candidates = _listed(fields.ids) + _listed(fields.id)
    return _reports(event, fields, candidates, status_of(word), word)


def _delivery(event: Event, fields: Fields) -> Reading:
    status = Status.FAILED if _is_error(fields.error) else Status.SENT
    word = fields.status
    told = word if _is_string(word) else ""
    return _reports(event, fields, _listed(fields.message_id), status, told)


def _connection(state: ConnectionState, event: Event, fields: Fields) -> Reading:
    happened_us = occur_time_us(fields.momment, event.receive_time_us)
    return Reading(connection=Connection(state, happened_us or event.receive_time_us))


CALLBACK_TYPES: dict[str, Callable[[Event, Fields], Reading] | None] = {
    "MESSAGESTATUSCALLBACK": _message_status,
    "DELIVERYCALLBACK": _delivery,
    "RECEIVEDCALLBACK": None,
    "PRESENCECHATCALLBACK": None,
    "CONNECTEDCALLBACK": partial(_connection, ConnectionState.CONNECTED),
    "DISCONNECTEDCALLBACK": partial(_connection, ConnectionState.DISCONNECTED),
}
"""Known types, as `words.normalized` spells them, and what reads them: None makes no report."""


def _reports(
    event: Event, fields: Fields, candidates: tuple[Value, ...], status: Status, word: str
) -> Reading:
    indexes: dict[str, int] = {}
    for index, candidate in enumerate(candidates):
        message_id = _message_id(candidate)
        if message_id is not None:
            indexes.setdefault(message_id, index)
    if not indexes:
        return Reading(quarantined=QuarantineReason.IDS_MISSING)
    if len(indexes) > IDS_MAX:
        return Reading(quarantined=QuarantineReason.TOO_MANY_IDS)
    receive_time_us = event.receive_time_us
    happened_us = occur_time_us(fields.momment, receive_time_us)
    error = fields.error
    phone = _spelt(fields.phone)
    # Everything but the id and its place is the same for all of them, in the order of Report's
    # fields, so it is read once.
    facts = (
        status,
        bounded(word, SHORT_TEXT_BYTES_MAX),
        _participant(fields),
        bounded(phone, SHORT_TEXT_BYTES_MAX),
        fields.is_group is True or phone.endswith("-group"),
        receive_time_us if happened_us is None else happened_us,
        happened_us is None,
        receive_time_us,
        _text(fields.error_code),
        _reason(error) if _is_error(error) else "",
        _text(fields.instance_id, MESSAGE_ID_CHARACTERS_MAX),
    )
    return Reading(
        tuple(
            [
                Report(Place(event.position, index), event.instance, message_id, *facts)
                for message_id, index in indexes.items()
            ]
        )
    )


def _listed(value: Value) -> tuple[Value, ...]:
    """The candidates for ids in a member that is one id or an array of them."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _message_id(value: Value) -> str | None:
    """The id a candidate spells, or None if it is not a valid one."""
    if not isinstance(value, str) or isinstance(value, Object):
        return None
    if isinstance(value, Number) and not _INTEGER.fullmatch(value):
        return None
    if not 1 <= len(value) <= MESSAGE_ID_CHARACTERS_MAX:
        return None
    # Nearly all are letters and digits, and that is seen much sooner.
    return None if not value.isalnum() and _UNSTORABLE.search(value) else str(value)


def _participant(fields: Fields) -> str:
    for value in (fields.participant, fields.participant_lid, fields.participant_phone):
        # The suffix goes before the text is cut, or else half of it could stay.
        if value and (participant := _spelt(value).removesuffix("@lid")):
            return bounded(participant, SHORT_TEXT_BYTES_MAX)
    return ""


def _is_string(value: Value) -> TypeGuard[str]:
    return type(value) is str


def _is_error(value: Value) -> bool:
    """`error` is there, and not null, false, 0 or empty."""
    if isinstance(value, Number):
        return not _ZERO.fullmatch(value)
    if isinstance(value, Object):
        return value.strip("{} \t\r\n") != ""
    return bool(value)


def _reason(error: Value) -> str:
    if isinstance(error, str):
        return bounded(error, REASON_BYTES_MAX)
    if isinstance(error, tuple):
        return bounded(", ".join(_reason(item) for item in error), REASON_BYTES_MAX)
    return "true" if error else ""


def _text(value: Value, bytes_max: int = SHORT_TEXT_BYTES_MAX) -> str:
    """A string or a number's digits, fit for a store; empty for anything else."""
    return bounded(_spelt(value), bytes_max) if value else ""


def _spelt(value: Value) -> str:
    """The same, whole and as sent but for NUL, which would hide a suffix."""
    if not isinstance(value, str) or isinstance(value, Object):
        return ""
    return value.replace("\0", "")


def bounded(text: str, bytes_max: int) -> str:
    """Without NUL, with U+FFFD for lone surrogates, cut to `bytes_max` bytes of UTF-8."""
    if text.isascii() and len(text) <= bytes_max and "\0" not in text:
        return str(text)
    clean = _SURROGATE.sub("\ufffd", text.replace("\0", ""))
    return clean.encode()[:bytes_max].decode(errors="ignore")


_INTEGER = re.compile(r"-?[0-9]+")
_ZERO = re.compile(r"-?0+(\.0*)?([eE][+-]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
