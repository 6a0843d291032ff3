"""Cursors: a place in the log as an opaque string.

    byte 0         version, 1
    bytes 1-8      the log's identity, its first eight bytes
    bytes 9-16     position, big-endian
    bytes 17-20    index of the report in its callback, or 2³²-1 for the callback's end
    bytes 21-24    fingerprint: the low 32 bits of the event's receive time in microseconds
    bytes 25-28    CRC-32 of bytes 0-24

in URL-safe base64 without padding: 39 characters. The checksum tells a damaged cursor (invalid)
from one of another log (foreign). The fingerprint tells an event from another one that took its
position, after a backup was restored or a failover lost the newest events.
"""

import base64
import binascii
import struct
from zlib import crc32

import msgspec

from service import errors
from service.domain.events import Mark, Place, Point, Position

_VERSION = 1
_BODY = struct.Struct(">B8sQII")
_CHECKSUM = struct.Struct(">I")
_TEXT_CHARACTERS = 39
_FINGERPRINT_MASK = 2**32 - 1


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """A decoded cursor, still to be held against the log."""

    place: Place
    fingerprint: int

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
        body = _BODY.pack(_VERSION, self._log, place.position, place.index, fingerprint)
        text = binascii.b2a_base64(body + _CHECKSUM.pack(crc32(body)), newline=False)
        return text.translate(_TO_URL_SAFE, b"=").decode("ascii")

    def at(self, point: Point) -> str:
        return self.encode(point.place, point.receive_time_us)

    def end_of(self, mark: Mark) -> str:
        """The cursor of the end of an event; of ORIGIN, the one before every event."""
        return self.encode(Place(mark.position), mark.receive_time_us)

    def decode(self, text: str) -> Cursor:
        """Raises CursorInvalid if it is not a whole cursor, CursorForeign if of another log."""
        if len(text) != _TEXT_CHARACTERS or not text.isascii():
            raise errors.CursorInvalid(_INVALID)
        try:
            data = base64.b64decode(text + "=", altchars=b"-_", validate=True)
        except binascii.Error:
            raise errors.CursorInvalid(_INVALID) from None
        body, checksum = data[: _BODY.size], data[_BODY.size :]
        # The last character has two bits to spare: only the spelling we give out is one of ours.
        if _CHECKSUM.pack(crc32(body)) != checksum or body[0] != _VERSION:
            raise errors.CursorInvalid(_INVALID)
        _, log, position, index, fingerprint = _BODY.unpack(body)
        if log != self._log:
            raise errors.CursorForeign(
                "the cursor belongs to another log: use the server it came from, or start anew"
            )
        cursor = Cursor(Place(Position(position), index), fingerprint)
        if self.encode(cursor.place, fingerprint) != text:
            raise errors.CursorInvalid(_INVALID)
        return cursor


_INVALID = "this is not a cursor, or a damaged one: hand back a cursor exactly as received"
_TO_URL_SAFE = bytes.maketrans(b"+/", b"-_")
