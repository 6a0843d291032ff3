"""Retention over real stores: what the views show stays what the kept log says, on its baseline."""

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service import config
from service.core import Core
from service.domain.erasure import Erasure, Subject
from service.domain.events import (
    BEFORE_FIRST,
    Event,
    EventKind,
    NewEvent,
    Position,
    QuarantineReason,
)
from service.domain.message import MessageKey
from service.eventlog.log import LogWriter
from service.projector import retention
from service.projector.batch import Folding
from service.projector.retention import ResultT, Retention
from service.telemetry import Metrics
from service.upkeep.baseline import forgotten
from service.upkeep.scan import buried, look
from service.views.reader import StoredViewsReader
from tests.clock import FakeClock
from tests.fold_model import BEGIN_US, HOUR_US, PHONES
from tests.histories import Said
from tests.rebuild_site import SMALL, RebuildSite
from tests.retention_site import RetentionSite, expected, live_rows, write
from tests.stores import log_writer, settings_of, stores_of

pytestmark = pytest.mark.both_stores

DAY_US = 24 * HOUR_US
DEADLINE_S = 60.0
PHONE = PHONES[0]
GROUP_READ: list[Said] = [
    ("acme", {"type": "MessageStatusCallback", "status": "READ", "ids": ["G"], "participant": who})
    for who in (PHONE, "77002")
]


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def site(tmp_path: Path, dice: random.Random) -> Iterator[RetentionSite]:
    made = RetentionSite(tmp_path / "data", dice)
    yield made
    made.close()


def _differences(site: RetentionSite) -> tuple[int, str]:
    """Between the live views and those that the log gives."""
    last = site.checked()
    return last.differences, last.note


def _erase(site: RebuildSite, phone: str) -> None:
    """What erasing a phone without messages does to the log; the views do not hear of it yet."""
    subject, now_us = Subject(phone=phone), BEGIN_US + DAY_US
    found = look(site.log, subject, BEFORE_FIRST, site.log.head().position, 1_000)
    positions = found.addressed + found.others
    tombstones = buried(site.log, subject, positions, now_us)
    erasure = Erasure(now_us, "phone", tuple(positions), len(positions))
    event = NewEvent("", now_us, EventKind.ERASURE, msgspec.json.encode(erasure))
    change = forgotten(site.log.baseline(), subject).change
    write(site, lambda log: log.erase(tombstones, event, change))


@pytest.mark.parametrize("_round", range(5))
def test_the_views_stay_what_the_log_says(
    site: RetentionSite, dice: random.Random, _round: int
) -> None:
    """Several cuts in a row, anywhere, events of every kind between them: live views, a rebuild,
    views built anew and the model agree on everything."""
    for _ in range(dice.randint(2, 6)):
        site.tell(dice.randint(1, 60))
        head = len(site.model.told)
        site.cut(dice.choice((head, dice.randint(1, head), min(head, site.model.kept_from + 1))))

        assert site.shown() == expected(site.model)
        assert _differences(site)[0] == 0, _differences(site)
        if dice.random() < 0.5:
            before = live_rows(site.data_dir)
            site.without_views()
            assert live_rows(site.data_dir) == before
    site.rebuilt()
    assert site.shown() == expected(site.model)


@pytest.mark.parametrize("when", ["recorded", "handed to the writer"])
def test_an_erasure_that_waits_is_folded_before_anything_is_removed(
    tmp_path: Path, when: str
) -> None:
    """The views still show what an event said that is a tombstone already: had retention removed
    it first, nothing would be left to tell whom the erasure was about. So too where whoever asked
    for the erasure has left, and the log's writer has it still before it."""
    site = RebuildSite(tmp_path / "data", GROUP_READ)
    before_it = [partial(_erase, site, PHONE)]

    def writing(act: Callable[[LogWriter], ResultT]) -> ResultT:
        while before_it:
            before_it.pop()()
        return write(site, act)

    if when == "recorded":
        writing(lambda _log: None)
    waiting = [event.kind for event in site.live.waiting()]
    for _ in Retention(Position(2), writing, site.cursors, SMALL)(site.hands):
        # As the projector does, between steps.
        site.follow()
    with closing(StoredViewsReader(stores_of(site.data_dir).views)) as reader:
        shown = reader.recipients(MessageKey("acme", "G"), "", 9)
    kept_from, checked = site.log.kept_from(), site.checked()
    site.close()

    assert waiting == ([EventKind.ERASURE] if when == "recorded" else [])
    assert [one.participant for one in shown] == ["77002"]
    assert kept_from == 2
    assert checked.differences == 0, checked.note


def test_progress_reaches_its_total(site: RetentionSite) -> None:
    """Steps say how many events have gone, of those that are to go; no step if none are."""
    site.tell(90)
    steps = site.cut(71)
    more = site.cut(75)
    again = site.cut(75)

    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert len({step.done for step in steps}) > 3
    assert {(step.total, step.unit) for step in steps} == {(70, "events")}
    assert steps[-1].done == 70
    assert {(step.done, step.total) for step in more} == {(4, 4)}
    assert again == []


