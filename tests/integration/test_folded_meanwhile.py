"""A batch is folded while the one before it is being committed, and counts only if that is."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service import errors
from service.config import Limits
from service.database import database
from service.domain.events import Event, EventKind, NewEvent, Position, QuarantineReason
from service.domain.message import Folded, Message, Recipient, Report, fold
from service.domain.webhook import Attempt, Outcome, WebhookState
from service.eventlog.reader import StoredLogReader
from service.projector import batch
from service.projector.follower import Follower
from service.views.store import ViewsWriter
from service.views.writer import StoredViewsWriter
from service.wire.cursor import CursorCodec
from tests.stores import log_writer, stores_of

PATIENCE_S = 30
RECEIVED_US = 1_793_491_200_000_000
A_BATCH = 2


def _callback(message_id: str, status: str = "READ") -> NewEvent:
    body = {"type": "MessageStatusCallback", "status": status, "ids": [message_id]}
    return NewEvent("acme", RECEIVED_US, EventKind.CALLBACK, msgspec.json.encode(body))


class Site:
    """A log, and a follower of it that folds two events at once."""

    def __init__(self, folder: Path, events_min: int = 1) -> None:
        stores = stores_of(folder)
        self.folder = folder
        self.log = StoredLogReader(stores.events)
        self.views: ViewsWriter = StoredViewsWriter(stores.views, self.log.identity)
        self.follower = Follower(
            self.log,
            self.views,
            CursorCodec(self.log.identity),
            Limits(ahead_events_min=events_min),
            A_BATCH,
        )

    def close(self) -> None:
        self.views.close()
        self.log.close()

    def append(self, *events: NewEvent) -> None:
        with closing(log_writer(self.folder)) as writer:
            writer.append(events)

    def step(self, *, ahead: bool = True) -> Sequence[Event]:
        """One batch; what waited."""
        events = self.follower.waiting()
        if events:
            self.follower.advance(events, ahead=ahead)
        return events

    def position(self) -> int:
        return self.views.checkpoint().mark.position

    def counts(self) -> dict[str, int]:
        """The reports of each message."""
        with closing(sqlite3.connect(self.folder / "views.db")) as views:
            return dict(views.execute("SELECT message_id, report_count FROM messages_a"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(Site(tmp_path)) as made:
        yield made


def _before_commit(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """`do`: on the thread that commits, once the transaction is about to end."""

    def committed(commit: Callable[[], object], meanwhile: Callable[[], None] | None) -> None:
        def held() -> None:
            do()
            commit()

        database.committed(held, meanwhile)

    monkeypatch.setattr("service.database.sqlite.committed", committed)


def test_the_next_batch_is_folded_during_the_commit(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit waits for it here, so one after the other would not come to an end."""
    folded = threading.Event()

    def seen(message: Message | None, recipient: Recipient | None, report: Report) -> Folded:
        if report.message_id == "M3":
            folded.set()
        return fold(message, recipient, report)

    def wait() -> None:
        assert folded.wait(PATIENCE_S)

    monkeypatch.setattr(batch, "fold", seen)
    _before_commit(monkeypatch, wait)
    site.append(*(_callback(f"M{number}") for number in range(4)))

    site.step()
    between = site.position(), site.counts()
    site.step()

    assert (2, {"M0": 1, "M1": 1}) == between
    assert (4, {f"M{number}": 1 for number in range(4)}) == (site.position(), site.counts())


def test_without_another_thread_it_is_one_after_the_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system gives no more of them: no event is to blame for that."""

    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    site.append(*(_callback(f"M{number}") for number in range(10)))
    batches = 0
    while site.step():
        batches += 1

    assert batches == 10 // A_BATCH
    assert {f"M{number}": 1 for number in range(10)} == site.counts()


def test_a_few_are_left_until_there_are_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer than pay for it: they are folded in their turn, with what came meanwhile."""
    folded: list[str] = []

    def seen(message: Message | None, recipient: Recipient | None, report: Report) -> Folded:
        folded.append(report.message_id)
        return fold(message, recipient, report)

    monkeypatch.setattr(batch, "fold", seen)
    with closing(Site(tmp_path, events_min=2)) as site:
        site.append(*(_callback(f"M{number}") for number in range(3)))
        site.step()
        first = [*folded]
        site.append(_callback("M3"))
        site.step()

        assert first == ["M0", "M1"]
        assert folded == ["M0", "M1", "M2", "M3"]
        assert site.position() == 4


def test_behind_a_few_nobody_looks_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a lone change should not wait for that as well."""
    reads = 0
    read = StoredLogReader.read

    def counted(log: StoredLogReader, *asked: Any) -> list[Event]:
        nonlocal reads
        reads += 1
        return read(log, *asked)

    monkeypatch.setattr(StoredLogReader, "read", counted)
    with closing(Site(tmp_path, events_min=2)) as site:
        site.append(_callback("M"))
        site.step()

    assert reads == 1


def test_it_meets_what_the_batch_before_it_wrote(site: Site) -> None:
    """Of the same message, heard again in every batch."""
    site.append(*(_callback("M", status) for status in ["SENT", "RECEIVED"] * 5))
    while site.step():
        pass

    assert {"M": 10} == site.counts()


def test_nothing_of_it_is_left_if_the_commit_fails(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are folded anew, and each report counts once."""
    failures = [sqlite3.OperationalError("disk I/O error")]

    def fail() -> None:
        if failures:
            raise failures.pop()

    _before_commit(monkeypatch, fail)
    site.append(*(_callback("M") for _ in range(5)))

    with pytest.raises(errors.ViewsUnavailable):
        site.step()
    after_failure = site.position(), site.counts()
    while site.step():
        pass

    assert (0, {}) == after_failure
    assert (5, {"M": 5}) == (site.position(), site.counts())


