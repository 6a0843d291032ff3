"""The database itself keeps the log append-only, whoever connects to it."""

from contextlib import closing
from pathlib import Path

import pytest

from service.domain.events import BEFORE_FIRST, ORIGIN, Event, EventKind, Mark, Position
from service.eventlog.log import LogReader
from tests.domain_values import NOW_US
from tests.logs import LOGS, LogUnderTest, appended, new_event

PLENTY = 1_000_000_000
COLUMNS = "position, instance, receive_time_us, receive_time_max_us, kind, content"
TOMBSTONE = b'{"time":"2026-01-01T00:00:00Z","reason":"asked for"}'

PORTABLE = [
    "UPDATE events SET content = content",
    "UPDATE events SET content = '' WHERE position = 3",
    "UPDATE events SET kind = 2 WHERE position = 3",
    "UPDATE events SET instance = 'other' WHERE position = 3",
    "UPDATE events SET receive_time_us = receive_time_us + 1 WHERE position = 3",
    "UPDATE events SET kind = 9, instance = 'other' WHERE position = 3",
    "UPDATE events SET kind = 9, receive_time_us = 0 WHERE position = 3",
    "UPDATE events SET kind = 9, receive_time_max_us = 0 WHERE position = 3",
    "UPDATE events SET kind = 9, position = 9 WHERE position = 5",
    "DELETE FROM events",
    "DELETE FROM events WHERE position = 1",
    "DELETE FROM events WHERE position = 5",
    f"INSERT INTO events ({COLUMNS}) SELECT {COLUMNS} FROM events WHERE position = 3",
    f"INSERT INTO events ({COLUMNS}) VALUES (0, 'acme', 0, 0, 1, '')",
    f"INSERT INTO events ({COLUMNS}) VALUES (-7, 'acme', 0, 0, 1, '')",
    "UPDATE log SET kept_from = 0",
    "UPDATE log SET erased_event_count = -1",
    "UPDATE log SET expired_event_count = -1",
    "UPDATE log SET identity = '00'",
    "DELETE FROM log",
    "INSERT INTO log SELECT * FROM log",
]


@pytest.fixture
def five(log: LogUnderTest) -> list[Event]:
    """Five events of the log."""
    return appended(log, *[new_event(b"%d" % number) for number in range(5)])


def _refused(log: LogUnderTest, sql: str) -> None:
    with pytest.raises(log.refusals):
        log.execute(sql)


@pytest.mark.parametrize("sql", PORTABLE)
def test_rewriting_is_refused(
    log: LogUnderTest, reader: LogReader, five: list[Event], sql: str
) -> None:
    """A foreign connection's attempt to rewrite the log fails and leaves it as it was."""
    _refused(log, sql)

    assert five == reader.read(BEFORE_FIRST, 100, PLENTY)
    assert 1 == reader.kept_from()


@pytest.mark.parametrize(
    ("kind", "sql"), [(kind, sql) for kind in LOGS for sql in LOGS[kind].forbidden]
)
def test_rewriting_in_a_databases_own_words_is_refused(kind: str, sql: str, tmp_path: Path) -> None:
    """Ways to rewrite that only one database knows are refused there as well."""
    log = LOGS[kind](tmp_path)
    events = appended(log, *[new_event(b"%d" % number) for number in range(5)])

    _refused(log, sql)

    with closing(log.open_reader()) as opened:
        assert events == opened.read(BEFORE_FIRST, 100, PLENTY)


def test_a_position_out_of_turn_is_refused_and_a_later_one_is_not(
    log: LogUnderTest, reader: LogReader, five: list[Event]
) -> None:
    """Nothing is ever put in front of the head; a copy may carry positions, rising ones."""
    log.execute(f"INSERT INTO events ({COLUMNS}) VALUES (20, 'acme', 1, 1, 1, '')")

    for taken_or_passed in (20, 6, 19):
        _refused(
            log,
            f"INSERT INTO events ({COLUMNS}) VALUES ({taken_or_passed}, 'acme', 1, 1, 1, '')",
        )

    assert [*(event.position for event in five), 20] == [
        event.position for event in reader.read(BEFORE_FIRST, 100, PLENTY)
    ]


