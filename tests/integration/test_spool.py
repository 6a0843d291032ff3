"""The spool as a file: what it keeps, in which order, how much, and for whom."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service import errors
from service.domain.events import NewEvent
from service.eventlog.spool import Filling, Spool, Spooled, filling_of
from tests.domain_values import NOW_US
from tests.logs import new_event
from tests.processes import child, lines

PLENTY = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    with closing(Spool(path, PLENTY)) as opened:
        yield opened


def _events(*contents: bytes) -> list[NewEvent]:
    return [new_event(content, receive_time_us=NOW_US + at) for at, content in enumerate(contents)]


def test_batches_come_in_order_and_together(spool: Spool) -> None:
    """Batches of one appender as one, with instance, time and bytes; another's apart."""
    first, second = _events(b"\xff\x00", b"1"), _events(b"2")
    spool.add("a", 3, first)
    spool.add("a", 4, second)
    spool.add("b", 1, _events(b"3"))
    of_a = spool.first(PLENTY, PLENTY)
    spool.remove("a", 4)
    of_b = spool.first(PLENTY, PLENTY)

    assert of_a == Spooled("a", 3, 4, [*first, *second])
    assert of_b is not None
    assert (of_b.appender, of_b.first_number, of_b.last_number) == ("b", 1, 1)


@pytest.mark.parametrize(("events_max", "bytes_max"), [(2, PLENTY), (PLENTY, 5), (1, 1)])
def test_together_they_stay_within_bounds(spool: Spool, events_max: int, bytes_max: int) -> None:
    """One batch at least, however large, and else no more than asked for."""
    for number in range(1, 4):
        spool.add("a", number, _events(b"12", b"34"))
    found = spool.first(events_max, bytes_max)

    assert found is not None
    assert (found.first_number, found.last_number) == (1, 1)


def test_removing_up_to_a_number(spool: Spool) -> None:
    """What the log holds goes, of that appender only; the rest is next."""
    for number in (1, 2, 3):
        spool.add("a", number, _events(b"x"))
    spool.add("b", 1, _events(b"y"))
    spool.remove("a", 2)
    left = spool.first(PLENTY, PLENTY)

    assert left is not None
    assert (left.appender, left.first_number, left.last_number) == ("a", 3, 3)
    assert spool.filling().event_count == 2


def test_what_it_holds_is_counted(spool: Spool, path: Path) -> None:
    """Callbacks, bytes of content and the oldest receive time, here and from outside."""
    empty = spool.filling()
    spool.add("a", 1, [new_event(b"123", receive_time_us=NOW_US + 7)])
    spool.add("a", 2, [new_event(b"45", receive_time_us=NOW_US)])

    assert empty == Filling(0, 0, 0)
    assert spool.filling() == filling_of(path) == Filling(2, 5, NOW_US)


def test_a_full_spool_refuses(path: Path) -> None:
    """A batch that is more than fits is refused whole, and one that fits is not."""
    with closing(Spool(path, 10)) as spool:
        spool.add("a", 1, _events(b"12345678"))
        with pytest.raises(errors.LogUnavailable, match="is full"):
            spool.add("a", 2, _events(b"1", b"23"))
        spool.add("a", 3, _events(b"12"))

        assert spool.filling().content_bytes == 10


def test_nothing_removed_can_be_read(spool: Spool, path: Path) -> None:
    """Once it is empty, no file beside or below the name holds what it held."""
    spool.add("a", 1, _events(b"5511900000000" * 500))
    spool.remove("a", 1)

    files = list(path.parent.glob("spool.db*"))
    assert path in files
    assert not [file for file in files if b"5511900000000" in file.read_bytes()]


_ADDING = """
import sys
from pathlib import Path
from service.domain.events import EventKind, NewEvent
from service.eventlog.spool import Spool
spool = Spool(Path(sys.argv[1]), 10**9)
for number in range(1, 10**9):
    spool.add("a", number, [NewEvent("acme", number, EventKind.CALLBACK, b"%d" % number)] * 3)
    print(number, flush=True)
"""


def test_a_kill_loses_nothing(path: Path) -> None:
    """Every batch whose `add` returned is there after SIGKILL, whole; at most one more."""
    added = 0
    with child(_ADDING, str(path)) as process:
        for line in lines(process):
            added = int(line)
            if added == 50:
                process.kill()
    with closing(Spool(path, PLENTY)) as spool:
        found = spool.first(PLENTY, PLENTY)

    assert added >= 50
    assert found is not None
    assert found.first_number == 1
    assert found.last_number - added in {0, 1}
    assert [event.content for event in found.events] == [
        b"%d" % number for number in range(1, found.last_number + 1) for _ in range(3)
    ]


def test_a_spool_belongs_to_one_log(spool: Spool) -> None:
    """While it holds callbacks for one log it refuses another; an empty one changes sides."""
    spool.belong_to("one")
    spool.belong_to("other")
    spool.add("a", 1, _events(b"x"))
    spool.belong_to("other")
    with pytest.raises(errors.StoreUnusable, match="holds 1 callbacks for another event log"):
        spool.belong_to("one")

    assert spool.identity() == "other"


def test_a_newer_file_is_refused(path: Path) -> None:
    """What a later version wrote is left alone."""
    Spool(path, PLENTY).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 2")

    with pytest.raises(errors.StoreUnusable, match="newer plugstatus"):
        Spool(path, PLENTY)


def test_no_spool_yet(path: Path) -> None:
    """A file that was made and never used holds nothing."""
    path.touch()

    assert filling_of(path) == Filling(0, 0, 0)
