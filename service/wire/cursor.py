"""Cursors: a place in the log, or in a snapshot of the views, as an opaque string.

An ordinary one names a report or the end of a callback:

    byte 0         version, 1
    bytes 1-8      the log's identity, its first eight bytes
    bytes 9-16     position, big-endian
    bytes 17-20    index of the report in its callback, or 2³²-1 for the callback's end
    bytes 21-24    fingerprint: the low 32 bits of the event's receive time in microseconds
    bytes 25-28    CRC-32 of bytes 0-24

One inside a snapshot names the event whose end the snapshot is as of, and the last message sent:

    byte 0         version, 2
    bytes 1-8      the log's identity
    bytes 9-16     position of that event
    bytes 17-20    its fingerprint
    bytes 21-28    of the message's instance: the first eight bytes of its SHA-256
    bytes 29-31    base: one more than the message id's highest code point; 0 before all messages
    bytes 32-      the message id as a number, its code points being the digits in that base
    last 4 bytes   CRC-32 of all before

Both in URL-safe base64 without padding: 39 characters, and 48 to 478. The checksum tells a damaged
cursor (invalid) from one of another log (foreign). The fingerprint tells an event from another one
that took its position, after a backup was restored or a failover lost the newest events.

A snapshot goes in order of key, so only the key says what comes next, also once retention or an
erasure has taken the message itself away. The largest key as it stands would not fit into 512
characters; its digest and its number do. An id never holds NUL, so no digit is 0 and its number
gives back its length.
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
_SNAPSHOT_VERSION = 2
_AS_OF = struct.Struct(">B8sQI")
_SNAPSHOT = struct.Struct(">B8sQI8s")
_CHECKSUM = struct.Struct(">I")
_FINGERPRINT_MASK = 2**32 - 1
_DIGEST_BYTES = 8
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
        head = self._as_of(as_of)
        return _text(head + snapshot.instance_digest + _number(snapshot.message_id))

    def behind_each(self, as_of: Point, messages: Iterable[MessageKey]) -> list[bytes]:
        """The cursors behind messages of a snapshot, in ASCII."""
        head = self._as_of(as_of)
        return [
            _ascii(head + instance_digest(instance) + _number(message_id))
            for instance, message_id in messages
        ]

    def _as_of(self, point: Point) -> bytes:
        """What all cursors of a snapshot begin with."""
        fingerprint = point.receive_time_us & _FINGERPRINT_MASK
        return _AS_OF.pack(_SNAPSHOT_VERSION, self._log, point.place.position, fingerprint)

    def decode(self, text: str) -> Cursor:
        """Raises CursorInvalid if it is not a whole cursor, CursorForeign if of another log."""
        body = _body(text)
        # As many texts as bytes read the same; only the spelling we give out is one of ours.
        if _text(body) != text:
            raise errors.CursorInvalid(_INVALID)
        cursor = _snapshot_cursor(body) if body[0] == _SNAPSHOT_VERSION else _place_cursor(body)
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
    _, _, position, fingerprint, digest = _SNAPSHOT.unpack_from(body)
    number = body[_SNAPSHOT.size :]
    try:
        message_id = _id(number)
    except ValueError:
        raise errors.CursorInvalid(_INVALID) from None
    if _number(message_id) != number or "\0" in message_id:
        raise errors.CursorInvalid(_INVALID)
    return Cursor(Place(Position(position)), fingerprint, InSnapshot(digest, message_id))


def _number(message_id: str) -> bytes:
    """A base, and the id as a number, its code points being the digits in that base."""
    if message_id.isascii():
        # Nearly every id is, and its bytes are its code points: a snapshot makes one a message.
        digits = message_id.encode()
        base = max(digits, default=-1) + 1
        number = _value(digits, base)
    else:
        points = [*map(ord, message_id)]
        base = max(points) + 1
        number = 0
        for digit in points:
            number = number * base + digit
    size = (number.bit_length() + 7) // 8
    return base.to_bytes(_BASE_BYTES, "big") + number.to_bytes(size, "big")


def _value(digits: bytes, base: int) -> int:
    """The number with these digits in a base of 128 at most.

    Of each pair of neighbours one digit is made, in the square of the base and in twice as many
    bits; of all pairs at once, until one is left. Digit by digit it takes twice as long.
    """
    value, bits = int.from_bytes(digits, "big"), 8
    for lower in _lower_of_pairs(len(digits)):
        value = (value & lower) + (value >> bits & lower) * base
        base, bits = base * base, 2 * bits
    return value


@lru_cache(maxsize=512)
def _lower_of_pairs(count: int) -> list[int]:
    """For digits of 8 bits, of 16 and so on: masks of every other one, as many as there may be."""
    masks, bits = [], 8
    while bits < 8 * count:
        pairs = -(-8 * count // (2 * bits))
        masks.append(sum(((1 << bits) - 1) << (2 * bits * pair) for pair in range(pairs)))
        bits *= 2
    return masks


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
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
