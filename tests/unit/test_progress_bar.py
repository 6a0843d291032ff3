"""What people see of a long task: a bar with its pace, a line a stage in a log."""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from service.cli.progress import ProgressBar
from service.cli.upkeep import Step, _followed
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.clock import FakeClock

DEADLINE_S = 30.0
FOLDING = "folding the log anew"
HOSTILE = "comparing \x1b]0;owned\x07\x1b[2J\nfake line"


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True

    def last_line(self) -> str:
        """What stands there now: the bar is drawn over itself."""
        return self.getvalue().replace("\n", "\r").rstrip("\r").split("\r")[-1]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    shown = Terminal()
    monkeypatch.setattr("service.cli.progress.sys", SimpleNamespace(stderr=shown))
    return shown


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The clock that the bar measures with."""
    clock = FakeClock()
    passing = SimpleNamespace(monotonic=clock.monotonic_s)
    monkeypatch.setattr("service.cli.progress.time", passing)
    return clock


def folding(done: int, total: int = 10_000) -> pb.TaskProgress:
    return pb.TaskProgress(done=done, total=total, unit="events", note=FOLDING)


def test_rate_and_time_left(terminal: Terminal, passing: FakeClock) -> None:
    """The bar says how much is done, how fast, and how long the rest takes at that pace."""
    with ProgressBar() as bar:
        bar.show(folding(0))
        passing.advance(10)
        bar.show(folding(2_500))
        shown = terminal.last_line()

    assert FOLDING in shown
    assert "2500/10000" in shown
    assert "250 events/s" in shown
    assert "0:00:30 left" in shown


def test_what_was_done_before_counts_for_no_pace(terminal: Terminal, passing: FakeClock) -> None:
    """A rebuild that goes on at 9,000 is as fast as what it does now, and not as all of it."""
    with ProgressBar() as bar:
        bar.show(folding(9_000))
        begun = terminal.last_line()
        passing.advance(10)
        bar.show(folding(9_100))
        shown = terminal.last_line()

    assert "9000/10000" in begun
    assert "left" not in begun
    assert "10 events/s" in shown
    assert "0:01:30 left" in shown


def test_a_total_that_grows_behind_its_end(terminal: Terminal, passing: FakeClock) -> None:
    """Callbacks that come meanwhile put the end off: the bar is full only at the end."""
    with ProgressBar() as bar:
        bar.show(folding(100, 100))
        passing.advance(1)
        bar.show(folding(150, 300))
        shown = terminal.last_line()

    full, empty = shown.count("#"), shown.count("-")

    assert "150/300" in shown
    assert "0:00:03 left" in shown
    assert abs(full - empty) <= 1


def test_a_stage_without_an_end_in_sight(terminal: Terminal, passing: FakeClock) -> None:
    """Without a total there is a count and a rate, and no time left."""
    with ProgressBar() as bar:
        bar.show(pb.TaskProgress(done=0, unit="rows", note="comparing"))
        passing.advance(2)
        bar.show(pb.TaskProgress(done=500, unit="rows", note="comparing"))
        shown = terminal.last_line()

    assert "500" in shown
    assert "250 rows/s" in shown
    assert "left" not in shown


def test_one_line_a_stage_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Where standard error is no terminal, each stage is told once, as it begins."""
    with ProgressBar() as bar:
        bar.show(pb.TaskProgress(note="waiting for another task to end"))
        bar.show(pb.TaskProgress(done=20, unit="rows", note="clearing"))
        for done in range(0, 10_001, 100):
            bar.show(folding(done))
        bar.show(pb.TaskProgress(done=20, unit="rows", note="clearing"))
    out, err = capsys.readouterr()

    assert out == ""
    assert err.splitlines() == [
        "waiting for another task to end",
        "clearing",
        FOLDING,
        "clearing",
    ]


def test_a_stage_begins_anew_where_it_falls_back(terminal: Terminal, passing: FakeClock) -> None:
    """The same words with less done are another stage: its pace begins anew."""
    with ProgressBar() as bar:
        bar.show(folding(0))
        passing.advance(1)
        bar.show(folding(5_000))
        bar.show(folding(10, 500))
        passing.advance(1)
        bar.show(folding(20, 500))
        shown = terminal.last_line()

    assert "20/500" in shown
    assert "10 events/s" in shown


def test_a_hostile_note_moves_no_terminal(terminal: Terminal) -> None:
    """Control characters in a note are spelt out; only the bar's own stay."""
    with ProgressBar() as bar:
        bar.show(pb.TaskProgress(done=1, total=2, unit="rows", note=HOSTILE))
    own = terminal.getvalue().replace("\x1b[?25l", "").replace("\x1b[?25h", "")

    assert re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]", own) is None
    assert "fake line" in own
    assert "\nfake line" not in own


class Shown(ProgressBar):
    """A bar that only says what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.changed = asyncio.Event()

    def show(self, progress: pb.TaskProgress) -> None:
        self.notes.append(progress.note)
        self.changed.set()


async def test_what_nothing_follows_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that waits for another one says so while it waits, and the last note is returned."""
    monkeypatch.setattr("service.cli.upkeep._LAST_S", 0.01)
    bar = Shown()

    async def steps() -> AsyncIterator[Step]:
        yield pb.TaskProgress(note="waiting"), 0
        async with asyncio.timeout(DEADLINE_S):
            await bar.changed.wait()
        yield pb.TaskProgress(note="folding"), 1
        yield pb.TaskProgress(note="comparing"), 2
        yield pb.TaskProgress(note="done"), 3

    last, differences = await _followed(steps(), bar)

    assert bar.notes == ["waiting", "folding", "comparing"]
    assert (last.note, differences) == ("done", 3)


async def test_a_task_that_says_nothing() -> None:
    """No progress at all is no fault."""

    async def steps() -> AsyncIterator[Step]:
        for step in list[Step]():
            yield step

    bar = Shown()

    assert await _followed(steps(), bar) == (pb.TaskProgress(), 0)
    assert bar.notes == []


async def test_a_task_that_fails_is_heard() -> None:
    """What the task raises is raised, behind what it had done."""
    bar = Shown()

    async def steps() -> AsyncIterator[Step]:
        yield pb.TaskProgress(note="folding"), 0
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await _followed(steps(), bar)
