"""Watchers where retention removes what they have not read yet: told so, and never past it."""

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from service import config, errors
from service.api.deadlines import Deadlines
from service.api.starts import Starts
from service.api.watch import Shared
from service.api.watchers import Watchers
from service.config import Limits
from service.core import Core
from service.domain.events import END_OF_CALLBACK, Place, Point, Position
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.telemetry import Metrics
from tests.clock import FakeClock
from tests.fold_model import BEGIN_US, Teller
from tests.retention_site import RetentionSite
from tests.stores import settings_of
from tests.watch_site import CALL

DAY_US = 24 * 3_600 * 1_000_000
NOW_US = BEGIN_US + 1_000 * DAY_US
"""Long after every event."""

DEADLINE_S = 60.0
SMALL_PAGES = Limits(catch_up_rows_max=10, frame_changes_max=5, watcher_queue_frames_max=1)


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def history(tmp_path: Path, dice: random.Random) -> RetentionSite:
    """Closed: others open its stores."""
    made = RetentionSite(tmp_path / "data", dice)
    made.tell(150)
    made.close()
    return made


class Service:
    """A core, and what watchers of it need."""

    def __init__(self, core: Core, clock: FakeClock, limits: Limits) -> None:
        self.core = core
        shared = Shared(
            hub=core.hub,
            views=core.pages,
            starts=Starts(core.log, core.cursors),
            cursors=core.cursors,
            clock=clock,
            limits=limits,
            stalls=Deadlines(DEADLINE_S, TimeoutError),
        )
        self._watchers = Watchers(shared, Metrics(), watchers_max=100)

    def cursor(self, place: Place, receive_time_us: int) -> str:
        return self.core.cursors.at(Point(place, receive_time_us))

    def place(self, cursor: str) -> tuple[int, int]:
        found = self.core.cursors.decode(cursor).place
        return found.position, found.index

    async def retain(self, before_us: int = NOW_US) -> None:
        """Remove all that was received before, but for the last event."""
        await self.core.upkeep.retain((NOW_US - before_us) / DAY_US)

    async def watch(self, watch: "Watch", **start: str | bool) -> None:
        """Until it ends. Raises what the watcher is ended with."""
        request = pb.WatchStatusesRequest(**start, include_unchanged=True)  # type: ignore[arg-type]
        await self._watchers.watch(request, CALL, watch.accept)


class Watch:
    """What a watcher was sent; `then` is awaited behind each frame, as a slow client is."""

    def __init__(self, then: Callable[[str], Awaitable[None]]) -> None:
        self.kinds: list[str] = []
        self.cursors: list[str] = []
        self.caught_up = asyncio.Event()
        self._then = then

    async def accept(self, encoded: bytes) -> None:
        response = pb.WatchStatusesResponse.FromString(encoded)
        kind = str(response.WhichOneof("frame"))
        self.kinds.append(kind)
        self.cursors += [change.cursor for change in response.changes.changes]
        if kind == "caught_up":
            self.caught_up.set()
        await self._then(kind)


@asynccontextmanager
async def _served(site: RetentionSite, rows_max: int = 10) -> AsyncIterator[Service]:
    settings = config.load(settings_of(site.data_dir))
    clock = FakeClock(NOW_US)
    async with asyncio.timeout(DEADLINE_S), Core(settings, clock, Metrics()) as core:
        yield Service(core, clock, dataclasses.replace(SMALL_PAGES, catch_up_rows_max=rows_max))


async def test_a_watcher_that_is_catching_up_ends(history: RetentionSite) -> None:
    """It has begun to read, and what follows is removed: all that it got comes without a gap, and
    then it hears CURSOR_EXPIRED, not CaughtUp."""
    places = sorted(history.model.feed())
    async with _served(history) as service:

        async def remove(kind: str) -> None:
            if kind == "changes":
                await service.retain()

        watch = Watch(remove)
        with pytest.raises(errors.CursorExpired):
            await service.watch(watch, cursor=service.cursor(Place(Position(0)), 0))
        got = [service.place(cursor) for cursor in watch.cursors]

    assert watch.kinds[:2] == ["opened", "changes"]
    assert "caught_up" not in watch.kinds
    assert got == places[: len(got)]
    assert 0 < len(got) < len(places)


