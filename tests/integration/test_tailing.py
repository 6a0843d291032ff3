"""A reader follows the PostgreSQL log while 24 writers append to it under faults."""

import random
from pathlib import Path

from tests.postgres import database_url
from tests.tailing import followed

EVENTS = 50_000


def test_a_reader_misses_nothing(tmp_path: Path) -> None:
    """Whatever happens to the writers, each event is seen once, in order, and positions have no
    holes; what was acknowledged is there, once. A foreign transaction holds up nobody."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    found = followed("ours", database_url(tmp_path), EVENTS, seed)
    print(found)

    assert found.events >= EVENTS
    assert found.acknowledged > EVENTS / 2
    assert found.flawless


def test_a_naive_reader_would(tmp_path: Path) -> None:
    """The same load shows it of a log whose positions come from a sequence: the check can fail."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    found = followed("naive", database_url(tmp_path), EVENTS // 10, seed)
    print(found)

    assert found.missed > 0
