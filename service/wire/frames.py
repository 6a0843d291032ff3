"""Messages and watch frames as bytes, so that one encoding serves everybody it goes to.

A `MessageStatus` and the `StatusChange` that holds it are encoded once, by the projector, and
stored. Responses and `Changes` frames are then built by putting length-delimited fields in a row,
which is what serialising the whole would give:
https://protobuf.dev/programming-guides/encoding/#length-types (read 2026-11-22).
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple, TypeVar

from service.gen.plugchat.status.v1 import status_pb2 as pb

_LENGTH_DELIMITED = 2


def _tag(field_number: int) -> bytes:
    return bytes([field_number << 3 | _LENGTH_DELIMITED])


_MESSAGE = _tag(pb.StatusChange.MESSAGE_FIELD_NUMBER)
_CHANGE_CURSOR = _tag(pb.StatusChange.CURSOR_FIELD_NUMBER)
_CURSOR = _tag(pb.WatchStatusesResponse.CURSOR_FIELD_NUMBER)
_CHANGES = _tag(pb.WatchStatusesResponse.CHANGES_FIELD_NUMBER)
_CHANGE = _tag(pb.Changes.CHANGES_FIELD_NUMBER)
_HEAD_BYTES = 5
"""At most this much stands before an encoded change in a frame: a tag and a length."""

ItemT = TypeVar("ItemT")


class Bounds(NamedTuple):
    """Of the changes in a frame. One that alone has more bytes has a frame to itself."""

    changes_max: int
    bytes_max: int


def of_message(encoded: bytes) -> bytes:
    """An encoded MessageStatus as the first field of what holds it: a change, or a response."""
    return _MESSAGE + _varint(len(encoded)) + encoded


def in_snapshot(message: bytes, cursor: bytes) -> bytes:
    """A StatusChange of an encoded message as it is; `cursor` names its place in the snapshot."""
    size, cursor_size = _varint(len(message)), _varint(len(cursor))
    return b"".join((_MESSAGE, size, message, _CHANGE_CURSOR, cursor_size, cursor))


def changes(encoded_changes: Sequence[bytes], cursor: str) -> bytes:
    """A Changes frame of at least one encoded StatusChange."""
    return of_changes(joined(encoded_changes), cursor)


def of_changes(encoded: bytes, cursor: str) -> bytes:
    """The same of an encoded Changes."""
    text = cursor.encode("ascii")
    return b"".join([_CURSOR, _varint(len(text)), text, _CHANGES, _varint(len(encoded)), encoded])


def joined(encoded_changes: Sequence[bytes]) -> bytes:
    """An encoded Changes: each StatusChange behind its head."""
    heads = map(change_head, map(len, encoded_changes))
    return b"".join(chain.from_iterable(zip(heads, encoded_changes, strict=True)))


@lru_cache(maxsize=8_192)
def change_head(size: int) -> bytes:
    """What stands before a StatusChange of that size in an encoded Changes."""
    # Remembered: few sizes make up nearly all of a feed.
    return _CHANGE + _varint(size)


def grouped(
    changes: Sequence[ItemT], sizes: Sequence[int], bounds: Bounds
) -> Iterator[Sequence[ItemT]]:
    """Changes in runs that a frame each can hold, given their encoded sizes."""
    begin = 0
    while begin < len(changes):
        end = min(begin + bounds.changes_max, len(changes))
        size = sum(sizes[begin:end]) + _HEAD_BYTES * (end - begin)
        # Nearly always it fits as it is.
        while size > bounds.bytes_max and end - begin > 1:
            end -= 1
            size -= sizes[end] + _HEAD_BYTES
        yield changes[begin:end]
        begin = end


def opened(cursor: str, views_generation: int) -> bytes:
    return pb.WatchStatusesResponse(
        cursor=cursor, opened=pb.Opened(views_generation=views_generation)
    ).SerializeToString()


def caught_up(cursor: str) -> bytes:
    return pb.WatchStatusesResponse(cursor=cursor, caught_up=pb.CaughtUp()).SerializeToString()


def snapshot_end(cursor: str) -> bytes:
    return pb.WatchStatusesResponse(
        cursor=cursor, snapshot_end=pb.SnapshotEnd()
    ).SerializeToString()


def fell_behind(cursor: str) -> bytes:
    return pb.WatchStatusesResponse(cursor=cursor, fell_behind=pb.FellBehind()).SerializeToString()


def progress(cursor: str) -> bytes:
    return pb.WatchStatusesResponse(cursor=cursor, progress=pb.Progress()).SerializeToString()


def closing(cursor: str, reason: pb.ClosingReason.ValueType) -> bytes:
    return pb.WatchStatusesResponse(
        cursor=cursor, closing=pb.Closing(reason=reason)
    ).SerializeToString()


@lru_cache(maxsize=8_192)
def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
