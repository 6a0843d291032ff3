"""Erasure over real stores, against a model of what has to stay."""

import asyncio
import dataclasses
import json
import random
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from service import config
from service.clock import SystemClock
from service.config import Limits
from service.core import Core
from service.database.database import unfenced
from service.domain.erasure import Subject
from service.domain.events import BEFORE_FIRST, EventKind, NewEvent, Place, Position
from service.domain.message import MessageKey
from service.domain.progress import Progress
from service.eventlog.log import LogReader
from service.telemetry import Metrics
from service.upkeep import erasure
from service.views.store import MessageFilter, ViewsReader
from tests.erasure_model import (
    OLD_GROUP,
    PHONES,
    Counts,
    Key,
    Model,
    Posted,
    Shown,
    posted,
    subject,
)
from tests.stores import copied, settings_of

ALL = 100_000
DEADLINE_S = 120.0
SMALL = {"erase_events_max": 3, "scan_events_max": 5, "clear_rows_max": 50}
"""So that every erasure takes several looks and transactions."""


@asynccontextmanager
async def core_at(folder: Path, **limits: Any) -> AsyncIterator[Core]:
    settings = config.load(settings_of(folder))
    settings = dataclasses.replace(
        settings, limits=dataclasses.replace(Limits(), task_progress_s=0.01, **limits)
    )
    async with asyncio.timeout(DEADLINE_S), Core(settings, SystemClock(), Metrics()) as core:
        yield core


async def post(core: Core, model: Model, *bodies: Posted) -> None:
    """Record the callbacks, and tell the model."""
    now_us = SystemClock().now_us()
    positions = await asyncio.gather(
        *(
            core.appender.append(NewEvent(one.instance, now_us, EventKind.CALLBACK, one.raw))
            for one in bodies
        )
    )
    model.posted.update(zip(positions, bodies, strict=True))


async def forget(core: Core, what: Subject, *, dry_run: bool = False) -> str:
    """What the end of it said."""
    told = [one async for one in core.upkeep.forget(what, dry_run=dry_run)]
    return told[-1].note


async def rebuild(core: Core, *, check: bool) -> Progress:
    told = [one async for one in core.upkeep.rebuild(check=check)]
    return told[-1]


def as_told(did: str, counts: Counts) -> str:
    return (
        f"{did} {counts.callbacks} callbacks, {counts.messages} messages and "
        f"{counts.recipients} recipients of other messages"
    )


def shown(views: ViewsReader) -> dict[Key, Shown]:
    """What the views show of every message."""
    found = views.last_changed(MessageFilter(), Place(Position(2**62)), ALL, ALL).messages
    return {
        (one.instance, one.message_id): Shown(
            phone=one.phone,
            group=one.group,
            ranks=tuple(stage.status for stage in one.stages),
            word=one.provider_status,
            code=one.failure_code,
            reason=one.failure_reason,
            reports=tuple(
                (report.place.position, report.place.index)
                for report in views.reports(
                    MessageKey(one.instance, one.message_id), Place(BEFORE_FIRST), ALL
                )
            ),
            recipients={
                recipient.participant: (recipient.status, recipient.provider_status)
                for recipient in views.recipients(MessageKey(one.instance, one.message_id), "", ALL)
            },
        )
        for one in found
    }


def bodies(log: LogReader) -> dict[int, bytes]:
    """The body of every callback, empty for tombstones."""
    kinds = (EventKind.CALLBACK, EventKind.TOMBSTONE)
    return {
        event.position: event.content if event.kind is EventKind.CALLBACK else b""
        for event in log.read(BEFORE_FIRST, ALL, 1 << 30)
        if event.kind in kinds
    }


