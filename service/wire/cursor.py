"""Cursors: a place in the log, or in a snapshot of the views, as an opaque string.

An ordinary one names a report or the end of a callback:

    byte 0         version, 1
    bytes 1-8      the log's identity, its first eight bytes
    bytes 9-16     position, big-endian
    bytes 17-20    index of the report in its callback, or 2³²-1 for the callback's end
    bytes 21-24    fingerprint: the low 32 bits of the event's receive time in microseconds
    bytes 25-28    CRC-32 of bytes 0-24

One inside a snapshot names the event whose end the snapshot is as of, and the last message sent:

    byte 0         version, 3
    bytes 1-8      the log's identity
    bytes 9-16     position of that event
    bytes 17-20    its fingerprint
    bytes 21-28    of the message's instance: the first eight bytes of its SHA-256
    bytes 29-      the message id in UTF-8; empty before all messages
    last 4 bytes   CRC-32 of all before

Version 2 is the same for an id of more than 351 bytes in UTF-8, which so would not fit; earlier
programs gave it out for every id:

    bytes 29-31    base: one more than the message id's highest code point; 0 before all messages
    bytes 32-      the message id as a number, its code points being the digits in that base

All in URL-safe base64 without padding: 39 characters, and 44 to 512. The checksum tells a damaged
cursor (invalid) from one of another log (foreign). The fingerprint tells an event from another one
that took its position, after a backup was restored or a failover lost the newest events.

A snapshot goes in order of key, so only the key says what comes next, also once retention or an
erasure has taken the message itself away. Of an instance its digest will do, as the views know
every one. An id never holds NUL, so no digit is 0 and its number gives back its length.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterable
from functools import lru_cache
from zlib import crc32

import msgspec

from service import errors
from service.domain.events import Mark, Place, Point, Position, end_of
from service.domain.message import MessageKey

CHARACTERS_MAX = 512

_PLACE_VERSION = 1
_PLACE = struct.Struct(">B8sQII")
_NUMBER_VERSION = 2
_SNAPSHOT_VERSION = 3
_AS_OF = struct.Struct(">8sQI")
_SNAPSHOT = struct.Struct(">B8sQI8s")
_CHECKSUM = struct.Struct(">I")
_FINGERPRINT_MASK = 2**32 - 1
_DIGEST_BYTES = 8
_ID_BYTES_MAX = CHARACTERS_MAX // 4 * 3 - _SNAPSHOT.size - _CHECKSUM.size
_BASE_BYTES = 3


class InSnapshot(msgspec.Struct, frozen=True, gc=False):
    """Behind a message of a snapshot, in order of key."""

    instance_digest: bytes = bytes(_DIGEST_BYTES)
    message_id: str = ""
    """Empty: before all messages."""

    @classmethod
    def behind(cls, key: MessageKey) -> "InSnapshot":
        return cls(instance_digest(key.instance), key.message_id)


BEFORE_ALL_MESSAGES = InSnapshot()


@lru_cache(maxsize=1_024)
def instance_digest(instance: str) -> bytes:
    """What stands for an instance in a cursor."""
    return hashlib.sha256(instance.encode()).digest()[:_DIGEST_BYTES]


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """A decoded cursor, still to be held against the log."""

    place: Place
    fingerprint: int
    snapshot: InSnapshot | None = None
    """None for an ordinary one; otherwise `place` is what the snapshot is as of."""

    def recognises(self, mark: Mark) -> bool:
        """Is the event the log holds there the one the cursor was made for?"""
        return self.fingerprint == mark.receive_time_us & _FINGERPRINT_MASK


class CursorCodec:
    """Cursors of one log."""

    def __init__(self, log_identity: str) -> None:
        """`log_identity` is the log's 32 hex digits."""
        self._log = bytes.fromhex(log_identity)[:8]

    def encode(self, place: Place, receive_time_us: int) -> str:
        """The cursor of a place, given the receive time of the event there."""
        fingerprint = receive_time_us & _FINGERPRINT_MASK
        return _text(
            _PLACE.pack(_PLACE_VERSION, self._log, place.position, place.index, fingerprint)
        )

    def at(self, point: Point) -> str:
        return self.encode(point.place, point.receive_time_us)

    def end_of(self, mark: Mark) -> str:
        """The cursor of the end of an event; of ORIGIN, the one before every event."""
        return self.at(end_of(mark))

    def inside(self, as_of: Point, snapshot: InSnapshot) -> str:
        """The cursor inside a snapshot as of the end of an event."""
        return _behind(self._as_of(as_of), snapshot.instance_digest, snapshot.message_id).decode()

    def behind_each(self, as_of: Point, messages: Iterable[MessageKey]) -> list[bytes]:
        """The cursors behind messages of a snapshot, in ASCII."""
        head = self._as_of(as_of)
        return [
            _behind(head, instance_digest(instance), message_id)
            for instance, message_id in messages
        ]

    def _as_of(self, point: Point) -> bytes:
        """What all cursors of a snapshot have behind their version."""
        fingerprint = point.receive_time_us & _FINGERPRINT_MASK
        return _AS_OF.pack(self._log, point.place.position, fingerprint)

    def decode(self, text: str) -> Cursor:
        """Raises CursorInvalid if it is not a whole cursor, CursorForeign if of another log."""
        body = _body(text)
        # As many texts as bytes read the same; only the spelling we give out is one of ours.
        if _text(body) != text:
            raise errors.CursorInvalid(_INVALID)
        inside = body[0] in (_SNAPSHOT_VERSION, _NUMBER_VERSION)
        cursor = _snapshot_cursor(body) if inside else _place_cursor(body)
        if body[1:9] != self._log:
            raise errors.CursorForeign(
                "the cursor belongs to another log: use the server it came from, or start anew"
            )
        return cursor


