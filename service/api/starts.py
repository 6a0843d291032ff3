"""Where a caller may start reading: cursors and times, held against the log."""

from typing import NamedTuple

from service import errors
from service.database.readers import ReaderPool
from service.domain.events import ORIGIN, Mark, Place, Point, Position, end_of
from service.eventlog.log import LogReader
from service.wire.cursor import Cursor, CursorCodec, InSnapshot


class Resumed(NamedTuple):
    point: Point
    snapshot: InSnapshot | None
    """Inside a snapshot as of `point`; None behind an ordinary cursor."""


class Starts:
    """Every method raises LogUnavailable if the log is away."""

    def __init__(self, log: ReaderPool[LogReader], cursors: CursorCodec) -> None:
        self._log = log
        self._cursors = cursors

    async def head(self) -> Mark:
        """The last event recorded."""
        return await self._log.run(lambda log: log.head())

    async def resumed(self, text: str) -> Resumed:
        """Where a cursor stands.

        Raises CursorInvalid, CursorForeign, CursorAhead, CursorExpired or CursorDiverged.
        """
        cursor = self._cursors.decode(text)
        return Resumed(await self._log.run(lambda log: _checked(cursor, log)), cursor.snapshot)

    async def at_cursor(self, text: str) -> Point:
        """The point a cursor stands at; of one inside a snapshot, what that is as of.

        Raises as `resumed` does.
        """
        return (await self.resumed(text)).point

    async def at_time(self, time_us: int) -> Point | None:
        """Just before the first event received then or later; None if there is none yet.

        Raises CursorExpired if that event may have been removed by retention.
        """
        return await self._log.run(lambda log: _before(time_us, log))


def _checked(cursor: Cursor, log: LogReader) -> Point:
    position = cursor.place.position
    if position > log.head().position:
        raise errors.CursorAhead(
            "the cursor stands beyond this log's head: the log was restored from an older copy, "
            "so start from a snapshot"
        )
    # The mark first: retention can only remove it between the two, and then it is told as such.
    mark = log.mark(position)
    last_removed = log.last_removed()
    if cursor.place < Place(last_removed.position):
        raise errors.CursorExpired(
            "retention has removed events behind the cursor: start from a snapshot"
        )
    if mark is None and position == last_removed.position:
        # It stands at the end of the last event removed: nothing behind it is missing.
        mark = last_removed
    if mark is None or not cursor.recognises(mark):
        raise errors.CursorDiverged(
            "this log holds another event where the cursor stood: the log was restored from an "
            "older copy, so start from a snapshot"
        )
    return Point(cursor.place, mark.receive_time_us)


def _before(time_us: int, log: LogReader) -> Point | None:
    position = log.received_from(time_us)
    if position is None:
        return None
    if log.removals().last_expired_time_us >= time_us:
        raise errors.CursorExpired(
            "retention has removed events from before that time: take a later one, or a snapshot"
        )
    before = Position(position - 1)
    last_removed = log.last_removed()
    return end_of(last_removed if before == last_removed.position else log.mark(before) or ORIGIN)
