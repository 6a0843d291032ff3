"""Retention on PostgreSQL: partitions that were passed are dropped, others are hardly touched."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service.database.schema import Store
from service.domain.events import BEFORE_FIRST, Event, Mark, Position
from service.eventlog.log import BaselineChange
from service.eventlog.postgres import PostgresLogWriter
from service.eventlog.reader import StoredLogReader
from tests.domain_values import NOW_US
from tests.logs import new_event
from tests.postgres import connected, database_url, store_at

PLENTY = 1_000_000
SIZE = 10
HOUR_US = 3_600_000_000
NEVER_US = 1_000 * HOUR_US


class Log:
    """A log with small partitions, an event an hour."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.writer = PostgresLogWriter(store_at(url, Store.EVENT_LOG))
        (partition,) = self._rows(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass"
        )
        # As if the log had been made with that size.
        self._run(f"DROP TABLE {partition[0]}")
        self._run(f"UPDATE append_head SET partition_positions = {SIZE}, partitioned_until = 1")

    def append(self, count: int) -> None:
        begin = self.read()[-1].position if self.read() else 0
        for at in range(begin, begin + count):
            self.writer.append([new_event(b"%d" % at, receive_time_us=NOW_US + at * HOUR_US)])

    def cut(self, until: int) -> None:
        event = next(event for event in self.read() if event.position == until)
        self.writer.cut(Mark(event.position, event.receive_time_us), BaselineChange())

    def purge(self, span_us: int) -> int:
        """How many steps it took."""
        steps = 0
        while self.writer.purge(span_us):
            steps += 1
        return steps

    def read(self) -> list[Event]:
        with closing(StoredLogReader(store_at(self.url, Store.EVENT_LOG))) as reader:
            return reader.read(BEFORE_FIRST, PLENTY, PLENTY)

    def partitions(self) -> int:
        return len(self._rows("SELECT 1 FROM pg_inherits WHERE inhparent = 'events'::regclass"))

    def on_disk(self) -> list[int]:
        """Positions, whether or not they are in sight."""
        return [row[0] for row in self._rows("SELECT position FROM events ORDER BY position")]

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        with connected(self.url) as connection:
            connection.execute("SET search_path = plugstatus_events")
            return connection.execute(sql.encode()).fetchall()

    def _run(self, sql: str) -> None:
        with connected(self.url) as connection:
            connection.execute("SET search_path = plugstatus_events")
            connection.execute(sql.encode())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log(database_url(tmp_path))
    with closing(opened.writer):
        yield opened


def test_appends_make_room_for_themselves(log: Log) -> None:
    """Partitions are made ahead, one after the other, also for a batch larger than several."""
    log.append(25)
    log.writer.append([new_event()] * (3 * SIZE + 1))

    assert log.on_disk() == list(range(1, 25 + 3 * SIZE + 2))


def test_what_was_passed_is_dropped(log: Log) -> None:
    """Whole partitions go, a step each; of the one that the first kept event is in, nothing."""
    log.append(45)
    before = log.partitions()
    log.cut(34)
    hidden = log.on_disk()
    steps = log.purge(NEVER_US)
    left = log.on_disk()

    assert hidden[0] == 1
    assert steps == before - log.partitions() > 0
    assert left[-1] == 45
    assert 34 - SIZE < left[0] <= 35
    assert [event.position for event in log.read()] == list(range(35, 46))


def test_at_a_low_rate_it_is_deleted(log: Log) -> None:
    """What spans more time than is to stay hidden leaves the disk without a whole partition."""
    log.append(8)
    log.cut(5)
    too_early = log.purge(6 * HOUR_US)
    kept = log.on_disk()
    in_time = log.purge(3 * HOUR_US)

    assert (too_early, kept) == (0, list(range(1, 9)))
    assert in_time == 1
    assert log.on_disk() == [6, 7, 8]


def test_the_partition_of_the_head_stays(log: Log) -> None:
    """Everything but the last event removed, appending goes on where it was."""
    log.append(2 * SIZE)
    log.cut(2 * SIZE - 1)
    log.purge(0)
    first = log.writer.append([new_event()])

    assert first == Position(2 * SIZE + 1)
    assert log.on_disk() == [2 * SIZE, 2 * SIZE + 1]


def test_a_reader_does_not_keep_a_removal_waiting_for_long(log: Log) -> None:
    """A transaction that reads the log delays a drop: the step fails, and the next one succeeds."""
    log.append(30)
    log.cut(25)
    with connected(log.url) as reading:
        with reading.transaction():
            reading.execute("SELECT count(*) FROM plugstatus_events.events")
            with pytest.raises(Exception, match="lock timeout"):
                log.writer.purge(NEVER_US)
        steps = log.purge(NEVER_US)

    assert steps > 0
