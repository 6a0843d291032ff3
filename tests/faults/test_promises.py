"""Validators: none complains of an unbroken history, and each finds what it is meant to find."""

import copy
import random

import pytest

from tests.faults import damage_ends, damage_shape
from tests.faults.case import Case
from tests.faults.damage import WAYS, Spot, Way
from tests.faults.history import History, load, save
from tests.faults.perfect import perfect
from tests.faults.promises import VALIDATORS, judged

_WAYS_STAND_IN = (damage_ends, damage_shape)


@pytest.fixture(scope="module")
def unbroken() -> History:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return perfect(seed)


def test_an_unbroken_history_is_accepted(unbroken: History) -> None:
    """Streams of every kind, resumed anywhere, over a rebuild, a kill and a stop."""
    assert [] == [str(violation) for violation in judged(unbroken)]


@pytest.mark.parametrize(("promise", "way"), WAYS, ids=lambda one: getattr(one, "__name__", one))
def test_a_broken_promise_is_found(unbroken: History, promise: str, way: Way) -> None:
    """Whatever breaks a promise, the validator of that name says so."""
    seed = random.randrange(2**32)
    print(f"seed {seed}, of the history {unbroken.seed}")
    broken = copy.deepcopy(unbroken)
    way(Spot(broken, Case(broken), random.Random(seed)))

    assert next(VALIDATORS[promise](Case(broken)), "") != ""


def test_every_promise_is_broken_somehow() -> None:
    """No validator is without a history that it refuses."""
    assert set(VALIDATORS) == {promise for promise, _ in WAYS}


def test_a_saved_history_is_the_same(
    unbroken: History, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What a failed round leaves behind can be judged again."""
    path = tmp_path_factory.mktemp("saved") / "history.json"
    save(unbroken, path)

    assert load(path) == unbroken
