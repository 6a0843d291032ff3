"""The projector over real stores: nothing the log can hold stops it."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import msgspec
import pytest

from service.clock import Clock, SystemClock
from service.config import Limits
from service.database.database import Fence, unfenced
from service.database.schema import Store, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import EventKind, NewEvent, Position, QuarantineReason
from service.domain.message import Folded, Message, MessageKey, Recipient, Report, fold
from service.errors import StoreUnusable
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from service.projector import batch, runner
from service.projector.leadership import Leadership, SoleLeader
from service.projector.runner import Projector
from service.telemetry import Metrics
from service.views.reader import StoredViewsReader
from service.views.writer import StoredViewsWriter
from service.wire.cursor import CursorCodec

DEADLINE_S = 60.0
LIMITS = Limits(poll_s=0.05, retry_s=0.05)
RECEIVED_US = 1_700_000_000_000_000
_SYSTEM = SystemClock()
_ALONE = SoleLeader()


def body(message_id: str) -> bytes:
    return b'{"type":"MessageStatusCallback","status":"READ","ids":["%b"]}' % message_id.encode()


class Site:
    """A log, its views, and a projector between them."""

    def __init__(self, folder: Path) -> None:
        self.events, self.views = folder / "events.db", folder / "views.db"
        upgrade(Store.EVENT_LOG, SqliteDatabase(self.events))
        upgrade(Store.VIEWS, SqliteDatabase(self.views))
        self.metrics = Metrics()
        self._advanced = asyncio.Event()

    def append(self, bodies: Sequence[bytes]) -> Position:
        """The last one's position."""
        with closing(SqliteLogWriter(SqliteDatabase(self.events))) as writer:
            first = writer.append(
                [NewEvent("acme", RECEIVED_US, EventKind.CALLBACK, b) for b in bodies]
            )
        return Position(first + len(bodies) - 1)

    @asynccontextmanager
    async def projecting(
        self,
        clock: Clock = _SYSTEM,
        limits: Limits = LIMITS,
        leadership: Leadership = _ALONE,
    ) -> AsyncIterator[Projector]:
        with closing(StoredLogReader(SqliteDatabase(self.events))) as log:
            identity = log.identity
        loop = asyncio.get_running_loop()
        projector = Projector(
            open_log=partial(StoredLogReader, SqliteDatabase(self.events)),
            open_views=partial(StoredViewsWriter, SqliteDatabase(self.views), identity),
            leadership=leadership,
            eager=True,
            cursors=CursorCodec(identity),
            on_advance=lambda _: _on_loop(loop, self._advanced),
            clock=clock,
            limits=limits,
            metrics=self.metrics,
        )
        projector.start()
        try:
            yield projector
        finally:
            await projector.stop()

    async def reached(self, position: Position) -> None:
        """Wait until the views stand there."""
        with closing(StoredViewsReader(SqliteDatabase(self.views))) as reader:
            async with asyncio.timeout(DEADLINE_S):
                while reader.checkpoint().mark.position < position:
                    self._advanced.clear()
                    if reader.checkpoint().mark.position < position:
                        await self._advanced.wait()

    def message(self, message_id: str) -> Message | None:
        with closing(StoredViewsReader(SqliteDatabase(self.views))) as reader:
            return reader.message(MessageKey("acme", message_id))

    def quarantined(self) -> dict[int, QuarantineReason]:
        with closing(StoredViewsReader(SqliteDatabase(self.views))) as reader:
            rows = reader.quarantine((), Position(2**62), 1_000)
        return {row.position: row.reason for row in rows}


