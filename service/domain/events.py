"""What the log holds."""

from enum import IntEnum
from typing import NewType
from zlib import crc32

import msgspec

Position = NewType("Position", int)
"""An event's place in the log: ≥ 1, rising, never given twice. 0 stands before the first event."""

BEFORE_FIRST = Position(0)
SPOOLED = Position(-1)
"""In place of the position of a callback that is on this machine's disk, in the log only later."""


END_OF_CALLBACK = 2**32 - 1
"""The index behind every report of a callback; a body of 1 MiB cannot hold as many ids."""


class Place(msgspec.Struct, frozen=True, gc=False, order=True):
    """A report's place in the log, or the end of an event; compares in log order.

    `index` is where the report's message id first appears in the raw callback, invalid entries
    counted, so that a better decoder does not shift it.
    """

    position: Position
    index: int = END_OF_CALLBACK


class EventKind(IntEnum):
    """What an event's content is. The numbers are stored: never reuse one."""

    UNKNOWN = 0
    """Never stored: what a newer program wrote and this one steps over."""
    CALLBACK = 1
    """The body of a callback, byte for byte after Content-Encoding."""
    WEBHOOK_ATTEMPT = 2
    """JSON of `domain.webhook.Attempt`: what we are about to ask of PlugChat."""
    WEBHOOK_OUTCOME = 3
    """JSON of `domain.webhook.Outcome`: what came of an attempt."""
    ERASURE = 4
    """JSON of `domain.erasure.Erasure`: what was erased, without saying of whom."""
    TOMBSTONE = 9
    """JSON of `domain.erasure.Tombstone`, in place of a callback's body that was erased."""


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event that is not in the log yet."""

    instance: str
    receive_time_us: int
    kind: EventKind
    content: bytes


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event of the log. Immutable, but for erasure, which leaves a TOMBSTONE in its place."""

    position: Position
    instance: str
    receive_time_us: int
    kind: EventKind
    content: bytes
    damaged: bool = False
    """Not what was recorded: its checksum is another one."""


def checksum_of(instance: str, receive_time_us: int, kind: int, content: bytes) -> int:
    """CRC-32 of all that an event is, but for its position."""
    return crc32(content, crc32(b"%d %d %b " % (receive_time_us, kind, instance.encode())))


class Mark(msgspec.Struct, frozen=True, gc=False):
    """An event's place and receive time: enough to recognise it in another copy of the log."""

    position: Position
    receive_time_us: int


ORIGIN = Mark(BEFORE_FIRST, 0)
"""Before the first event of every log."""


class Point(msgspec.Struct, frozen=True, gc=False):
    """A place with its event's receive time: all that a cursor is made of."""

    place: Place
    receive_time_us: int


def end_of(mark: Mark) -> Point:
    """Behind every report of the event."""
    return Point(Place(mark.position), mark.receive_time_us)


class QuarantineReason(IntEnum):
    """Why a kept callback makes no report. The numbers are stored and are those of the proto.

    Of several reasons the lowest number is given.
    """

    TYPE_MISSING = 1
    """`type` is not there, or not a string."""
    TYPE_UNKNOWN = 2
    STATUS_MISSING = 3
    """A status callback whose `status` is not there, or not a string."""
    IDS_MISSING = 4
    """No valid message id."""
    TOO_MANY_IDS = 5
    UNREADABLE = 6
    """It could not be read at all."""
