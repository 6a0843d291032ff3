"""Many changes as few frames; those of the feed encoded once for everybody who wants the same."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from service.config import Limits
from service.domain.events import Place, Point, Position
from service.views.feed import FeedChange, FeedRow
from service.wire import frames
from service.wire.cursor import CursorCodec

ItemT = TypeVar("ItemT")


class Frame:
    """An encoded Changes frame."""

    __slots__ = ("encoded", "through")

    def __init__(self, encoded: bytes, through: Point) -> None:
        self.encoded = encoded
        self.through = through
        """Everything up to here was considered once it is sent: its last change, or for the last
        frame of a page the page's end. The frame's own cursor names its last change."""


def packed(
    rows: Sequence[FeedRow | FeedChange], end: Point, cursors: CursorCodec, limits: Limits
) -> list[Frame]:
    """The rows of a page that ends there, in log order, as many in a frame as its bounds allow."""
    sizes = [len(row.change) for row in rows]
    ready = [_frame(group, cursors) for group in grouped(rows, sizes, limits)]
    if ready:
        ready[-1].through = end
    return ready


def grouped(
    changes: Sequence[ItemT], sizes: Sequence[int], limits: Limits
) -> Iterator[Sequence[ItemT]]:
    """Changes in runs that a frame each can hold, given their encoded sizes."""
    begin = 0
    while begin < len(changes):
        end = min(begin + limits.frame_changes_max, len(changes))
        size = sum(sizes[begin:end]) + frames.CHANGE_OVERHEAD_BYTES * (end - begin)
        # Nearly always it fits as it is.
        while size > limits.frame_bytes_max and end - begin > 1:
            end -= 1
            size -= sizes[end] + frames.CHANGE_OVERHEAD_BYTES
        yield changes[begin:end]
        begin = end


def _frame(rows: Sequence[FeedRow | FeedChange], cursors: CursorCodec) -> Frame:
    last = rows[-1]
    place = Place(Position(last.position), last.report_index)
    point = Point(place, last.receive_time_us)
    return Frame(frames.changes([row.change for row in rows], cursors.at(point)), point)
