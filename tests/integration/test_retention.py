"""Retention over real stores: what the views show stays what the kept log says, on its baseline."""

import random
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import pytest

from service.domain.erasure import Erasure, Subject
from service.domain.events import BEFORE_FIRST, EventKind, NewEvent, Position
from service.domain.message import MessageKey
from service.projector.retention import Retention
from service.upkeep.baseline import forgotten
from service.upkeep.scan import buried, look
from service.views.sqlite_reader import SqliteViewsReader
from tests.fold_model import BEGIN_US, HOUR_US, PHONES
from tests.histories import Said
from tests.rebuild_site import SMALL, RebuildSite
from tests.retention_site import RetentionSite, expected, live_rows, write

DAY_US = 24 * HOUR_US
PHONE = PHONES[0]
GROUP_READ: list[Said] = [
    ("acme", {"type": "MessageStatusCallback", "status": "READ", "ids": ["G"], "participant": who})
    for who in (PHONE, "77002")
]


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def site(tmp_path: Path, dice: random.Random) -> Iterator[RetentionSite]:
    made = RetentionSite(tmp_path / "data", dice)
    yield made
    made.close()


def _differences(site: RetentionSite) -> tuple[int, str]:
    """Between the live views and those that the log gives."""
    last = site.checked()
    return last.differences, last.note


def _erase(site: RebuildSite, phone: str) -> None:
    """What erasing a phone without messages does to the log; the views do not hear of it yet."""
    subject, now_us = Subject(phone=phone), BEGIN_US + DAY_US
    found = look(site.log, subject, BEFORE_FIRST, site.log.head().position, 1_000)
    tombstones = buried(site.log, subject, found.holding, now_us)
    erasure = Erasure(now_us, "phone", tuple(found.holding), len(found.holding))
    event = NewEvent("", now_us, EventKind.ERASURE, msgspec.json.encode(erasure))
    change = forgotten(site.log.baseline(), subject).change
    write(site, lambda log: log.erase(tombstones, event, change))


@pytest.mark.parametrize("_round", range(5))
def test_the_views_stay_what_the_log_says(
    site: RetentionSite, dice: random.Random, _round: int
) -> None:
    """Several cuts in a row, anywhere, events of every kind between them: live views, a rebuild,
    views built anew and the model agree on everything."""
    for _ in range(dice.randint(2, 6)):
        site.tell(dice.randint(1, 60))
        head = len(site.model.told)
        site.cut(dice.choice((head, dice.randint(1, head), site.model.kept_from + 1)))

        assert site.shown() == expected(site.model)
        assert _differences(site)[0] == 0, _differences(site)
        if dice.random() < 0.5:
            before = live_rows(site.data_dir)
            site.without_views()
            assert live_rows(site.data_dir) == before
    site.rebuilt()
    assert site.shown() == expected(site.model)


def test_an_erasure_that_waits_is_folded_before_anything_is_removed(tmp_path: Path) -> None:
    """The views still show what an event said that is a tombstone already: had retention removed
    it first, nothing would be left to tell whom the erasure was about."""
    site = RebuildSite(tmp_path / "data", GROUP_READ)
    _erase(site, PHONE)
    waiting = list(site.live.waiting())
    for _ in Retention(Position(2), partial(write, site), site.cursors, SMALL)(site.hands):
        # As the projector does, between steps.
        site.follow()
    with closing(SqliteViewsReader(site.data_dir / "views.db")) as reader:
        shown = reader.recipients(MessageKey("acme", "G"), "", 9)
    kept_from, checked = site.log.kept_from(), site.checked()
    site.close()

    assert [event.kind for event in waiting] == [EventKind.ERASURE]
    assert [one.participant for one in shown] == ["77002"]
    assert kept_from == 2
    assert checked.differences == 0, checked.note
