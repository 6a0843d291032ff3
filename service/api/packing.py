"""A stretch of the feed as few frames, encoded once for everybody who wants the same of it."""

from service.config import Limits
from service.domain.events import Point
from service.views.store import FeedFilter, FeedPage, FeedRow
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


def packed(page: FeedPage, wanted: FeedFilter, cursors: CursorCodec, limits: Limits) -> list[Frame]:
    """The wanted rows of the page in log order, as many in a frame as its bounds allow."""
    ready: list[Frame] = []
    collected: list[FeedRow] = []
    size = 0
    for row in page.rows:
        if not wanted.matches(row):
            continue
        if collected and (
            len(collected) >= limits.frame_changes_max
            or size + len(row.change) > limits.frame_bytes_max
        ):
            ready.append(_frame(collected, cursors))
            collected = []
            size = 0
        collected.append(row)
        size += len(row.change) + frames.CHANGE_OVERHEAD_BYTES
    if collected:
        ready.append(_frame(collected, cursors))
        ready[-1].through = page.end
    return ready


def _frame(rows: list[FeedRow], cursors: CursorCodec) -> Frame:
    point = Point(rows[-1].place, rows[-1].receive_time_us)
    return Frame(frames.changes([row.change for row in rows], cursors.at(point)), point)
