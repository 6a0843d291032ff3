"""What every implementation of the event log promises to those who append and read."""

import os
import random
import signal
from collections.abc import Sequence
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import errors
from service.domain.events import BEFORE_FIRST, ORIGIN, EventKind, Mark, Position
from service.eventlog.log import LogReader
from tests.domain_values import NOW_US
from tests.logs import LOGS, LogUnderTest, appended, new_event
from tests.processes import child, lines

PLENTY = 1_000_000_000
SECOND_US = 1_000_000


def test_positions_follow_each_other(log: LogUnderTest) -> None:
    """A batch gets positions without a gap in the order given, each behind all before it."""
    with closing(log.open_writer()) as writer:
        firsts = [writer.append([new_event()] * count) for count in (1, 3, 2)]

    assert [1, 2, 5] == firsts


def test_events_read_as_appended(log: LogUnderTest, reader: LogReader) -> None:
    """Instance, receive time, kind and content of every event come back in order of position."""
    expected = appended(
        log,
        new_event(b"1", instance="a.b-c_d"),
        new_event(b"2", receive_time_us=NOW_US - 5, kind=EventKind.WEBHOOK_ATTEMPT),
        new_event(b"3", instance="x" * 128, kind=EventKind.WEBHOOK_OUTCOME),
        new_event(b"4", instance='"quotes" and \\ é \U0001f600'),
    )

    assert expected == reader.read(BEFORE_FIRST, 100, PLENTY)


