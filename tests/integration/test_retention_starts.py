"""Where a caller may start reading once retention has removed the oldest events."""

import random
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from service import errors
from service.api.starts import Starts
from service.database.readers import ReaderPool
from service.domain.events import ORIGIN, Mark, Place, Point, Position, end_of
from service.eventlog.log import BaselineChange, LogReader
from service.wire.cursor import CursorCodec
from tests.domain_values import NOW_US
from tests.logs import LogUnderTest, appended, new_event

S = 1_000_000


class Site:
    """A log, and starts that are held against it."""

    def __init__(self, log: LogUnderTest, readers: "ReaderPool[LogReader]", identity: str) -> None:
        self._log = log
        self._codec = CursorCodec(identity)
        self._marks = [ORIGIN]
        self.starts = Starts(readers, self._codec)

    def record(self, *times_s: int) -> None:
        """An event received so many seconds after NOW_US each."""
        times_us = [NOW_US + one * S for one in times_s]
        events = appended(self._log, *(new_event(receive_time_us=one) for one in times_us))
        self._marks += [Mark(one.position, one.receive_time_us) for one in events]

    def cut(self, until: int) -> None:
        with closing(self._log.open_writer()) as writer:
            writer.cut(self.mark(until), BaselineChange())

    def mark(self, position: int) -> Mark:
        return self._marks[position]

    async def at_cursor(self, position: int, index: int | None = None) -> Point | str:
        """Where a cursor of that place starts, or why it does not."""
        mark = self.mark(position)
        place = Place(mark.position) if index is None else Place(mark.position, index)
        try:
            return await self.starts.at_cursor(self._codec.at(Point(place, mark.receive_time_us)))
        except errors.CursorError as error:
            return type(error).__name__

    async def at_time(self, time_s: float) -> int | str | None:
        """The position that a start at that time begins behind, or why it does not."""
        try:
            found = await self.starts.at_time(NOW_US + round(time_s * S))
        except errors.CursorExpired:
            return "CursorExpired"
        if found is None:
            return None
        assert found == end_of(self.mark(found.place.position))
        return found.place.position


@pytest.fixture
async def site(log: LogUnderTest, reader: LogReader) -> AsyncIterator[Site]:
    with closing(ReaderPool("reader", log.open_reader, 1, errors.LogUnavailable)) as readers:
        yield Site(log, readers, reader.identity)


async def test_cursors_around_a_cut(site: Site) -> None:
    """Behind the last event removed one goes on; inside it, and before, it is expired."""
    site.record(10, 20, 30, 40, 50)
    before = [await site.at_cursor(position) for position in range(6)]
    site.cut(3)
    after = [await site.at_cursor(position) for position in range(6)]
    inside = [await site.at_cursor(position, 0) for position in (2, 3, 4)]

    assert before == [end_of(site.mark(position)) for position in range(6)]
    assert after == ["CursorExpired"] * 3 + before[3:]
    assert inside[:2] == ["CursorExpired"] * 2
    assert inside[2] == Point(Place(Position(4), 0), site.mark(4).receive_time_us)


async def test_the_heads_cursor_is_never_expired(site: Site) -> None:
    """The last event stays, so whoever has read everything goes on."""
    for _ in range(4):
        site.record(1, 2)
        head = len(site._marks) - 1
        site.cut(head - 1)

        assert await site.at_cursor(head) == end_of(site.mark(head))
        assert await site.at_cursor(head - 1) == end_of(site.mark(head - 1))
        assert await site.at_cursor(head - 2) == "CursorExpired"


async def test_times_around_a_cut(site: Site) -> None:
    """Where nothing removed matched, a time begins with the oldest; else it is expired; behind
    the head there is nothing yet."""
    site.record(10, 20, 30, 40)
    uncut = [await site.at_time(one) for one in (-99, 10, 10.5, 40, 41)]
    site.cut(2)
    cut = [await site.at_time(one) for one in (-99, 10, 20, 20.5, 30, 30.5, 40, 41)]

    assert uncut == [0, 0, 1, 3, None]
    assert cut == ["CursorExpired"] * 3 + [2, 2, 3, 3, None]


async def test_times_where_the_clock_stepped_back(site: Site) -> None:
    """An event that matched was removed, though those beside it and behind it are older."""
    site.record(10, 90, 20, 30, 95)
    site.cut(3)

    assert await site.at_time(90) == "CursorExpired"
    assert await site.at_time(25) == "CursorExpired"
    assert await site.at_time(91) == 4
    assert await site.at_time(96) is None


@pytest.mark.parametrize("_round", range(3))
async def test_times_by_a_look_at_all_events(site: Site, _round: int) -> None:
    """Random times and cuts: behind the start is everything that was received then or later, or
    it is expired because some of that was removed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    times = [dice.randrange(40) for _ in range(20)]
    site.record(*times)
    for keep_from in (1, *sorted(dice.sample(range(2, 21), 4))):
        if keep_from > 1:
            site.cut(keep_from - 1)
        for asked in range(-1, 42):
            first = next((at for at, one in enumerate(times, start=1) if one >= asked), None)
            found = await site.at_time(asked)
            if first is None:
                assert found is None, (asked, keep_from)
            elif first < keep_from:
                assert found == "CursorExpired", (asked, keep_from)
            else:
                assert found == first - 1, (asked, keep_from)