def test_a_removal_that_is_left_goes_on(site: RetentionSite, dice: random.Random) -> None:
    """Left behind any step, with events between: what it removed is whole, the rest follows."""
    site.tell(70)
    for _ in range(4):
        steps = site.removal(60)
        for _ in range(dice.randint(0, 2)):
            next(steps, None)
        assert isinstance(steps, Generator)
        steps.close()
        site.model.cut(site.log.kept_from())
        assert site.shown() == expected(site.model)
        site.tell(3)
    site.cut(60)

    assert site.shown() == expected(site.model)
    assert _differences(site)[0] == 0


def test_an_event_that_cannot_be_folded_is_left_out(
    site: RetentionSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of ours in one event's way: the views have it in quarantine, the baseline without
    it, and both agree on all the others."""

    begin = Folding.__init__

    def begun(folding: Folding, events: Sequence[Event], *others: Any) -> None:
        if any(event.position == 7 for event in events):
            raise ZeroDivisionError
        begin(folding, events, *others)

    monkeypatch.setattr(Folding, "__init__", begun)
    site.tell(40)
    seen = site.quarantined()
    site.cut(30)
    checked = _differences(site)
    before = live_rows(site.data_dir)
    site.without_views()

    assert seen[7] is QuarantineReason.UNREADABLE
    assert site.log.kept_from() == 30
    assert checked[0] == 0, checked
    assert live_rows(site.data_dir) == before


@asynccontextmanager
async def _core(data_dir: Path, now_us: int, **settings: str) -> AsyncIterator[Core]:
    loaded = config.load(settings_of(data_dir) | settings)
    async with asyncio.timeout(DEADLINE_S), Core(loaded, FakeClock(now_us), Metrics()) as core:
        head = await core.log.run(lambda log: log.head())
        # Only what the views have folded can go.
        await core.hub.reached(head.position, DEADLINE_S)
        yield core


@pytest.mark.parametrize(("days", "kept_from"), [("2", 3), ("1.5", 4), ("0.000001", 6)])
async def test_what_is_older_than_the_setting_goes_by_itself(
    tmp_path: Path, days: str, kept_from: int
) -> None:
    """In days and parts of them, by when an event was received; but the last event stays."""
    _record(tmp_path, *(BEGIN_US + day * DAY_US for day in (0, 1, 2, 2.75, 3, 3)))
    async with _core(tmp_path, BEGIN_US + 4 * DAY_US, RETENTION_DAYS=days) as core:
        retaining = asyncio.create_task(core.upkeep.retain_by_the_clock(lambda: True))
        while (found := await core.log.run(lambda log: log.kept_from())) < kept_from:
            assert not retaining.done()
        # It waits for its turn behind a removal under way, which so has ended.
        await core.upkeep.retain(float(days))
        found = await core.log.run(lambda log: log.kept_from())
        removals = await core.log.run(lambda log: log.removals())
        retaining.cancel()

    assert found == kept_from
    assert removals.expired_event_count == kept_from - 1


async def test_a_defect_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong once, the next look removes what is too old."""
    right, asked = retention._change, 0

    def once_wrong(*given: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ZeroDivisionError
        return right(*given)

    monkeypatch.setattr(retention, "_change", once_wrong)
    _record(tmp_path, BEGIN_US, BEGIN_US + 9 * DAY_US)
    loaded = config.load(settings_of(tmp_path) | {"RETENTION_DAYS": "1"})
    loaded = dataclasses.replace(loaded, limits=config.Limits(retention_pause_s=0.01))
    clock = FakeClock(BEGIN_US + 9 * DAY_US)
    async with asyncio.timeout(DEADLINE_S), Core(loaded, clock, Metrics()) as core:
        await core.hub.reached(Position(2), DEADLINE_S)
        retaining = asyncio.create_task(core.upkeep.retain_by_the_clock(lambda: True))
        while await core.log.run(lambda log: log.kept_from()) < 2:
            assert not retaining.done()
        retaining.cancel()

    assert asked == 2


async def test_what_came_behind_a_newer_event_stays_as_long(tmp_path: Path) -> None:
    """Only whole prefixes go: behind an event that is kept an older one is kept too, because the
    clock may have stepped back."""
    _record(tmp_path, *(BEGIN_US + day * DAY_US for day in (0, 9, 1, 2, 9)))
    async with _core(tmp_path, BEGIN_US + 10 * DAY_US) as core:
        await core.upkeep.retain(5)
        first = await core.log.run(lambda log: (log.kept_from(), log.removals()))
        await core.upkeep.retain(0.5)
        then = await core.log.run(lambda log: (log.kept_from(), log.removals()))

    assert (first[0], then[0]) == (2, 5)
    assert first[1].last_expired_time_us == BEGIN_US
    assert first[1].oldest_event_time_us == then[1].last_expired_time_us == BEGIN_US + 9 * DAY_US


async def test_an_empty_log_stays_as_it_is(tmp_path: Path) -> None:
    """Nothing is there to remove; nor from a log of one event, however old."""
    async with _core(tmp_path, BEGIN_US) as core:
        await core.upkeep.retain(1)
        empty = await core.log.run(lambda log: log.kept_from())
    _record(tmp_path, 7)
    async with _core(tmp_path, BEGIN_US) as core:
        await core.upkeep.retain(1)
        one = await core.log.run(lambda log: log.kept_from())

    assert (empty, one) == (1, 1)


def _record(data_dir: Path, *times_us: float) -> None:
    stores_of(data_dir)
    with closing(log_writer(data_dir)) as writer:
        writer.append([NewEvent("acme", int(one), EventKind.CALLBACK, b"{}") for one in times_us])