CONTENTS = {
    "empty": b"",
    "NUL": b"\0",
    "NULs around": b"\0a\0",
    "invalid UTF-8": b"\xff\xfe\x80",
    "every byte": bytes(range(256)),
    "JSON": b'{"a":"\\ud800"}',
    "number": b"1e5",
    "1 MiB": random.Random(1).randbytes(1024 * 1024),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_content_is_kept_byte_for_byte(log: LogUnderTest, reader: LogReader, name: str) -> None:
    """A content of any bytes comes back as it is, alone in its batch."""
    appended(log, new_event(CONTENTS[name]))

    assert [CONTENTS[name]] == [event.content for event in reader.read(BEFORE_FIRST, 9, PLENTY)]


def test_contents_of_a_batch_do_not_mix(log: LogUnderTest, reader: LogReader) -> None:
    """Contents of all kinds and lengths in one batch each come back as they are."""
    contents = [*CONTENTS.values(), b"", *reversed(CONTENTS.values()), b"", b""]

    appended(log, *map(new_event, contents))

    assert contents == [event.content for event in reader.read(BEFORE_FIRST, 100, PLENTY)]


def test_a_batch_of_any_size_is_kept_in_order(log: LogUnderTest, reader: LogReader) -> None:
    """All events of a batch follow each other, however many there are, and nothing else does."""
    sizes = [*range(1, 36), 63, 64, 65, 511, 512, 513, 1_025, 4_095, 4_096]
    contents = [[b"%d of %d" % (one, size) for one in range(size)] for size in sizes]

    with closing(log.open_writer()) as writer:
        firsts = [writer.append([new_event(one) for one in batch]) for batch in contents]

    stored = reader.read(BEFORE_FIRST, PLENTY, PLENTY)
    assert [*accumulate(sizes[:-1], initial=1)] == firsts
    assert [one for batch in contents for one in batch] == [event.content for event in stored]
    assert [*range(1, sum(sizes) + 1)] == [event.position for event in stored]


def test_a_batch_of_large_contents_is_kept_in_order(log: LogUnderTest, reader: LogReader) -> None:
    """Also where each takes much, and one alone more than others together."""
    sizes = [100_000, 0, 200_000, 300_000, 1, 260_000, 1_000_000, 5, 262_144, 1]
    contents = [bytes([place]) * size for place, size in enumerate(sizes)]

    with closing(log.open_writer()) as writer:
        first = writer.append([new_event(one) for one in contents])
        behind = writer.append([new_event(b"behind")])

    stored = reader.read(BEFORE_FIRST, 100, PLENTY)
    assert [*contents, b"behind"] == [event.content for event in stored]
    assert (1, len(sizes) + 1) == (first, behind)


def test_reading_goes_on_behind_a_position(log: LogUnderTest, reader: LogReader) -> None:
    """A read starts behind its position, ends at the head, and is empty there and beyond."""
    events = appended(log, *[new_event(b"%d" % number) for number in range(5)])
    expected = [events, events[1:], events[4:], [], []]

    assert expected == [
        reader.read(Position(after), 100, PLENTY) for after in (0, 1, 4, 5, 1_000_000)
    ]


@pytest.mark.parametrize(
    ("events_max", "bytes_max", "count"),
    [(1, 100, 1), (3, 100, 3), (5, 100, 5), (9, 100, 5), (9, 10, 1), (9, 11, 2), (9, 1, 1)],
)
def test_a_read_is_bounded(
    log: LogUnderTest, reader: LogReader, events_max: int, bytes_max: int, count: int
) -> None:
    """A read ends at its number of events, or with the one that reaches its number of bytes."""
    events = appended(log, *[new_event(b"x" * 10)] * 5)

    assert events[:count] == reader.read(BEFORE_FIRST, events_max, bytes_max)


def test_an_event_larger_than_the_bound_is_read(log: LogUnderTest, reader: LogReader) -> None:
    """An event of any size is read, alone, so no reader ever stands still."""
    events = appended(log, new_event(b"x" * 100_000), new_event(b"y"))

    assert events[:1] == reader.read(BEFORE_FIRST, 10, 5)
    assert events[1:] == reader.read(events[0].position, 10, 5)


def test_an_empty_log(reader: LogReader) -> None:
    """A log without events stands at the origin, keeps everything and holds nothing."""

    assert (ORIGIN, ORIGIN, None, 1, None, []) == (
        reader.head(),
        reader.mark(BEFORE_FIRST),
        reader.mark(Position(1)),
        reader.kept_from(),
        reader.received_from(0),
        reader.read(BEFORE_FIRST, 1, 1),
    )


def test_marks_name_events(log: LogUnderTest, reader: LogReader) -> None:
    """The head is the last event's mark, and each event has one, of its place and time."""
    times = [NOW_US + 5, NOW_US, NOW_US + 3]
    appended(log, *[new_event(receive_time_us=time_us) for time_us in times])
    expected = [Mark(Position(place), time_us) for place, time_us in enumerate(times, start=1)]

    assert expected[-1] == reader.head()
    assert [ORIGIN, *expected, None] == [reader.mark(Position(place)) for place in range(5)]


def test_a_reader_sees_what_was_committed_meanwhile(log: LogUnderTest, reader: LogReader) -> None:
    """An open reader sees every event at the next read after its append returned."""
    heads = []
    with closing(log.open_writer()) as writer:
        for _ in range(5):
            writer.append([new_event()])
            heads.append(reader.head().position)

    assert [1, 2, 3, 4, 5] == heads


def test_a_log_keeps_its_identity(log: LogUnderTest, log_kind: str, tmp_path: Path) -> None:
    """A log has 32 hex digits of its own, the same for every reader and another in every log."""
    (tmp_path / "other").mkdir()
    other_log = LOGS[log_kind](tmp_path / "other")

    with (
        closing(log.open_reader()) as one,
        closing(log.open_reader()) as two,
        closing(other_log.open_reader()) as other,
    ):
        identities = [one.identity, two.identity, other.identity]

    assert identities[0] == identities[1] != identities[2]
    assert [32, 32, 32] == [len(bytes.fromhex(identity)) * 2 for identity in identities]


def test_a_failed_batch_leaves_nothing(log: LogUnderTest, reader: LogReader) -> None:
    """A batch that the database refuses in the middle is not visible, not even in part."""
    log.refuse("refused")
    batch = [new_event(b"1"), new_event(b"2", instance="refused"), new_event(b"3")]

    with closing(log.open_writer()) as writer:
        before = writer.append([new_event(b"0")])
        with pytest.raises(errors.LogUnavailable):
            writer.append(batch)
        seen = reader.head().position
        after = writer.append([new_event(b"4")])

    assert before == seen
    assert [(before, b"0"), (after, b"4")] == [
        (event.position, event.content) for event in reader.read(BEFORE_FIRST, 9, PLENTY)
    ]


def _first_received(times: Sequence[tuple[int, int]], kept_from: int, time_us: int) -> int | None:
    """By linear scan: the lowest position received at that time or later, or what is left of it."""
    found = next((position for position, received in times if received >= time_us), None)
    return None if found is None else max(found, kept_from)


@pytest.mark.parametrize("kind", LOGS)
@settings(max_examples=20)
@given(
    batches=st.lists(st.lists(st.integers(-3, 6), min_size=1, max_size=6), min_size=1, max_size=5),
    kept=st.integers(0, 12),
)
def test_a_time_is_found_though_clocks_step_back(
    kind: str, batches: list[list[int]], kept: int
) -> None:
    """The first event received from a time on is found, whatever the clock did and retention."""
    with TemporaryDirectory() as folder:
        log = LOGS[kind](Path(folder))
        times: list[tuple[int, int]] = []
        received_us = NOW_US
        for batch in batches:
            steps = []
            for step in batch:
                received_us += step * SECOND_US
                steps.append(new_event(receive_time_us=received_us))
            times += [(event.position, event.receive_time_us) for event in appended(log, *steps)]
        removed = min(kept, len(times) - 1)
        log.keep_from(Position(removed + 1))
        asked = sorted({time_us + off for _, time_us in times for off in (-1, 0, 1)} | {0})
        expected = [_first_received(times, removed + 1, time_us) for time_us in asked]
        with closing(log.open_reader()) as reader:
            found = [reader.received_from(time_us) for time_us in asked]

    assert expected == found


APPENDER = """
import sys
from pathlib import Path
from tests.logs import LOGS, new_event
log = LOGS[sys.argv[1]](Path(sys.argv[2]))
writer = log.open_writer()
number = 0
while True:
    batch = [new_event(b"%d" % (number + offset)) for offset in range(number % 7 + 1)]
    first = writer.append(batch)
    print(first, number, len(batch), flush=True)
    number += len(batch)
"""


def test_what_was_acknowledged_survives_a_kill(log_kind: str, tmp_path: Path) -> None:
    """Every event whose append returned is there after SIGKILL, in order and without a gap."""
    acknowledged: list[tuple[int, bytes]] = []
    with child(APPENDER, log_kind, str(tmp_path)) as process:
        for line in lines(process):
            first, number, count = map(int, line.split())
            acknowledged += [(first + each, b"%d" % (number + each)) for each in range(count)]
            if len(acknowledged) >= 300:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait()

    with closing(LOGS[log_kind](tmp_path).open_reader()) as reader:
        events = reader.read(BEFORE_FIRST, 1_000_000, PLENTY)
    kept = [(event.position, event.content) for event in events]

    assert acknowledged == kept[: len(acknowledged)]
    assert list(range(1, len(kept) + 1)) == [position for position, _ in kept]
