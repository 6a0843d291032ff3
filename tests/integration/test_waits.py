"""Waits over a core in this process: what wakes them, and when one could be missed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from service import errors
from service.api.access import LOCAL
from service.api.calls import Call
from service.api.status import MessageStatuses
from service.api.waits import Wait, Waits
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.status import Status
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.views.store import ViewsReader
from tests.call_context import CallContext
from tests.watch_site import CALL, WatchSite, watch_site

pytestmark = pytest.mark.both_stores

SHORT = Limits(wait_s=0.2)
PATIENCE_S = 15.0
"""Far more than any wait takes; a test that waits longer has found a hang."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[WatchSite]:
    async with watch_site(tmp_path / "data", SHORT) as opened:
        yield opened


def _for_read(message_id: str = "A", **given: Any) -> pb.WaitForStatusRequest:
    return pb.WaitForStatusRequest(message_id=message_id, at_least=pb.STATUS_READ, **given)


class Paused:
    """The views, whose answers are held back until they are let go."""

    def __init__(self, views: ReaderPool[ViewsReader]) -> None:
        self._views = views
        self.answers = 0
        self._asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def run_short(self, read: Callable[[ViewsReader], Any]) -> Any:
        answer = await self._views.run_short(read)
        self.answers += 1
        self._asked.set()
        await self.go_on.wait()
        return answer

    async def asked(self) -> None:
        """Wait until it was, once more each time."""
        async with asyncio.timeout(PATIENCE_S):
            await self._asked.wait()
        self._asked.clear()


def _statuses(site: WatchSite, views: Any, limits: Limits) -> MessageStatuses:
    shared = site.shared
    return MessageStatuses(views, shared.hub, shared.starts, limits, site.metrics)


def _message(answer: bytes) -> pb.MessageStatus:
    return pb.WaitForStatusResponse.FromString(answer).message


async def test_what_comes_behind_the_look_at_the_store_wakes(site: WatchSite) -> None:
    """The store was asked before the report, and its answer comes after it: not missed."""
    views = Paused(site.core.views)
    statuses = _statuses(site, views, Limits())
    waiting = asyncio.create_task(statuses.wait(_for_read(), CALL))
    await views.asked()
    await site.post("A", "READ")
    views.go_on.set()

    assert _message(await waiting).status == pb.STATUS_READ
    assert views.answers == 2


async def test_only_what_can_end_a_wait_wakes_it(site: WatchSite) -> None:
    """Lower statuses, other messages and other instances cost no look at the store."""
    views = Paused(site.core.views)
    views.go_on.set()
    statuses = _statuses(site, views, Limits())
    await site.post("A", "SENT")
    waiting = asyncio.create_task(statuses.wait(_for_read(instance="acme"), CALL))
    await views.asked()
    for word in ("SENT", "RECEIVED", "PENDING", "RECEIVED"):
        await site.post("A", word)
    await site.post("B", "READ")
    await site.post("A", "READ", instance="other")
    looked = views.answers
    await site.post("A", "READ")
    message = _message(await waiting)

    assert (looked, views.answers) == (1, 2)
    assert (message.instance, message.status) == ("acme", pb.STATUS_READ)


async def test_without_a_deadline_it_waits_its_time(site: WatchSite) -> None:
    """The limit of the configuration, and then WAIT_TIMED_OUT; nothing stays."""
    with pytest.raises(errors.WaitTimedOut, match=r"0\.2 s"):
        await site.statuses.wait(_for_read(), CALL)

    assert len(site.core.hub.waits) == 0
    assert site.metrics.waits._value.get() == 0


async def test_a_deadline_that_is_over_ends_at_once(site: WatchSite) -> None:
    """No time left is no reason to hang, or to answer anything but that."""
    with pytest.raises(errors.WaitTimedOut):
        await site.statuses.wait(_for_read(), Call(LOCAL, CallContext(-1.0)))


async def test_those_that_began_together_end_one_after_the_other() -> None:
    """Deadlines at one moment are spread over a stretch before it; that of a few is as it was."""
    waits = Waits()
    alone_s = waits.wait_s(10.0)
    for number in range(2_000):
        waits.add(Wait(str(number), "", Status.READ, ignore_failure=False))
    ends_s = sorted(waits.wait_s(10.0) for _ in range(2_000))
    steps_s = [later - earlier for earlier, later in pairwise(ends_s)]

    assert alone_s == 10.0
    assert 8.5 <= ends_s[0] < 9.1
    assert 9.9 < ends_s[-1] <= 10.0
    assert max(steps_s) < 0.002
    assert 0.85 <= waits.wait_s(1.0) <= 1.0


async def test_a_wait_that_is_left_leaves_nothing(site: WatchSite) -> None:
    """Cancelled while it waits, and while it asks the store."""
    views = Paused(site.core.views)
    statuses = _statuses(site, views, Limits())
    asking = asyncio.create_task(statuses.wait(_for_read(), CALL))
    await views.asked()
    others = Paused(site.core.views)
    others.go_on.set()
    waiting = asyncio.create_task(_statuses(site, others, Limits()).wait(_for_read("B"), CALL))
    await others.asked()
    for one in (asking, waiting):
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one

    assert len(site.core.hub.waits) == 0
    assert site.metrics.waits._value.get() == 0


async def test_a_drain_ends_those_that_ask_the_store_too(site: WatchSite) -> None:
    """Told to end in the middle of a look: it ends behind that look."""
    views = Paused(site.core.views)
    statuses = _statuses(site, views, Limits())
    waiting = asyncio.create_task(statuses.wait(_for_read(), CALL))
    await views.asked()
    site.core.hub.drain()
    views.go_on.set()

    with pytest.raises(errors.ShuttingDown):
        await waiting


async def test_a_rebuild_makes_every_wait_look_again(site: WatchSite) -> None:
    """What the rebuilt views say of a message ends the wait, though no report came."""
    views = Paused(site.core.views)
    views.go_on.set()
    waiting = asyncio.create_task(_statuses(site, views, Limits()).wait(_for_read(), CALL))
    await views.asked()
    async for _ in site.core.upkeep.rebuild(check=False):
        pass
    await views.asked()
    await site.post("A", "READ")

    assert _message(await waiting).status == pb.STATUS_READ
