"""A batch is folded while the log records it, and in the views only once it is in the log."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from service import errors
from service.config import Limits
from service.database.sqlite import SqliteDatabase
from service.domain.events import EventKind, NewEvent, Position
from service.domain.message import Folded, Message, Recipient, Report, fold
from service.domain.progress import Progress
from service.eventlog.group_commit import GroupCommit
from service.eventlog.sqlite import SqliteLogWriter
from service.eventlog.underway import Taker, Underway
from service.projector import batch
from service.projector.runner import Projector
from service.projector.task import Hands
from service.views.reader import StoredViewsReader
from tests.appending import all_appended
from tests.integration.test_projector import DEADLINE_S, LIMITS, RECEIVED_US, Site, body

NO_POLLING = replace(LIMITS, poll_s=2 * DEADLINE_S)


def _new(message_id: str) -> NewEvent:
    return NewEvent("acme", RECEIVED_US, EventKind.CALLBACK, body(message_id))


class _Writer(SqliteLogWriter):
    """Waits to be let through, and does what a test wants before it appends."""

    def __init__(self, database: SqliteDatabase, before: Callable[[], None]) -> None:
        super().__init__(database)
        self._before = before

    def append(self, events: Sequence[NewEvent]) -> Position:
        self._before()
        return super().append(events)


class Ahead:
    """A projector and the appender that tells it, held between folding and recording."""

    def __init__(self, site: Site, projector: Projector, appender: GroupCommit) -> None:
        self.site = site
        self.projector = projector
        self.appender = appender

    async def taker(self) -> Taker:
        """Once the projector waits for a batch."""
        async with asyncio.timeout(DEADLINE_S):
            while (take := self.projector.taker()) is None:
                await asyncio.to_thread(lambda: None)
        return take

    async def append(self, message_id: str) -> Position:
        """Once the projector waits for it."""
        await self.taker()
        return await self.appender.append(_new(message_id))

    @staticmethod
    def recorded(message_id: str, first: Position) -> Underway:
        """A batch of it, as it is handed over when it is in the log."""
        made = Underway([_new(message_id)])
        made.settle(first)
        return made


class Folds:
    """Which messages were folded, also in vain."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self._changed = threading.Condition()

    def fold(self, message: Message | None, recipient: Recipient | None, report: Report) -> Folded:
        with self._changed:
            self.ids.append(report.message_id)
            self._changed.notify_all()
        return fold(message, recipient, report)

    def wait_for(self, message_id: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: message_id in self.ids, DEADLINE_S)


@pytest.fixture
def folds(monkeypatch: pytest.MonkeyPatch) -> Folds:
    made = Folds()
    monkeypatch.setattr(batch, "fold", made.fold)
    return made


@asynccontextmanager
async def _ahead(
    folder: Path, before: Callable[[Site], None], limits: Limits = NO_POLLING
) -> AsyncIterator[Ahead]:
    """`before` is called on the appender's thread before each transaction."""
    site = Site(folder)
    async with site.projecting(limits=limits) as projector:
        appender = GroupCommit(
            lambda: _Writer(SqliteDatabase(site.events), lambda: before(site)),
            projector.wake,
            taker=projector.taker,
            limits=Limits(),
            alone=True,
        )
        appender.start()
        try:
            yield Ahead(site, projector, appender)
        finally:
            await appender.close()


async def test_a_lone_callback_is_folded_before_it_is_recorded(
    tmp_path: Path, folds: Folds
) -> None:
    """It is in the views, without a look at the log, once it is recorded and not before."""
    standing: list[int] = []

    def before(site: Site) -> None:
        folds.wait_for(f"M{len(standing)}")
        with closing(StoredViewsReader(SqliteDatabase(site.views))) as reader:
            standing.append(reader.checkpoint().mark.position)

    async with _ahead(tmp_path, before) as ahead:
        for number in range(5):
            position = await ahead.append(f"M{number}")
            await ahead.site.reached(position)

    assert standing == [0, 1, 2, 3, 4]
    assert folds.ids == [f"M{number}" for number in range(5)]


async def test_what_is_not_recorded_is_not_in_the_views(tmp_path: Path, folds: Folds) -> None:
    """The log's fault is none of the projector's; the next callback takes the same place."""
    refused = ["M0", "M1"]

    def before(_: Site) -> None:
        if refused:
            folds.wait_for(refused.pop(0))
            raise errors.LogUnavailable("on purpose")

    async with _ahead(tmp_path, before) as ahead:
        for message_id in ("M0", "M1"):
            with pytest.raises(errors.LogUnavailable):
                await ahead.append(message_id)
        position = await ahead.append("M2")
        await ahead.site.reached(position)
        failing = ahead.projector.failing

    assert (position, failing) == (1, False)
    assert [ahead.site.message(one) is None for one in ("M0", "M1", "M2")] == [True, True, False]


