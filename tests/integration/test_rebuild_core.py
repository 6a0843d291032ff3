"""Rebuilds by the running core: what is read meanwhile, and what they leave behind."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from service import config
from service.clock import Clock
from service.core import Core
from service.database.schema import Store
from service.domain.events import BEFORE_FIRST, Place, Position
from service.domain.message import MessageKey
from service.telemetry import Metrics
from service.views.feed import FeedFilter
from service.views.reader import StoredViewsReader
from service.views.store import MessageFilter
from tests.clock import FakeClock
from tests.histories import BEGIN_US, Said, random_callbacks, spare_rows
from tests.rebuild_site import RebuildSite
from tests.stores import change, settings_of, stores_of

DAY_US = 24 * 3_600 * 1_000_000
NOW_US = BEGIN_US + DAY_US
EVERYTHING = FeedFilter(unchanged=True)
FOLDING = "folding the log anew"
DEADLINE_S = 60.0


@pytest.fixture
def said() -> list[Said]:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random_callbacks(random.Random(seed), 300, ids=20)


@pytest.fixture
def site(tmp_path: Path, said: list[Said]) -> Iterator[RebuildSite]:
    made = RebuildSite(tmp_path / "data", said)
    yield made
    made.close()


@asynccontextmanager
async def running(data_dir: Path, clock: Clock) -> AsyncIterator[Core]:
    settings = config.load(settings_of(data_dir))
    async with Core(settings, clock, Metrics()) as core:
        yield core


async def rebuild(core: Core) -> None:
    async for _ in core.upkeep.rebuild(check=False):
        pass


def half(site: RebuildSite) -> None:
    """A rebuild that was left half way."""
    for step in site.steps():
        if step.note == FOLDING and step.done > len(site.said) // 2:
            return
    raise AssertionError("it ended")


def seen(reader: StoredViewsReader) -> list[object]:
    """Each of these is one read, of one moment: whole, whatever is switched or cleared."""
    key = MessageKey("acme", "M1")
    head = reader.checkpoint().mark
    return [
        head,
        reader.last_changed(MessageFilter(), Place(Position(2**62)), 10_000, 10_000),
        reader.feed(Place(BEFORE_FIRST), head, EVERYTHING, 10_000, 2**30)[1:],
        reader.message(key),
        reader.messages_by_id("M1", (), 9),
        reader.recipients(key, "", 99),
        reader.reports(key, Place(BEFORE_FIRST), 9_999),
        reader.quarantine((), Position(2**62), 9_999),
        reader.instances("", 99),
    ]


async def test_readers_always_see_whole_views(site: RebuildSite) -> None:
    """On threads of their own, through switches and clearing: every read finds what was there."""
    views = stores_of(site.data_dir).views
    with closing(StoredViewsReader(views)) as reader:
        expected = seen(reader)
    site.close()
    done = threading.Event()
    wrong: list[object] = []
    reads = [0] * 3

    def keep_reading(number: int) -> None:
        try:
            with closing(StoredViewsReader(views)) as reader:
                while not done.is_set():
                    found = seen(reader)
                    wrong.extend(
                        one for one, other in zip(found, expected, strict=True) if one != other
                    )
                    reads[number] += 1
        except Exception as error:  # noqa: BLE001
            wrong.append(error)

    threads = [threading.Thread(target=keep_reading, args=(number,)) for number in range(3)]
    generations: list[int] = []
    async with running(site.data_dir, FakeClock(NOW_US)) as core:
        for thread in threads:
            thread.start()
        try:
            for _ in range(12):
                await rebuild(core)
                generations.append(site.generation)
        finally:
            done.set()
            for thread in threads:
                thread.join()

    assert wrong == []
    assert min(reads) > 0
    assert generations == sorted(set(generations))
    assert spare_rows(site.data_dir) == 0


async def cleared(core: Core, data_dir: Path) -> None:
    """Wait until the spare slot is empty."""
    async with asyncio.timeout(DEADLINE_S):
        while spare_rows(data_dir):
            await core.views.run(lambda views: views.checkpoint())


async def test_what_a_kill_behind_the_switch_left_goes_at_the_next_start(
    site: RebuildSite,
) -> None:
    """Replaced views are in the way of nobody, and are cleared though nobody rebuilds again."""
    for step in site.steps():
        if step.note == "clearing the views that are not live":
            break
    left = spare_rows(site.data_dir)
    generation = site.generation
    site.close()
    async with running(site.data_dir, FakeClock(NOW_US)) as core:
        await cleared(core, site.data_dir)

    assert left > 0
    assert site.generation == generation


async def test_what_another_version_left_goes_at_the_next_start(site: RebuildSite) -> None:
    """An unfinished rebuild of another version is one that nobody goes on with."""
    half(site)
    left = spare_rows(site.data_dir)
    site.close()
    change(site.data_dir, Store.VIEWS, "UPDATE generations SET program = '0.0'")
    async with running(site.data_dir, FakeClock(NOW_US)) as core:
        await cleared(core, site.data_dir)

    assert left > 0


async def test_an_unfinished_rebuild_stays_for_the_next_one(site: RebuildSite) -> None:
    """A start keeps what a rebuild can go on with."""
    half(site)
    left = spare_rows(site.data_dir)
    site.close()
    async with running(site.data_dir, FakeClock(NOW_US)):
        pass

    assert spare_rows(site.data_dir) == left > 0


async def test_what_retention_removes_goes_from_an_unfinished_rebuild_too(
    site: RebuildSite,
) -> None:
    """Expired callbacks stand in neither slot, though nobody rebuilds any more."""
    half(site)
    left = spare_rows(site.data_dir)
    site.close()
    clock = FakeClock(NOW_US)
    async with running(site.data_dir, clock) as core:
        await core.upkeep.retain((NOW_US - BEGIN_US - len(site.said) // 4) / DAY_US)
        kept = spare_rows(site.data_dir)
        removals = await core.log.run(lambda log: log.removals())
        last = [one async for one in core.upkeep.rebuild(check=True)][-1]

    assert left > 0
    assert removals.expired_event_count > 0
    assert kept == 0
    assert last.differences == 0