def test_it_is_forgotten_if_somebody_else_wrote_the_views(site: Site) -> None:
    """Retention has taken the message meanwhile: it begins anew, as its first report says."""
    site.append(_callback("M"), _callback("N"), _callback("M"), _callback("N"))
    site.step()
    site.views.prune(Position(3))
    site.follower.moved()
    gone = site.counts()
    site.step()

    assert ({}, {"M": 1, "N": 1}) == (gone, site.counts())


def test_a_checkpoint_that_moved_is_noticed(site: Site) -> None:
    """Another process has folded further: nothing is folded twice."""
    site.append(*(_callback("M") for _ in range(6)))
    site.step()
    with closing(StoredLogReader(stores_of(site.folder).events)) as log:
        other = Follower(log, site.views, CursorCodec(log.identity), Limits(), 3)
        other.advance(other.waiting())
    waited = site.step()

    assert [6] == [event.position for event in waited]
    assert (6, {"M": 6}) == (site.position(), site.counts())


def test_a_log_that_cannot_be_read_ahead_undoes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that was read is committed; the fault is told when the next one is asked for."""
    site.append(*(_callback("M") for _ in range(4)))
    events = site.follower.waiting()

    def away(*_: object) -> list[Event]:
        raise errors.LogUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(site.log, "read", away)
        assert site.follower.advance(events, ahead=True) is not None
        with pytest.raises(errors.LogUnavailable):
            site.follower.waiting()
    site.step()

    assert (4, {"M": 4}) == (site.position(), site.counts())


@pytest.mark.parametrize("stage", ["read", "fold"])
@pytest.mark.parametrize("poison", range(7))
def test_a_defect_ahead_is_one_event_in_quarantine(
    site: Site, monkeypatch: pytest.MonkeyPatch, poison: int, stage: str
) -> None:
    """Wherever it is in a batch, in decoding or in folding: all others are folded."""
    done = getattr(batch, stage)

    def faulty(*given: Any) -> Any:
        if b"poison" in getattr(given[-1], "content", b"") or "poison" in repr(given[-1]):
            raise RuntimeError("a defect")
        return done(*given)

    monkeypatch.setattr(batch, stage, faulty)
    ids = ["poison" if number == poison else f"M{number}" for number in range(7)]
    site.append(*map(_callback, ids))
    while site.step():
        pass

    with closing(sqlite3.connect(site.folder / "views.db")) as views:
        rows = views.execute("SELECT position, reason FROM quarantine_a").fetchall()
    assert {one: 1 for one in ids if one != "poison"} == site.counts()
    assert [(poison + 1, int(QuarantineReason.UNREADABLE))] == rows


def test_nothing_is_folded_further_than_asked(site: Site) -> None:
    """A rebuild does not overtake the views that are live."""
    site.append(*(_callback("M") for _ in range(6)))
    until = Position(3)
    sizes = []
    while events := site.follower.waiting(until):
        site.follower.advance(events, ahead=True)
        sizes.append(len(events))

    assert [2, 1] == sizes
    assert (3, {"M": 3}) == (site.position(), site.counts())


def test_webhook_updates_are_never_folded_ahead(site: Site) -> None:
    """They ask the views, which is nobody's turn during a commit; nothing is left out."""
    attempt = Attempt("u1", "", "https://hooks.example/", "0f" * 32, "local")
    outcome = Outcome("u1", WebhookState.ACCEPTED, "", "")
    own = [
        NewEvent("acme", RECEIVED_US, EventKind.WEBHOOK_ATTEMPT, msgspec.json.encode(attempt)),
        NewEvent("acme", RECEIVED_US, EventKind.WEBHOOK_OUTCOME, msgspec.json.encode(outcome)),
    ]
    site.append(_callback("M"), _callback("M"), _callback("M"), *own, _callback("M"))
    sizes = []
    while events := site.step():
        sizes.append(len(events))
    confirmed = site.views.webhook("u1")

    assert [2, 1, 2, 1] == sizes
    assert {"M": 4} == site.counts()
    assert confirmed is not None
    assert WebhookState.CONFIRMED is confirmed.state


@pytest.mark.parametrize(("ahead", "waiting_mib"), [(False, range(3, 6)), (True, range(10, 64))])
def test_pages_wait_beside_the_file_for_longer_while_more_waits(
    site: Site, ahead: bool, waiting_mib: range
) -> None:
    """They go into the file of the views together, and that holds up the change after them."""
    site.append(*(_callback(f"M{number}") for number in range(1_200)))
    for _ in range(590):
        site.step(ahead=ahead)
    logged = (site.folder / "views.db-wal").stat().st_size
    brought = (site.folder / "views.db").stat().st_size
    while site.step(ahead=ahead):
        pass

    assert logged // 2**20 in waiting_mib
    # The last one, behind which nothing waits, brings them all there.
    assert not ahead or (site.folder / "views.db").stat().st_size > brought