def _text(body: bytes) -> str:
    return _ascii(body).decode("ascii")


def _ascii(body: bytes) -> bytes:
    text: bytes = binascii.b2a_base64(body + _CHECKSUM.pack(crc32(body)), newline=False)
    return text.translate(_TO_URL_SAFE, b"=")


def _behind(as_of: bytes, digest: bytes, message_id: str) -> bytes:
    """A cursor inside a snapshot, in ASCII."""
    name = message_id.encode()
    if len(name) > _ID_BYTES_MAX:
        return _ascii(_NUMBER + as_of + digest + _number(message_id))
    return _ascii(_NAME + as_of + digest + name)


def _body(text: str) -> bytes:
    """What the checksum is right for; it may still say nothing that makes sense."""
    if len(text) > CHARACTERS_MAX or not text.isascii():
        raise errors.CursorInvalid(_INVALID)
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise errors.CursorInvalid(_INVALID) from None
    body, checksum = data[: -_CHECKSUM.size], data[-_CHECKSUM.size :]
    if len(body) < _PLACE.size or _CHECKSUM.pack(crc32(body)) != checksum:
        raise errors.CursorInvalid(_INVALID)
    return body


def _place_cursor(body: bytes) -> Cursor:
    if len(body) != _PLACE.size or body[0] != _PLACE_VERSION:
        raise errors.CursorInvalid(_INVALID)
    _, _, position, index, fingerprint = _PLACE.unpack(body)
    return Cursor(Place(Position(position), index), fingerprint)


def _snapshot_cursor(body: bytes) -> Cursor:
    if len(body) < _SNAPSHOT.size:
        raise errors.CursorInvalid(_INVALID)
    version, _, position, fingerprint, digest = _SNAPSHOT.unpack_from(body)
    last = body[_SNAPSHOT.size :]
    try:
        message_id = _id(last) if version == _NUMBER_VERSION else last.decode()
    except ValueError:
        raise errors.CursorInvalid(_INVALID) from None
    other = version == _NUMBER_VERSION and _number(message_id) != last
    if other or "\0" in message_id:
        raise errors.CursorInvalid(_INVALID)
    return Cursor(Place(Position(position)), fingerprint, InSnapshot(digest, message_id))


def _number(message_id: str) -> bytes:
    """A base, and the id as a number, its code points being the digits in that base."""
    digits = [*map(ord, message_id)]
    base = max(digits, default=-1) + 1
    number = 0
    for digit in digits:
        number = number * base + digit
    return base.to_bytes(_BASE_BYTES, "big") + number.to_bytes(
        (number.bit_length() + 7) // 8, "big"
    )


def _id(encoded: bytes) -> str:
    """The id of that number. Raises ValueError if it is none."""
    base = int.from_bytes(encoded[:_BASE_BYTES], "big")
    number = int.from_bytes(encoded[_BASE_BYTES:], "big")
    characters: list[str] = []
    while number:
        if base < 2:
            raise ValueError
        number, digit = divmod(number, base)
        characters.append(chr(digit))
    message_id = "".join(reversed(characters))
    # A surrogate is no character, and no id holds one.
    message_id.encode()
    return message_id


_INVALID = "this is not a cursor, or a damaged one: hand back a cursor exactly as received"
_NUMBER, _NAME = bytes([_NUMBER_VERSION]), bytes([_SNAPSHOT_VERSION])
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
