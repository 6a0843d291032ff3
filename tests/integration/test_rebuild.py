"""A rebuild over real stores, step by step: killed, gone on with, compared, switched."""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from service.domain.progress import Progress
from service.projector import follower, rebuild
from tests.clock import FakeClock
from tests.histories import log_of, modelled, random_callbacks, spare_rows
from tests.rebuild_site import SMALL, RebuildSite, busy_site

FOLDING = "folding the log anew"
CLEARING = "clearing the views that are not live"


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def site(tmp_path: Path, chance: random.Random) -> Iterator[RebuildSite]:
    made = busy_site(tmp_path / "data", chance)
    yield made
    made.close()


def test_a_rebuild_gives_the_same_views_as_a_new_generation(site: RebuildSite) -> None:
    """All is told as before and as the model says, the spare slot is empty, the log untouched."""
    log, before = log_of(site.data_dir), site.told()
    generations = [site.generation]
    for _ in range(2):
        site.rebuilt()
        generations.append(site.generation)
    last = site.rebuilt()
    generations.append(site.generation)
    head = len(site.said) + 1

    assert before == site.told() == modelled(site.said)
    assert log_of(site.data_dir) == log
    assert generations == sorted(set(generations))
    assert (last.done, last.total, last.unit) == (head, head, "events")
    assert last.note == f"rebuilt: generation {generations[-1]} is live, at position {head}"
    assert spare_rows(site.data_dir) == 0


def test_progress_never_falls_within_a_stage(site: RebuildSite) -> None:
    """`done` falls only where the unit changes, and reaches the total, with and without a check."""
    for check in (False, True):
        steps = list(site.steps(check=check))
        folding = [one for one in steps if one.note == FOLDING]
        fallen = [
            (one, other)
            for one, other in pairwise(steps)
            if one.unit == other.unit and other.done < one.done
        ]

        assert fallen == []
        assert folding[-1].done == folding[-1].total == len(site.said) + 1
        assert len(folding) >= len(site.said) // SMALL.rebuild_events_max


def test_generations_rise_though_the_clock_steps_back(
    tmp_path: Path, chance: random.Random
) -> None:
    """A generation is above every earlier one, whatever the wall clock says."""
    clock = FakeClock(2**62)
    site = RebuildSite(tmp_path / "data", random_callbacks(chance, 10), clock)
    site.rebuilt()
    first = site.generation
    clock.step(-1_000_000)
    site.rebuilt()
    site.close()

    assert first == 2**62
    assert site.generation == first + 1


def test_a_rebuild_that_is_killed_anywhere_goes_on(
    site: RebuildSite, chance: random.Random
) -> None:
    """Ended behind any step, again and again, while callbacks come: the views are right at each
    moment, and what was folded once is not folded again."""
    highest = 0
    for _ in range(8):
        steps = site.steps()
        taken: list[Progress] = []
        for _ in range(chance.randint(1, 8)):
            step = next(steps, None)
            if step is None:
                break
            taken.append(step)
            if chance.random() < 0.5:
                site.append(random_callbacks(chance, chance.randint(1, 3), ids=20))
        folding = [one.done for one in taken if one.note == FOLDING]
        ended = taken[-1].note.startswith("rebuilt")
        if folding:
            assert folding[0] > highest
            highest = folding[-1]
        if ended or CLEARING in [one.note for one in taken]:
            highest = 0
        site.close()
        site.open()
        site.follow()
        assert site.told() == modelled(site.said)
    site.rebuilt()

    assert site.told() == modelled(site.said)
    assert site.checked().differences == 0


def _half(site: RebuildSite) -> int:
    """A rebuild left half way; how far it was."""
    for step in site.steps():
        if step.note == FOLDING and step.done > len(site.said) // 2:
            return step.done
    raise AssertionError("it ended")


def _first_done(site: RebuildSite) -> int:
    return next(step.done for step in site.steps() if step.note == FOLDING)


def test_the_same_version_goes_on(site: RebuildSite) -> None:
    """A rebuild goes on behind where one of the same version was left."""
    left_at = _half(site)

    assert left_at < _first_done(site) <= left_at + SMALL.rebuild_events_max