def _on_loop(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_defect_in_folding_holds_up_one_event_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event whose folding fails goes to quarantine alone, and all around it is folded."""
    folds = 0

    def faulty(message: Message | None, recipient: Recipient | None, report: Report) -> Folded:
        nonlocal folds
        folds += 1
        if report.message_id == "poison":
            raise RuntimeError("a defect")
        return fold(message, recipient, report)

    monkeypatch.setattr(batch, "fold", faulty)
    ids = [f"M{number}" for number in range(1_999)]
    last = site.append([body(one) for one in [*ids[:1_500], "poison", *ids[1_500:]]])
    async with site.projecting():
        await site.reached(last)

    assert site.quarantined() == {1_501: QuarantineReason.UNREADABLE}
    assert [one for one in ids if site.message(one) is None] == []
    assert site.message("poison") is None
    # Halving: about twice the events, and not their square.
    assert folds < 4 * len(ids)


async def test_a_value_no_store_can_hold_holds_up_one_event_only(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure only at the store's edge is found and stepped over just the same."""

    def overflowing(message: Message | None, recipient: Recipient | None, report: Report) -> Folded:
        if report.message_id != "poison":
            return fold(message, recipient, report)
        return fold(message, recipient, msgspec.structs.replace(report, phone="\ud800"))

    monkeypatch.setattr(batch, "fold", overflowing)
    last = site.append([body("before"), body("poison"), body("after")])
    async with site.projecting():
        await site.reached(last)

    assert site.quarantined() == {2: QuarantineReason.UNREADABLE}
    assert site.message("before") is not None
    assert site.message("after") is not None


async def test_an_unknown_kind_of_event_is_stepped_over(site: Site) -> None:
    """What a newer program wrote does not stop this one."""
    site.append([body("before")])
    with closing(sqlite3.connect(site.events)) as log:
        log.execute(
            "INSERT INTO events (instance, receive_time_us, receive_time_max_us, kind, content) "
            "VALUES ('acme', 1, 1700000000000000, 77, x'00')"
        )
        log.commit()
    last = site.append([body("after")])
    async with site.projecting():
        await site.reached(last)

    assert site.quarantined() == {}
    assert site.message("before") is not None
    assert site.message("after") is not None


async def test_views_that_cannot_be_written_are_tried_again(site: Site) -> None:
    """While the views are locked the projector says that it fails; then it goes on by itself."""
    with closing(sqlite3.connect(site.views, isolation_level=None)) as lock:
        async with site.projecting() as projector:
            lock.execute("BEGIN IMMEDIATE")
            last = site.append([body("M1")])
            failures = site.metrics.registry.get_sample_value
            async with asyncio.timeout(DEADLINE_S):
                while not failures("plugstatus_projector_failures_total"):
                    await asyncio.to_thread(lambda: None)
            failing = projector.failing
            age_s = failures("plugstatus_unprojected_seconds")
            lock.execute("ROLLBACK")
            await site.reached(last)

    assert failing
    assert age_s is not None
    assert age_s > 0
    assert site.message("M1") is not None


async def test_every_callback_is_folded_once_over_restarts(site: Site) -> None:
    """Stopped and started between any two batches, each callback counts exactly once."""
    for _ in range(5):
        last = site.append([body("M1")] * 7)
        async with site.projecting():
            await site.reached(last)
    message = site.message("M1")

    assert message is not None
    assert message.report_count == 35


async def test_views_of_another_log_are_refused(site: Site, tmp_path: Path) -> None:
    """Views that stand at an event the log does not hold stop the start with a sentence."""
    last = site.append([body("M1"), body("M2")])
    async with site.projecting():
        await site.reached(last)
    other = tmp_path / "other"
    other.mkdir()
    elsewhere = Site(other)
    with (
        closing(sqlite3.connect(elsewhere.events)) as log,
        closing(StoredLogReader(SqliteDatabase(site.events))) as own,
    ):
        log.execute("DROP TRIGGER log_update")
        log.execute("UPDATE log SET identity = ?", (own.identity,))
        log.commit()
    site.events = elsewhere.events

    with pytest.raises(StoreUnusable, match="move the views away"):
        async with site.projecting():
            pass


class _LaterClock(SystemClock):
    """So many seconds after everything was received."""

    def __init__(self, later_s: float) -> None:
        self.later_s = later_s

    def now_us(self) -> int:
        return RECEIVED_US + int(self.later_s * 1_000_000)


class _Overheard(threading.Event):
    """Says when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_for = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_for.set()
        return super().wait(timeout)


@pytest.mark.parametrize(
    ("behind_s", "waits"), [(0.0, False), (0.3, False), (1.0, True), (4.9, True), (60.0, False)]
)
async def test_who_appends_makes_way_for_folding_that_is_behind(
    site: Site, monkeypatch: pytest.MonkeyPatch, behind_s: float, waits: bool
) -> None:
    """Until a batch is folded; not if it is hardly behind, nor so far that an old log is folded."""
    begun, let = threading.Event(), threading.Event()

    def held(message: Message | None, recipient: Recipient | None, report: Report) -> Folded:
        begun.set()
        assert let.wait(DEADLINE_S)
        return fold(message, recipient, report)

    monkeypatch.setattr(batch, "fold", held)
    limits = replace(LIMITS, make_way_s=DEADLINE_S)
    site.append([body("M")])
    async with site.projecting(_LaterClock(behind_s), limits) as projector:
        folded = projector._folded = _Overheard()
        assert await asyncio.to_thread(begun.wait, DEADLINE_S)
        way = asyncio.create_task(asyncio.to_thread(projector.make_way))
        if waits:
            assert await asyncio.to_thread(folded.waited_for.wait, DEADLINE_S)
            assert not way.done()
            let.set()
        await asyncio.wait_for(way, DEADLINE_S / 2)
        let.set()

    assert waits == folded.waited_for.is_set()


async def test_nobody_makes_way_for_folding_that_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a projector that stops hold up what is still to be recorded."""
    site.append([body("M")])
    with closing(sqlite3.connect(site.views)) as views:
        views.execute("DROP TABLE feed_a")
    limits = replace(LIMITS, make_way_s=DEADLINE_S)
    async with site.projecting(_LaterClock(1.0), limits) as projector:
        fail, failed = projector._failed, threading.Event()

        def told() -> None:
            fail()
            failed.set()

        monkeypatch.setattr(projector, "_failed", told)
        assert await asyncio.to_thread(failed.wait, DEADLINE_S)
        await asyncio.wait_for(asyncio.to_thread(projector.make_way), DEADLINE_S / 2)
    projector.make_way()

    assert projector.failing


class _Losing(SoleLeader):
    """Leads until told otherwise; then another process does."""

    def __init__(self) -> None:
        self.leads = True
        self.lost = False
        self.refused = threading.Semaphore(0)

    def lead(self) -> Fence | None:  # type: ignore[override]
        if not self.lost:
            return unfenced
        self.refused.release()
        return None


class _Pauses(threading.Event):
    """Says how long it is to be waited for; nobody waits."""

    asked: ClassVar[list[float]]

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None or timeout >= LIMITS.poll_s:
            return super().wait(timeout)
        self.asked.append(timeout)
        return self.is_set()


@pytest.mark.parametrize(
    ("events", "pauses"), [(49, []), (50, [LIMITS.gather_s]), (499, [LIMITS.gather_s]), (500, [])]
)
async def test_what_comes_fast_is_gathered(
    site: Site, monkeypatch: pytest.MonkeyPatch, events: int, pauses: list[float]
) -> None:
    """For a moment; not where so many come that a transaction has enough of them."""
    _Pauses.asked = []
    used = SimpleNamespace(Event=_Pauses, Thread=threading.Thread)
    monkeypatch.setattr(runner, "threading", used)
    async with site.projecting():
        # Behind what a projector does first.
        await site.reached(site.append([body("M")]))
        await site.reached(site.append([body(f"M{number}") for number in range(events)]))
        # Behind the pause, if there is one.
        await site.reached(site.append([body("M")]))

    assert pauses == _Pauses.asked


async def test_a_process_that_stands_by_is_not_behind(site: Site) -> None:
    """What waits is another one's to fold: this one's appends make way for nothing."""
    clock, leadership = _LaterClock(1.0), _Losing()
    async with site.projecting(clock, replace(LIMITS, stand_by_s=0.01), leadership) as projector:
        leadership.lost, leadership.leads = True, False
        projector.wake()
        for _ in range(2):
            assert await asyncio.to_thread(leadership.refused.acquire, timeout=DEADLINE_S)
        clock.later_s += 2.0
        behind = site.metrics.page()

    assert b"plugstatus_unprojected_seconds 0.0" in behind
