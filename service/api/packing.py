"""Many changes as few frames; those of the feed encoded once for everybody who wants the same."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from service.config import Limits
from service.domain.events import Point
from service.views.store import FeedFilter, FeedPage, FeedRow
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


def packed(page: FeedPage, wanted: FeedFilter, cursors: CursorCodec, limits: Limits) -> list[Frame]:
    """The wanted rows of the page in log order, as many in a frame as its bounds allow."""
    rows = [row for row in page.rows if wanted.matches(row)]
    ready = [_frame(group, cursors) for group in grouped(rows, _size, limits)]
    if ready:
        ready[-1].through = page.end
    return ready


def grouped(
    changes: Iterable[ItemT], size_of: Callable[[ItemT], int], limits: Limits
) -> Iterator[list[ItemT]]:
    """Changes in runs that a frame each can hold, given their encoded sizes."""
    group: list[ItemT] = []
    size = 0
    for change in changes:
        change_size = size_of(change)
        if group and (
            len(group) >= limits.frame_changes_max or size + change_size > limits.frame_bytes_max
        ):
            yield group
            group = []
            size = 0
        group.append(change)
        size += change_size + frames.CHANGE_OVERHEAD_BYTES
    if group:
        yield group


def _size(row: FeedRow) -> int:
    return len(row.change)


def _frame(rows: list[FeedRow], cursors: CursorCodec) -> Frame:
    point = Point(rows[-1].place, rows[-1].receive_time_us)
    return Frame(frames.changes([row.change for row in rows], cursors.at(point)), point)
