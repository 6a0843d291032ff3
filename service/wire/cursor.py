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
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
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

    def behind_each(self, as_of: Point, keys: Sequence[tuple[str, str]]) -> list[bytes]:
        """The cursors behind messages of a snapshot, in ASCII."""
        head = self._as_of(as_of)
        heads = {instance: head + instance_digest(instance) for instance, _ in keys}
        numbers = _numbers([message_id for _, message_id in keys])
        bodies = [
            heads[instance] + number for (instance, _), number in zip(keys, numbers, strict=True)
        ]
        whole = [body + _CHECKSUM.pack(crc32(body)) for body in bodies]
        texts = b" ".join([b2a_base64(one, newline=False) for one in whole])
        return texts.translate(_TO_URL_SAFE, b"=").split(b" ") if bodies else []

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
    text = b2a_base64(body + _CHECKSUM.pack(crc32(body)), newline=False)
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
    points = [*map(ord, message_id)]
    base = max(points, default=-1) + 1
    number = 0
    for digit in points:
        number = number * base + digit
    size = (number.bit_length() + 7) // 8
    return base.to_bytes(_BASE_BYTES, "big") + number.to_bytes(size, "big")


def _numbers(message_ids: Iterable[str]) -> list[bytes]:
    """`_number` of each: a snapshot makes one a message, and one by one it takes twice as long."""
    encoded = [message_id.encode() for message_id in message_ids]
    found: dict[bytes, bytes] = {}
    alike: dict[tuple[int, int], list[bytes]] = {}
    for one in encoded:
        if one and one.isascii():
            # Nearly every id is, and its bytes are its code points, its digits.
            base_and_width = max(one) + 1, 1 << (len(one) - 1).bit_length()
            alike.setdefault(base_and_width, []).append(one)
        else:
            found[one] = _number(one.decode())
    for (base, width), several in alike.items():
        head = base.to_bytes(_BASE_BYTES, "big")
        values = [head + value for value in _values(several, base, width)]
        found.update(zip(several, values, strict=True))
    return [found[one] for one in encoded]


def _values(numbers: Sequence[bytes], base: int, width: int) -> list[bytes]:
    """The numbers with these digits, a byte each, in a base of 128 at most; without leading zeros.

    No number has more than `width` digits, a power of two. Of each pair of neighbours one digit is
    made, in the square of the base and in twice as many bits: of all pairs of all numbers at once,
    until each number is one digit.
    """
    digits = b"".join([one.rjust(width, b"\0") for one in numbers])
    value, bits = int.from_bytes(digits, "big"), 8
    while bits < 8 * width:
        lower = (bytes(bits // 8) + b"\xff" * (bits // 8)) * (len(digits) * 4 // bits)
        lower_of_pairs = int.from_bytes(lower, "big")
        value = (value & lower_of_pairs) + (value >> bits & lower_of_pairs) * base
        base, bits = base * base, 2 * bits
    values = value.to_bytes(len(digits), "big")
    return [values[begin : begin + width].lstrip(b"\0") for begin in range(0, len(values), width)]


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
