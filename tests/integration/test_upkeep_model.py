"""Rebuilding, erasure and retention in random order, against a model of a few lines.

The model keeps every report as it was posted. Erasure and retention take reports away from it;
what is left, folded by maxima and minima, is what the views have to show, live and rebuilt.
"""

import asyncio
import json
import random
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from service import config
from service.core import Core
from service.domain.erasure import Subject
from service.domain.events import EventKind, NewEvent, Place, Position
from service.domain.message import MessageKey
from service.domain.progress import Progress
from service.telemetry import Metrics
from service.views.store import MessageFilter, ViewsReader
from tests.clock import FakeClock
from tests.seeds import seeds
from tests.stores import settings_of

DAY_US = 24 * 3_600 * 1_000_000
BEGIN_US = 1_793_491_200_000_000
PHONES = [f"55119876500{number:02d}" for number in range(6)]
GROUP = "120363019502650977-group"
RANKS = {"SENT": 40, "FAILED": 50, "RECEIVED": 60, "READ": 70, "PLAYED": 80, "READ_BY_ME": 20}
ALL = 10_000


class Said(NamedTuple):
    """A report, as it was posted."""

    position: int
    time_us: int
    key: MessageKey
    word: str
    phone: str
    participant: str


class World:
    """A core over real stores, and the model beside it."""

    def __init__(self, core: Core, clock: FakeClock, dice: random.Random) -> None:
        self.core = core
        self.said: list[Said] = []
        self.gone: set[str] = set()
        """Phones forgotten and not heard of since."""
        self._clock = clock
        self._dice = dice

    async def post(self) -> None:
        """One callback: of a phone or a group, about some messages, or unreadable."""
        dice = self._dice
        self._clock.advance(dice.choice([0.5, 3_600, 40_000]))
        now_us = self._clock.now_us()
        word = dice.choice(list(RANKS))
        group = dice.random() < 0.3
        phone = GROUP if group else dice.choice(["", *PHONES])
        participant = dice.choice(["", "77001", *PHONES]) if group else ""
        ids = dice.sample([f"M{number:03d}" for number in range(40)], dice.choice([1, 1, 2, 5]))
        body: dict[str, Any] = {"type": "MessageStatusCallback", "status": word, "ids": ids}
        body |= {"phone": phone} if phone else {}
        body |= {"participant": participant} if participant else {}
        if dice.random() < 0.1:
            body = {"type": "Unknown", "deep": [{dice.choice(PHONES): 1}]}
            ids = []
        if dice.random() < 0.1:
            body["note"] = f"about {dice.choice(PHONES)}"
        text = json.dumps(body)
        for digit in "57" if dice.random() < 0.2 else "":
            text = text.replace(f'"{digit}', f'"\\u003{digit}')
        instance = dice.choice(["acme", "acme", "other"])
        self.gone = {one for one in self.gone if one not in json.dumps(body)}
        event = NewEvent(instance, now_us, EventKind.CALLBACK, text.encode())
        position = await self.core.appender.append(event)
        self.said += [
            Said(position, now_us, MessageKey(instance, one), word, phone, participant)
            for one in ids
        ]

    async def forget_message(self) -> None:
        message_id = f"M{self._dice.randrange(40):03d}"
        known = {one.key.instance for one in self.said if one.key.message_id == message_id}
        instance = self._dice.choice(["acme", "other"] if len(known) > 1 else ["", "acme"])
        await self._done(
            self.core.upkeep.forget(
                Subject(message_id=message_id, instance=instance), dry_run=False
            )
        )
        self.said = [
            one
            for one in self.said
            if one.key.message_id != message_id or instance not in ("", one.key.instance)
        ]

    async def forget_phone(self) -> None:
        phone = self._dice.choice(PHONES)
        await self._done(self.core.upkeep.forget(Subject(phone=phone), dry_run=False))
        theirs = {key for key, said in self._by_message().items() if _phone(said) == phone}
        self.said = [
            one._replace(
                phone=one.phone.replace(phone, ""),
                participant=one.participant.replace(phone, ""),
            )
            for one in self.said
            if one.key not in theirs
        ]
        self.gone.add(phone)

    async def retain(self) -> None:
        """Remove everything before some event, whatever its age."""
        head = (await self.core.log.run(lambda log: log.head())).position
        await self.core.hub.reached(head, 60)
        await self.core.upkeep.retain(self._dice.choice([0.0, 0.5, 2.0, 5.0]))
        kept_from = await self.core.log.run(lambda log: log.kept_from())
        ended = {
            key
            for key, said in self._by_message().items()
            if max(one.position for one in said) < kept_from
        }
        self.said = [one for one in self.said if one.key not in ended]

    async def rebuild(self) -> None:
        await self._done(self.core.upkeep.rebuild(check=False))

    async def compare(self) -> None:
        """The live views with the model, and with views built from the log."""
        head = (await self.core.log.run(lambda log: log.head())).position
        await self.core.hub.reached(head, 60)
        expected = {key: _folded(said) for key, said in self._by_message().items()}

        assert expected == await self.core.views.run(_shown)
        checked = await self._done(self.core.upkeep.rebuild(check=True))
        assert (0, True) == (checked.differences, checked.note.startswith("no difference"))

    def _by_message(self) -> dict[MessageKey, list[Said]]:
        found: dict[MessageKey, list[Said]] = defaultdict(list)
        for one in self.said:
            found[one.key].append(one)
        return found

    async def _done(self, steps: AsyncIterator[Progress]) -> Progress:
        last = [step async for step in steps][-1:]
        return last[0] if last else Progress(0, 0, "", "")


