"""Many changes as few frames, encoded once for everybody who wants the same."""

from collections.abc import Sequence

from service.config import Limits
from service.domain.events import Point
from service.views.feed import FeedRow
from service.wire import frames
from service.wire.cursor import CursorCodec


class Frame:
    """An encoded Changes frame."""

    __slots__ = ("encoded", "through")

    def __init__(self, encoded: bytes, through: Point) -> None:
        self.encoded = encoded
        self.through = through
        """Everything up to here was considered once it is sent: its last change, or for the last
        frame of a page the page's end. The frame's own cursor names its last change."""


def frame_bounds(limits: Limits) -> frames.Bounds:
    return frames.Bounds(limits.frame_changes_max, limits.frame_bytes_max)


def packed(
    rows: Sequence[FeedRow], end: Point, cursors: CursorCodec, bounds: frames.Bounds
) -> list[Frame]:
    """The rows of a page that ends there, in log order, as many in a frame as its bounds allow."""
    sizes = [len(row.change) for row in rows]
    ready = [_frame(group, cursors) for group in frames.grouped(rows, sizes, bounds)]
    if ready:
        ready[-1].through = end
    return ready


def _frame(rows: Sequence[FeedRow], cursors: CursorCodec) -> Frame:
    last = rows[-1].point
    return Frame(frames.changes([row.change for row in rows], cursors.at(last)), last)