def test_another_version_begins_again(site: RebuildSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version may fold otherwise: nothing of what is there is taken over."""
    left_at = _half(site)
    monkeypatch.setattr(rebuild, "__version__", "9.9")

    assert _first_done(site) <= SMALL.rebuild_events_max < left_at


def test_another_first_position_begins_again(site: RebuildSite) -> None:
    """What retention removed meanwhile would be missing otherwise or stay: all begins again."""
    _half(site)
    site.retain(30)
    first = next(step.note for step in site.steps())
    last = site.rebuilt()

    assert first == CLEARING
    assert last.done == len(site.said) + 1
    assert site.checked().differences == 0


@pytest.mark.parametrize("keep_from", [2, 60, 10**6])
def test_a_baseline_is_taken_over_in_steps(
    site: RebuildSite, chance: random.Random, monkeypatch: pytest.MonkeyPatch, keep_from: int
) -> None:
    """What removed events came to is there after a rebuild, left in the middle of it or not."""
    monkeypatch.setattr(follower, "_BASELINE_ROWS", 4)
    site.retain(min(keep_from, len(site.said) + 1))
    before = site.told()
    for stop_behind in (1, 2, 10**9):
        for taken, _ in enumerate(site.steps(), start=1):
            if taken == stop_behind:
                break
    after = site.told()
    steps = list(site.steps(check=True))
    taking = [one.done for one in steps if one.unit == "baseline rows"]

    assert before == after
    assert steps[-1].differences == 0
    assert taking == sorted(set(taking))
    assert taking
    assert len(taking) > 4 or keep_from != 60
    site.append(random_callbacks(chance, 20, ids=20))
    assert site.checked().differences == 0


def test_live_events_come_between_the_steps(site: RebuildSite, chance: random.Random) -> None:
    """However many come between any two steps: none is missing or there twice."""
    total = 0
    for step in site.steps():
        total = max(total, step.total)
        if total < 150:
            site.append(random_callbacks(chance, 2, ids=20))

    assert site.told() == modelled(site.said)
    assert total >= 150
    assert site.checked().differences == 0


def test_a_check_while_callbacks_come_finds_nothing(
    site: RebuildSite, chance: random.Random
) -> None:
    """What comes between two pages reaches both sides; the words of the stage stay the same."""
    comparing = 0
    notes: list[str] = []
    for step in site.steps(check=True):
        notes.append(step.note)
        if step.note == "comparing" and comparing < 15:
            comparing += 1
            site.append(random_callbacks(chance, 3, ids=20))
    stages = [note for at, note in enumerate(notes) if at == 0 or notes[at - 1] != note]

    assert comparing == 15
    assert stages == [FOLDING, "comparing", CLEARING, stages[-1]]
    assert stages[-1].startswith("no difference: ")


def test_a_check_leaves_nothing_behind(site: RebuildSite) -> None:
    """The live generation stays, the spare slot is empty, and the next check folds all anew."""
    generation = site.generation
    site.checked()
    left = spare_rows(site.data_dir)

    assert site.generation == generation
    assert left == 0
    assert _first_done(site) <= SMALL.rebuild_events_max


def test_the_live_views_behind_the_log_are_waited_for(
    site: RebuildSite, chance: random.Random
) -> None:
    """A rebuild ends beside the live views, and not at the log's head: both follow from there."""
    live = site.views.checkpoint().mark
    site.live.waiting = lambda *_: []  # type: ignore[method-assign]
    site.append(random_callbacks(chance, 30, ids=20))
    last = site.rebuilt()
    del site.live.waiting
    at_switch = site.views.checkpoint().mark
    site.follow()

    assert at_switch == live
    assert last.done == live.position
    assert site.told() == modelled(site.said)


def test_a_log_without_events(tmp_path: Path) -> None:
    """A rebuild of nothing is a new generation, and has no difference."""
    site = RebuildSite(tmp_path / "data", [])
    first = site.generation
    last = site.rebuilt()
    checked = site.checked()
    site.close()

    assert (last.done, last.total) == (0, 0)
    assert site.generation > first
    assert (checked.differences, checked.done) == (0, 0)