def test_erasure_leaves_a_tombstone_in_place(
    log: LogUnderTest, reader: LogReader, five: list[Event]
) -> None:
    """Erasure replaces an event's kind and content, and nothing else of it or of the others."""
    log.erase(Position(3), TOMBSTONE)

    third = Event(Position(3), "acme", NOW_US, EventKind.TOMBSTONE, TOMBSTONE)

    assert [*five[:2], third, *five[3:]] == reader.read(BEFORE_FIRST, 100, PLENTY)


def test_a_tombstone_only_loses_more(
    log: LogUnderTest, reader: LogReader, five: list[Event]
) -> None:
    """Another erasure may take more of a tombstone; nothing is ever put into it."""
    log.erase(five[2].position, TOMBSTONE)

    with pytest.raises(log.refusals):
        log.erase(five[2].position, TOMBSTONE + b" ")
    kept = reader.read(Position(2), 1, PLENTY)[0].content
    log.erase(five[2].position, b"{}")

    assert (TOMBSTONE, b"{}") == (kept, reader.read(Position(2), 1, PLENTY)[0].content)


def test_retention_removes_a_prefix(
    log: LogUnderTest, reader: LogReader, five: list[Event]
) -> None:
    """Retention says what it keeps and removes what stands before; the rest keeps its places."""
    log.keep_from(Position(3))

    assert five[2:] == reader.read(BEFORE_FIRST, 100, PLENTY)
    assert (3, None, Mark(Position(3), NOW_US)) == (
        reader.kept_from(),
        reader.mark(Position(2)),
        reader.mark(Position(3)),
    )


def test_retention_does_not_take_itself_back(
    log: LogUnderTest, reader: LogReader, five: list[Event]
) -> None:
    """What retention keeps only ever shrinks, and nothing of it can be removed."""
    log.keep_from(Position(3))

    for sql in (
        "UPDATE log SET kept_from = 2",
        "DELETE FROM events WHERE position = 3",
        "DELETE FROM events WHERE position < 4",
        "DELETE FROM events",
        "DELETE FROM events WHERE position = 5",
        f"INSERT INTO events ({COLUMNS}) VALUES (1, 'acme', 1, 1, 1, '')",
    ):
        _refused(log, sql)

    assert five[2:] == reader.read(BEFORE_FIRST, 100, PLENTY)
    assert 3 == reader.kept_from()


def test_retention_makes_no_holes(log: LogUnderTest, five: list[Event]) -> None:
    """Of what retention gives up, only a whole prefix can go, never one event in the middle."""
    log.execute("UPDATE log SET kept_from = 4")

    _refused(log, "DELETE FROM events WHERE position = 2")
    _refused(log, "DELETE FROM events WHERE position IN (2, 3)")

    assert [event.position for event in five] == log.positions()


def test_retention_keeps_the_last_event(
    log: LogUnderTest, reader: LogReader, five: list[Event]
) -> None:
    """The last event cannot be given up: the head's cursors stand on it."""
    _refused(log, "UPDATE log SET kept_from = 6")

    assert five == reader.read(BEFORE_FIRST, 100, PLENTY)
    assert 1 == reader.kept_from()


@pytest.mark.parametrize("kept_from", [2, 5])
def test_positions_never_come_again(
    log: LogUnderTest, reader: LogReader, five: list[Event], kept_from: int
) -> None:
    """Positions go on rising whatever retention removed, be it all but the last event."""
    log.keep_from(Position(kept_from))

    later = appended(log, new_event(b"5"))

    assert [Position(6)] == [event.position for event in later]
    assert [*five[kept_from - 1 :], *later] == reader.read(BEFORE_FIRST, 100, PLENTY)


def test_a_mark_outlives_erasure(log: LogUnderTest, reader: LogReader, five: list[Event]) -> None:
    """An erased event keeps the mark by which cursors know it; the origin is always known."""
    log.erase(five[4].position, TOMBSTONE)

    assert [ORIGIN, Mark(Position(5), NOW_US), Mark(Position(5), NOW_US)] == [
        reader.mark(BEFORE_FIRST),
        reader.mark(Position(5)),
        reader.head(),
    ]
