"""Erasures before, between and after removals, with every kind of event, against the model."""

import dataclasses
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service import config
from service.config import Limits
from service.core import Core
from service.domain.erasure import Subject
from service.domain.events import EventKind, NewEvent
from service.telemetry import Metrics
from tests.clock import FakeClock
from tests.fold_model import BEGIN_US, INSTANCES, PHONES, Model, Teller, Told
from tests.retention_site import Shown, expected, shown
from tests.seeds import seeds
from tests.stores import settings_of

DAY_US = 24 * 3_600 * 1_000_000
NOW_US = BEGIN_US + 1_000 * DAY_US
DEADLINE_S = 60.0


class Forgetting(Model):
    """What is erased was never said; whom it was said of otherwise, stays."""

    def message(self, message_id: str, instance: str) -> None:
        def theirs(one: str, of: str) -> bool:
            return one == message_id and instance in ("", of)

        self.said = [one for one in self.said if not theirs(one.key[1], one.key[0])]
        for told in self.told:
            if message_id.encode() in told.event.content and theirs(
                message_id, told.event.instance
            ):
                told.quarantined = None

    def phone(self, phone: str) -> None:
        theirs = {key for key, known in self.messages().items() if known.state.phone == phone}
        self.said = [
            one._replace(
                phone=one.phone.replace(phone, ""),
                participant=one.participant.replace(phone, ""),
            )
            for one in self.said
            if one.key not in theirs
        ]
        named = [(key[0], f'"{key[1]}"'.encode()) for key in theirs]
        for told in self.told:
            if any(told.event.instance == of and one in told.event.content for of, one in named):
                told.quarantined = None


class World:
    """A running core, and the model beside it."""

    def __init__(self, model: Forgetting, teller: Teller, dice: random.Random) -> None:
        self.model = model
        self._teller = teller
        self._dice = dice
        self.core: Core

    async def tell(self) -> None:
        for _ in range(self._dice.randrange(1, 40)):
            told = self._teller.told()
            await self.core.appender.append(told.event)
            self.model.add(told)
        await self._folded()

    async def forget(self) -> None:
        dice = self._dice
        if dice.random() < 0.5:
            subject = Subject(message_id=f"M{dice.randrange(12)}", instance=dice.choice(INSTANCES))
            self.model.message(subject.message_id, subject.instance)
        else:
            subject = Subject(phone=dice.choice(PHONES))
            self.model.phone(subject.phone)
        async for _ in self.core.upkeep.forget(subject, dry_run=False):
            pass
        head = await self.core.log.run(lambda log: log.head())
        while len(self.model.told) < head.position:
            self.model.add(Told(NewEvent("", head.receive_time_us, EventKind.ERASURE, b"")))
        await self._folded()

    async def retain(self) -> None:
        time_us = self._dice.choice(self.model.told).event.receive_time_us
        await self.core.upkeep.retain((NOW_US - time_us) / DAY_US)
        self.model.cut(await self.core.log.run(lambda log: log.kept_from()))

    async def compare(self) -> None:
        kept_from = await self.core.log.run(lambda log: log.kept_from())
        found = await self.core.views.run(lambda views: shown(views, kept_from))
        checked = [one async for one in self.core.upkeep.rebuild(check=True)][-1]

        assert _lasting(found, kept_from) == _lasting(expected(self.model), kept_from)
        assert checked.differences == 0, checked.note

    async def _folded(self) -> None:
        head = await self.core.log.run(lambda log: log.head())
        await self.core.hub.reached(head.position, DEADLINE_S)


def _lasting(all_of: Shown, kept_from: int) -> Shown:
    """Without the last change of messages, where it was removed: nothing tells any more whether it
    was about somebody who was erased later."""
    return all_of._replace(
        messages={
            key: known
            if known.changed_at[0] >= kept_from
            else known._replace(update_time_us=0, changed_at=(0, 0))
            for key, known in all_of.messages.items()
        }
    )


@asynccontextmanager
async def _core(folder: Path) -> AsyncIterator[Core]:
    settings = config.load(settings_of(folder))
    # So few that a removal takes several steps.
    settings = dataclasses.replace(settings, limits=Limits(retention_events_max=7))
    async with Core(settings, FakeClock(NOW_US), Metrics()) as core:
        yield core


def _delete_views(folder: Path) -> None:
    for file in folder.glob("views.db*"):
        file.unlink()


@pytest.mark.parametrize("seed", seeds(4))
async def test_erasures_and_removals_in_any_order(tmp_path: Path, seed: int) -> None:
    """Live views, a rebuild and the model agree on all that is left, over restarts too, and where
    the views were deleted between them."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    world = World(Forgetting(), Teller(dice), dice)
    for _ in range(3):
        async with _core(tmp_path) as world.core:
            await world.tell()
            for act in dice.choices([world.tell, world.forget, world.retain], (3, 2, 2), k=6):
                await act()
                await world.compare()
        if dice.random() < 0.5:
            _delete_views(tmp_path)