def _phone(said: list[Said]) -> str:
    return next((one.phone for one in said if one.phone), "")


def _folded(said: list[Said]) -> dict[str, Any]:
    ranks = [RANKS[one.word] for one in said]
    recipients = {one.participant for one in said if one.participant}
    return {
        "status": max(ranks),
        "stages": {rank: min(o.time_us for o in said if RANKS[o.word] == rank) for rank in ranks},
        "phone": _phone(said),
        "reports": len(said),
        "recipients": {
            who: max(RANKS[one.word] for one in said if one.participant == who)
            for who in recipients
        },
    }


def _shown(views: ViewsReader) -> dict[MessageKey, dict[str, Any]]:
    page = views.last_changed(MessageFilter(), Place(Position(2**62)), ALL, ALL)
    shown = {}
    for one in page.messages:
        key = MessageKey(one.instance, one.message_id)
        recipients = {each.participant: each.status for each in views.recipients(key, "", ALL)}
        assert one.recipient_count == len(recipients)
        shown[key] = {
            "status": one.status,
            "stages": {stage.status: stage.receive_time_us for stage in one.stages},
            "phone": one.phone,
            "reports": one.report_count,
            "recipients": recipients,
        }
    return shown


def _found_in(folder: Path, phones: set[str]) -> set[str]:
    """Looked for by another program: reading a database's file here would drop its locks."""
    return {
        phone
        for phone in phones
        if subprocess.run(["grep", "-raq", phone, str(folder)], check=False).returncode == 0
    }


@asynccontextmanager
async def _core(folder: Path, clock: FakeClock) -> AsyncIterator[Core]:
    settings = config.load(settings_of(folder))
    async with Core(settings, clock, Metrics()) as core:
        yield core


@pytest.mark.parametrize("seed", seeds(3))
async def test_views_stay_what_the_log_says(tmp_path: Path, seed: int) -> None:
    """Whatever is erased, expired, rebuilt and restarted in between: views, rebuilt views and
    the model agree, and a forgotten phone stands in no file."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    clock = FakeClock(BEGIN_US)
    said: list[Said] = []
    gone: set[str] = set()
    async with asyncio.timeout(120):
        for _ in range(4):
            async with _core(tmp_path, clock) as core:
                world = World(core, clock, dice)
                world.said, world.gone = said, gone
                for _ in range(dice.randrange(5, 15)):
                    for _ in range(dice.randrange(1, 40)):
                        await world.post()
                    await dice.choice(
                        [
                            world.forget_message,
                            world.forget_phone,
                            world.retain,
                            world.rebuild,
                            world.compare,
                        ]
                    )()
                await world.compare()
                said, gone = world.said, world.gone
                assert set() == _found_in(tmp_path, gone)