async def test_what_takes_another_place_is_folded_there(tmp_path: Path, folds: Folds) -> None:
    """Somebody else has appended meanwhile: each is folded at its own position, in their order."""
    theirs = ["other"]

    def before(site: Site) -> None:
        folds.wait_for("M")
        if theirs:
            site.append([body(theirs.pop())])

    async with _ahead(tmp_path, before) as ahead:
        position = await ahead.append("M")
        await ahead.site.reached(position)
        found = {one: ahead.site.message(one) for one in ("other", "M")}

    assert position == 2
    assert {one: each.changed_at.position for one, each in found.items() if each} == {
        "other": 1,
        "M": 2,
    }
    assert folds.ids == ["M", "other", "M"]


async def test_what_is_known_to_be_elsewhere_is_not_folded_in_vain(
    tmp_path: Path, folds: Folds
) -> None:
    """As on a log to which others append: it is taken with its place, and that is a later one."""
    async with _ahead(tmp_path, lambda _: None) as ahead:
        take = await ahead.taker()
        last = ahead.site.append([body("other"), body("M")])
        take(ahead.recorded("M", last))
        await ahead.site.reached(last)

    assert folds.ids == ["other", "M"]


async def test_a_defect_ahead_goes_to_quarantine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is recorded with it is folded, as it is when it is read."""

    def faulty(message: Message | None, recipient: Recipient | None, report: Report) -> Folded:
        if report.message_id == "poison":
            raise RuntimeError("a defect")
        return fold(message, recipient, report)

    monkeypatch.setattr(batch, "fold", faulty)
    async with _ahead(tmp_path, lambda _: None) as ahead:
        await ahead.append("M0")
        alone = await ahead.append("poison")
        await ahead.site.reached(alone)
        several = [_new("M1"), _new("poison"), _new("M2")]
        together = await all_appended(ahead.appender, several)
        assert together is not None
        await ahead.site.reached(Position(together + 2))

    assert set(ahead.site.quarantined()) == {alone, together + 1}
    assert [one for one in ("M0", "M1", "M2") if ahead.site.message(one) is None] == []


async def test_behind_a_task_the_views_are_asked_where_they_stand(
    tmp_path: Path, folds: Folds
) -> None:
    """A task switches to another generation: what is taken meanwhile goes into that one."""
    async with _ahead(tmp_path, lambda _: None) as ahead:
        take = await ahead.taker()

        def switch(hands: Hands) -> Iterator[Progress]:
            spare = hands.views.spare()
            spare.clear(1_000)
            spare.begin(hands.views.checkpoint().generation + 1, Position(1), "test")
            hands.views.switch()
            take(ahead.recorded("M", ahead.site.append([body("M")])))
            return iter(())

        await asyncio.wrap_future(ahead.projector.perform(switch, lambda _: None))
        await ahead.site.reached(Position(1))
    failures = ahead.site.metrics.registry.get_sample_value("plugstatus_projector_failures_total")

    assert ahead.site.message("M") is not None
    assert (folds.ids, failures) == (["M"], 0)


class _Slow(threading.Event):
    """Whoever waited for it goes on only when he is let."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for = threading.Event()
        self.let = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_for.set()
        told = super().wait(timeout)
        assert self.let.wait(DEADLINE_S)
        return told


async def test_what_is_told_behind_a_taken_batch_is_read(tmp_path: Path, folds: Folds) -> None:
    """Also if both come before the projector runs again: it does not wait until it is told anew."""
    async with _ahead(tmp_path, lambda _: None) as ahead:
        before, slow = ahead.projector._work, _Slow()
        ahead.projector._work = slow
        before.set()
        assert await asyncio.to_thread(slow.waited_for.wait, DEADLINE_S)
        take = await ahead.taker()
        take(ahead.recorded("M0", ahead.site.append([body("M0")])))
        last = ahead.site.append([body("M1")])
        ahead.projector.wake()
        slow.let.set()
        await ahead.site.reached(last)

    assert folds.ids == ["M0", "M1"]


async def test_all_of_many_small_batches_is_folded_once(tmp_path: Path, folds: Folds) -> None:
    """Taken or read, as it happens: in order, without a gap, nothing twice."""
    ids = [f"M{number}" for number in range(600)]
    async with _ahead(tmp_path, lambda _: None) as ahead:
        waiters = []
        for place, message_id in enumerate(ids):
            waiters.append(ahead.appender.append(_new(message_id)))
            if place % 3 == 0:
                await asyncio.sleep(0)
            if place % 50 == 0:
                await waiters[-1]
        positions = await asyncio.gather(*waiters)
        await ahead.site.reached(positions[-1])
        counts = {ahead.site.message(one).report_count for one in ids}  # type: ignore[union-attr]

    assert positions == list(range(1, 601))
    assert counts == {1}
