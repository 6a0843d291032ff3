"""A log writer while its database is away: every callback in the log once, in order, with its time.

Real PostgreSQL, reached through a line that holds requests or replies back.
"""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from service import errors
from service.database.schema import Store
from service.domain.events import BEFORE_FIRST, SPOOLED, Event, EventKind, NewEvent, Position
from service.eventlog.postgres import Batch, PostgresLogWriter
from service.eventlog.reader import StoredLogReader
from service.eventlog.spool import Spool, Spooled
from service.eventlog.spooling import SpoolingLogWriter
from tests.domain_values import NOW_US
from tests.failover.waiting import until
from tests.line import Line
from tests.logs import new_event
from tests.postgres import bring_back, connected, database_url, store_at, take_away

PLENTY = 1_000_000
DEADLINE_S = 20.0


class Site:
    """A database, a line to it, and a spool's file."""

    def __init__(self, folder: Path, line: Line) -> None:
        self.url = database_url(folder)
        self.line = line
        self.path = folder / "spool.db"

    def opened(self, bytes_max: int = PLENTY, spool: Spool | None = None) -> SpoolingLogWriter:
        database = store_at(self.line.url, Store.EVENT_LOG)
        return SpoolingLogWriter(
            lambda: PostgresLogWriter(database),
            spool or Spool(self.path, bytes_max),
            retry_s=0.05,
            events_max=7,
            bytes_max=PLENTY,
        )

    def logged(self) -> list[Event]:
        with closing(StoredLogReader(store_at(self.url, Store.EVENT_LOG))) as reader:
            return reader.read(BEFORE_FIRST, PLENTY, PLENTY)

    def contents(self) -> list[bytes]:
        return [event.content for event in self.logged()]

    def await_logged(self, contents: Sequence[bytes]) -> None:
        """Until the log holds as many. It holds these, once each, in this order."""
        until(lambda: len(self.contents()) >= len(contents), DEADLINE_S, "all are in the log")
        assert self.contents() == list(contents)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Line(tmp_path / "line", database_url(tmp_path)) as line:
        yield Site(tmp_path, line)


def _batch(*contents: bytes) -> list[NewEvent]:
    return [new_event(content) for content in contents]


def _direct(writer: SpoolingLogWriter) -> None:
    """Until it appends to the log itself again."""

    def appends() -> bool:
        try:
            writer.purge(1)
        except errors.LogUnavailable:
            return False
        return True

    until(appends, DEADLINE_S, "it appends directly")


def test_an_outage(site: Site) -> None:
    """Before, meanwhile and after: in the order given, with the times they came at."""
    before, meanwhile, after = (
        [new_event(b"%d" % n, receive_time_us=NOW_US + n) for n in numbers]
        for numbers in (range(3), range(3, 40), range(40, 42))
    )
    with closing(site.opened()) as writer:
        first = writer.append(before)
        take_away(site.url)
        spooled = [writer.append([event]) for event in meanwhile]
        bring_back(site.url)
        _direct(writer)
        last = writer.append(after)
    logged = site.logged()

    assert first == 1
    assert set(spooled) == {SPOOLED}
    assert last == 41
    assert [(event.content, event.receive_time_us) for event in logged] == [
        (event.content, event.receive_time_us) for event in [*before, *meanwhile, *after]
    ]


def test_order_while_the_spool_is_being_recorded(site: Site) -> None:
    """What comes meanwhile goes behind what is spooled, never past it."""
    take_away(site.url)
    contents = [b"%d" % n for n in range(300)]
    with closing(site.opened()) as writer:
        for content in contents[:100]:
            writer.append(_batch(content))
        bring_back(site.url)
        positions = [writer.append(_batch(content)) for content in contents[100:]]
        _direct(writer)

    assert SPOOLED in positions
    assert site.contents() == contents


def _appending(writer: SpoolingLogWriter, events: Sequence[NewEvent]) -> Callable[[], Position]:
    """Begin to, on a thread; the outcome."""
    found: list[Position] = []
    thread = threading.Thread(target=lambda: found.append(writer.append(events)))
    thread.start()

    def outcome() -> Position:
        thread.join(DEADLINE_S)
        return found[0]

    return outcome


def test_the_answer_of_a_commit_is_lost(site: Site) -> None:
    """Recorded or not, nobody knows: it is spooled, sent under its number, and is there once."""
    with closing(site.opened()) as writer:
        writer.append(_batch(b"0"))
        site.line.hold_replies()
        appended = _appending(writer, _batch(b"1", b"2"))
        until(lambda: len(site.contents()) == 3, DEADLINE_S, "it was recorded")
        site.line.lose()
        outcome = appended()
        _direct(writer)
        last = writer.append(_batch(b"3"))

    assert outcome == SPOOLED
    assert last == 4
    assert site.contents() == [b"0", b"1", b"2", b"3"]


def test_the_answer_to_the_spool_is_lost(site: Site) -> None:
    """The same for batches that were spooled, several in one COMMIT."""
    take_away(site.url)
    contents = [b"%d" % n for n in range(20)]
    with closing(site.opened()) as writer:
        for content in contents:
            writer.append(_batch(content))
        site.line.cut()
        bring_back(site.url)
        for held in range(5, 20, 5):
            # Each time a reply is held back, more is in the log than is known to be.
            site.line.mend()
            until(lambda: len(site.contents()) >= held, DEADLINE_S, "some are in")  # noqa: B023
            site.line.hold_replies()
            site.line.lose()
        _direct(writer)

    assert site.contents() == contents