async def test_a_watcher_that_fell_behind_ends(history: RetentionSite) -> None:
    """Live, but slow: what did not fit its queue is removed before it reads it from the store."""
    teller = Teller(random.Random(1))
    async with _served(history) as service:
        go_on = asyncio.Event()

        async def stall(kind: str) -> None:
            if kind == "changes":
                await go_on.wait()

        watch = Watch(stall)
        watching = asyncio.create_task(service.watch(watch, from_now=True))
        await watch.caught_up.wait()
        for _ in range(5):
            for told in [teller.told() for _ in range(20)]:
                await service.core.appender.append(told.event)
            head = await service.core.log.run(lambda log: log.head())
            await service.core.hub.reached(head.position, DEADLINE_S)
        await service.retain()
        go_on.set()
        with pytest.raises(errors.CursorExpired):
            await watching
        got = [service.place(cursor) for cursor in watch.cursors]

    assert watch.kinds[-1] == "fell_behind"
    assert got == sorted(set(got))
    assert got[-1][0] < service.core.appender.last_position


async def test_a_live_watcher_goes_on(history: RetentionSite) -> None:
    """What it was sent already is removed behind it: it does not notice."""
    teller = Teller(random.Random(1))
    told = [one for one in (teller.told() for _ in range(50)) if one.said][:3]
    async with _served(history) as service:
        kinds: asyncio.Queue[str] = asyncio.Queue()
        watch = Watch(kinds.put)
        watching = asyncio.create_task(service.watch(watch, from_now=True))
        while await kinds.get() != "caught_up":
            pass
        for one in told:
            await service.retain()
            await service.core.appender.append(one.event)
            while await kinds.get() != "changes":
                pass
        kept_from = await service.core.log.run(lambda log: log.kept_from())
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        got = [service.place(cursor)[0] for cursor in watch.cursors]
        last = service.core.appender.last_position

    assert set(got) == {last - 2, last - 1, last}
    assert kept_from == last - 1


@pytest.mark.parametrize("_round", range(5))
async def test_nobody_is_ever_led_past_what_was_removed(
    history: RetentionSite, dice: random.Random, _round: int
) -> None:
    """Many watchers from many places, cuts at any moment: each got everything from its start on,
    up to CaughtUp or up to CURSOR_EXPIRED."""
    places = sorted(history.model.feed())
    times = [0, *(told.event.receive_time_us for told in history.model.told)]
    latest = [max(times[: at + 1]) or 1 for at in range(len(times))]
    starts = [*dice.sample(places, 10), *((dice.randrange(50), END_OF_CALLBACK) for _ in range(10))]
    async with _served(history, dice.randint(1, 4)) as service:

        async def followed(start: tuple[int, int]) -> bool:
            async def sometimes_remove(_kind: str) -> None:
                if dice.random() < 0.01:
                    # Just before or behind what it is about to read.
                    at = (service.place(watch.cursors[-1]) if watch.cursors else start)[0]
                    await service.retain(latest[max(0, min(at + dice.randint(-2, 3), 150))])

            watch = Watch(sometimes_remove)
            cursor = service.cursor(Place(Position(start[0]), start[1]), times[start[0]])
            watching = asyncio.create_task(service.watch(watch, cursor=cursor))
            waiting = asyncio.create_task(watch.caught_up.wait())
            await asyncio.wait({watching, waiting}, return_when=asyncio.FIRST_COMPLETED)
            caught_up = waiting.done()
            waiting.cancel()
            watching.cancel()
            with suppress(asyncio.CancelledError, errors.CursorExpired):
                await watching
            got = [service.place(one) for one in watch.cursors]
            owed = [place for place in places if place > start]
            assert got == (owed if caught_up else owed[: len(got)]), start
            return caught_up

        ended = await asyncio.gather(*map(followed, starts))
    print(f"{sum(ended)} of {len(ended)} caught up")