def unescaped(content: bytes) -> str:
    """With every \\uXXXX undone, however deep it is quoted."""
    text = content.decode()
    return re.sub(r"\\+u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)


async def assert_same(core: Core, model: Model) -> None:
    """Both stores hold what the model says, and the views are what the log gives."""
    head = await core.log.run(lambda log: log.head())
    await core.hub.reached(head.position, DEADLINE_S)
    assert await core.log.run(bodies) == {at: one.raw for at, one in model.posted.items()}
    assert await core.views.run(shown) == model.shown()
    quarantined = await core.views.run(
        lambda views: {row.position for row in views.quarantine((), Position(2**62), ALL)}
    )
    assert quarantined == {at for at, one in model.posted.items() if one.quarantined}
    checked = await rebuild(core, check=True)
    assert checked.differences == 0, checked.note


async def said_of(core: Core, phone: str) -> list[int]:
    """Positions of events whose content holds the phone, in any spelling."""
    events = await core.log.run(lambda log: log.read(BEFORE_FIRST, ALL, 1 << 30))
    return [one.position for one in events if phone in unescaped(one.content)]


@pytest.mark.parametrize("limits", [{}, SMALL], ids=["as served", "many transactions"])
async def test_random_histories(tmp_path: Path, limits: dict[str, int]) -> None:
    """Whatever was posted and forgotten before, exactly what the model says is gone and stays."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    model = Model()
    async with core_at(tmp_path, **limits) as core:
        for step in range(10):
            await post(core, model, *(posted(dice) for _ in range(dice.randint(1, 30))))
            what = model.unambiguous(subject(dice))
            would = await forget(core, what, dry_run=True)
            did = await forget(core, what)
            counts = model.forget(what)
            assert would == as_told("would erase", counts)
            # Ids as short as these stand in the files by chance.
            assert did.partition(";")[0] == as_told("erased", counts)
            await assert_same(core, model)
            if what.phone:
                assert ";" not in did
                assert await said_of(core, what.phone) == []
            again = await forget(core, what)
            assert again.partition(";")[0] == as_told("erased", Counts(0, 0, 0))
            if step % 5 == 4:
                await rebuild(core, check=False)
                await assert_same(core, model)


class Interrupted(Exception):
    """The caller left."""


async def forget_until(core: Core, what: Subject, steps: int) -> bool:
    """Leave at that sign of progress; True if it had ended before."""
    left = steps

    def tell(_progress: Progress) -> None:
        nonlocal left
        left -= 1
        # The projector's own steps are told from its thread.
        if left <= 0 and threading.current_thread() is threading.main_thread():
            raise Interrupted

    try:
        await erasure.forget(core.upkeep._parts, what, unfenced, dry_run=False, tell=tell)
    except Interrupted:
        return False
    return True


# The second: what says whose a message is comes behind an event that holds the phone elsewhere.
@pytest.mark.parametrize("kept", [None, 3631058043])
async def test_interrupted_anywhere(tmp_path: Path, kept: int | None) -> None:
    """Left at any step, any number of times, and asked again: the same as asked once."""
    seed = random.randrange(2**32) if kept is None else kept
    print(f"seed {seed}")
    dice = random.Random(seed)
    model = Model()
    async with core_at(tmp_path, **SMALL) as core:
        for _ in range(8):
            await post(core, model, *(posted(dice) for _ in range(dice.randint(5, 25))))
            what = model.unambiguous(subject(dice))
            model.forget(what)
            for _ in range(dice.randint(1, 4)):
                await forget_until(core, what, dice.randint(1, 25))
            await forget(core, what)
            await assert_same(core, model)


DAY_US = 24 * 3_600 * 1_000_000


def about(*ids: str, word: str = "SENT", **more: str) -> bytes:
    body = {"type": "MessageStatusCallback", "status": word, "ids": ids, **more}
    return json.dumps(body).encode()


async def history_with_a_baseline(folder: Path) -> None:
    """What retention removed is all that says whose the message M is."""
    old = [
        about("M", phone=PHONES[0]),
        about("G", phone=OLD_GROUP, participant=PHONES[0], word="READ"),
        about("G", phone=OLD_GROUP, participant="lid-1"),
        about("N", phone=PHONES[1]),
    ]
    new = [about("M", word="READ"), about("M", "N", word="RECEIVED")] * 4
    new += [about("G", phone=PHONES[0], participant=PHONES[0]), about("N", "G")] * 3
    new += [about("K", phone=PHONES[0]), about("K"), about("K", "M", phone=OLD_GROUP)] * 2
    now_us = SystemClock().now_us()
    received = [(one, now_us - 10 * DAY_US) for one in old] + [(one, now_us) for one in new]
    async with core_at(folder) as core:
        positions = await asyncio.gather(
            *(
                core.appender.append(NewEvent("acme", time_us, EventKind.CALLBACK, body))
                for body, time_us in received
            )
        )
        await core.hub.reached(positions[-1], DEADLINE_S)
        await core.upkeep.retain(5.0)
        assert await core.log.run(lambda log: log.kept_from()) == len(old) + 1


async def left_in(core: Core) -> tuple[dict[int, bytes], dict[Key, Shown]]:
    """What the stores hold, the same in both: callbacks and messages."""
    head = await core.log.run(lambda log: log.head())
    await core.hub.reached(head.position, DEADLINE_S)
    checked = await rebuild(core, check=True)
    assert checked.differences == 0, checked.note
    return await core.log.run(bodies), await core.views.run(shown)


async def test_interrupted_over_a_baseline(tmp_path: Path) -> None:
    """What only the baseline knows of a phone is known to the end, wherever it was interrupted."""
    await history_with_a_baseline(tmp_path / "begin")
    what = Subject(phone=PHONES[0])
    copied(tmp_path / "begin", tmp_path / "once")
    async with core_at(tmp_path / "once", **SMALL) as core:
        assert (await forget(core, what)).startswith("erased ")
        once = await left_in(core)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    for steps in random.Random(seed).sample(range(5, 21), 6):
        print(f"left after {steps} steps")
        folder = tmp_path / f"after {steps}"
        copied(tmp_path / "begin", folder)
        async with core_at(folder, **SMALL) as core:
            await forget_until(core, what, steps)
            await forget(core, what)
            assert await left_in(core) == once

    assert sorted(once[1]) == [("acme", "G"), ("acme", "N")]
    assert once[1]["acme", "G"].phone == ""
    assert list(once[1]["acme", "G"].recipients) == ["lid-1"]
    assert once[1]["acme", "N"].phone == PHONES[1]


async def test_what_comes_meanwhile(tmp_path: Path) -> None:
    """All that was recorded before the last transaction goes; what waited for it starts anew."""
    events: list[asyncio.Future[Position]] = []
    async with core_at(tmp_path) as core:

        def record(body: bytes) -> None:
            now_us = SystemClock().now_us()
            event = NewEvent("acme", now_us, EventKind.CALLBACK, body)
            events.append(core.appender.append(event))

        def tell(_progress: Progress) -> None:
            if threading.current_thread() is threading.main_thread() and len(events) < 500:
                record(about("M", word="READ"))
                record(about("M", "N", word="READ"))

        record(about("M", phone=PHONES[0]))
        await asyncio.gather(*events)
        what = Subject(phone=PHONES[0])
        await erasure.forget(core.upkeep._parts, what, unfenced, dry_run=False, tell=tell)
        positions = await asyncio.gather(*events)
        erased = await core.log.run(erasures)
        left, messages = await left_in(core)

    assert len(positions) > 10
    assert {at for at, body in left.items() if body} == {at for at in left if at > erased[-1]}
    assert len(messages["acme", "N"].reports) == (len(positions) - 1) // 2
    news = messages["acme", "M"].reports if ("acme", "M") in messages else ()
    assert [at for at, _ in news] == [at for at in left if at > erased[-1]]


async def test_a_message_that_becomes_the_phone_s_meanwhile(tmp_path: Path) -> None:
    """Its earlier events, which were looked at already, go as well."""
    async with core_at(tmp_path) as core:
        now_us = SystemClock().now_us()
        first = [about("M", phone=PHONES[0]), about("N"), about("N", "O"), b'{"about":"N"}']
        bodies_of = [NewEvent("acme", now_us, EventKind.CALLBACK, one) for one in first]
        late = NewEvent("acme", now_us, EventKind.CALLBACK, about("N", phone=PHONES[0]))
        await asyncio.gather(*map(core.appender.append, bodies_of))
        recorded: list[asyncio.Future[Position]] = []

        def tell(progress: Progress) -> None:
            if progress.note == "erasing" and not recorded:
                recorded.append(core.appender.append(late))

        what = Subject(phone=PHONES[0])
        await erasure.forget(core.upkeep._parts, what, unfenced, dry_run=False, tell=tell)
        left, messages = await left_in(core)

    assert len(recorded) == 1
    assert set(left.values()) == {b""}
    assert list(messages) == [("acme", "O")]


def erasures(log: LogReader) -> list[Position]:
    return [
        event.position
        for event in log.read(BEFORE_FIRST, ALL, 1 << 30)
        if event.kind is EventKind.ERASURE
    ]