def test_a_request_that_comes_late(site: Site) -> None:
    """An old request, delivered when its batch and others are in, does nothing."""
    with closing(site.opened()) as writer:
        writer.append(_batch(b"0"))
        site.line.hold_requests()
        appended = _appending(writer, _batch(b"1"))
        until(site.line.holds_requests, DEADLINE_S, "it was sent")
        site.line.lose()
        outcome = appended()
        _direct(writer)
        writer.append(_batch(b"2"))
        in_time = site.contents()
        with connected(site.url) as database:
            sessions = _sessions(database)
            site.line.mend()
            until(lambda: _sessions(database) < sessions, DEADLINE_S, "the old one has ended")

    assert outcome == SPOOLED
    assert in_time == [b"0", b"1", b"2"]
    assert site.contents() == in_time


def _sessions(database: "psycopg.Connection[tuple[Any, ...]]") -> int:
    """Of the service, in this database."""
    found = database.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'plugstatus'"
    )
    return int(found.fetchall()[0][0])


def test_killed_between_recording_and_forgetting(site: Site) -> None:
    """The spool still holds what the log has: after the next start it is there once."""
    take_away(site.url)
    contents = [b"%d" % n for n in range(30)]
    with closing(site.opened()) as writer:
        for content in contents:
            writer.append(_batch(content))
    kept = site.path.with_name("kept.db")
    shutil.copy(site.path, kept)
    bring_back(site.url)
    with closing(site.opened()) as writer:
        _direct(writer)
    recorded = site.contents()
    shutil.copy(kept, site.path)
    with closing(site.opened()) as writer:
        _direct(writer)
        writer.append(_batch(b"last"))

    assert recorded == contents
    assert site.contents() == [*contents, b"last"]


def test_some_of_what_is_sent_together_is_in(site: Site) -> None:
    """What the log does not have of it stays in the spool, and is sent again."""
    take_away(site.url)
    contents = [b"%d" % n for n in range(6)]
    with closing(site.opened()) as writer:
        for content in contents:
            writer.append(_batch(content))
    bring_back(site.url)
    with closing(Spool(site.path, PLENTY)) as spool:
        found = spool.first(2, PLENTY)
    assert found is not None
    with closing(PostgresLogWriter(store_at(site.url, Store.EVENT_LOG))) as other:
        other.settle(Batch(found.appender, 0, found.last_number), found.events)
    with closing(site.opened()) as writer:
        _direct(writer)

    assert len(found.events) == 2
    assert site.contents() == contents


class _JustBefore(Spool):
    """Something happens when it has been found empty, before anybody acts on that."""

    happens: Callable[[], object] | None = None

    def first(self, events_max: int, bytes_max: int) -> Spooled | None:
        found = super().first(events_max, bytes_max)
        if found is None and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        return found


def test_a_callback_in_the_last_moment(site: Site) -> None:
    """Spooled while the spool was being left, it is recorded as well."""
    spool = _JustBefore(site.path, PLENTY)
    take_away(site.url)
    with closing(site.opened(spool=spool)) as writer:
        writer.append(_batch(b"1"))
        spool.happens = lambda: writer.append(_batch(b"2"))
        bring_back(site.url)
        _direct(writer)
        writer.append(_batch(b"3"))

    assert site.contents() == [b"1", b"2", b"3"]


def test_only_callbacks_are_kept(site: Site) -> None:
    """A webhook's attempt has to be in the log before anything is sent: it is refused."""
    attempt = new_event(b"attempt", kind=EventKind.WEBHOOK_ATTEMPT)
    take_away(site.url)
    with closing(site.opened()) as writer:
        outcome = writer.append([attempt, *_batch(b"1"), attempt])
        writer.append([attempt])
        bring_back(site.url)
        _direct(writer)
        writer.append([attempt])

    assert outcome == SPOOLED
    assert site.contents() == [b"1", b"attempt"]


def test_a_full_spool(site: Site) -> None:
    """It refuses, and what it had taken is recorded; then callbacks are taken again."""
    take_away(site.url)
    with closing(site.opened(bytes_max=3)) as writer:
        taken = [writer.append(_batch(b"%d" % n)) for n in range(3)]
        with pytest.raises(errors.LogUnavailable, match="is full"):
            writer.append(_batch(b"3"))
        bring_back(site.url)
        _direct(writer)
        writer.append(_batch(b"4"))

    assert taken == [SPOOLED] * 3
    assert site.contents() == [b"0", b"1", b"2", b"4"]


def test_removals_wait_for_the_spool(site: Site) -> None:
    """Nothing is erased or cut while callbacks are on their way that belong before it."""
    take_away(site.url)
    with closing(site.opened()) as writer:
        writer.append(_batch(b"1"))
        with pytest.raises(errors.LogUnavailable, match="still being recorded"):
            writer.erase([], new_event(kind=EventKind.ERASURE), None)  # type: ignore[arg-type]
        bring_back(site.url)
        site.await_logged([b"1"])


def test_closing_tells_what_is_left(site: Site) -> None:
    """How many callbacks, and in which file."""
    take_away(site.url)
    writer = site.opened()
    writer.append(_batch(b"1", b"2"))
    with capture_logs() as told:
        writer.close()
    bring_back(site.url)
    left = [line for line in told if "stay in the spool" in line["event"]]

    assert [(line["count"], line["path"]) for line in left] == [(2, str(site.path))]
