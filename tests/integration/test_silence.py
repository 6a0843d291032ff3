"""What is missing is found: instances, messages, webhooks, folding. The clock is the test's."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from service import config
from service.domain.events import EventKind, NewEvent
from service.domain.webhook import Attempt, Outcome, WebhookState
from service.telemetry import Metrics
from service.upkeep.silence import Finding, Missing, Silence
from tests.calls import callback, post
from tests.clock import FakeClock
from tests.command import plugstatus
from tests.server_process import ServerProcess
from tests.stores import settings_of
from tests.watch_site import DEADLINE_S, WatchSite, watch_site

pytestmark = pytest.mark.both_stores

HOUR = 3_600.0
DAY = 24 * HOUR


class Site:
    """A log that is followed, and what is missing in it."""

    def __init__(self, site: WatchSite, folder: Path, clock: FakeClock) -> None:
        self.site = site
        self.clock = clock
        self.metrics = Metrics()
        self._config = config.load(settings_of(folder))

    async def found(self) -> list[Finding]:
        """Now, whatever was found before."""
        core = self.site.core
        silence = Silence(self._config, self.clock, core.log, core.views, self.metrics)
        found = await silence.found()
        silence._tell(found)
        return list(found)

    async def kinds(self) -> list[tuple[Missing, str, int]]:
        return [(one.kind, one.instance, one.count) for one in await self.found()]

    def metric(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"plugstatus_{name}") or 0.0

    async def own(self, kind: EventKind, content: Attempt | Outcome) -> None:
        """An event of ours, folded in."""
        event = NewEvent("acme", self.clock.now_us(), kind, msgspec.json.encode(content))
        position = await self.site.core.appender.append(event)
        await self.site.core.hub.reached(position, DEADLINE_S)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    clock = FakeClock()
    async with watch_site(tmp_path, clock=clock) as running:
        yield Site(running, tmp_path, clock)


async def test_an_instance_that_went_quiet(site: Site) -> None:
    """Told after six hours, until it talks again; forgotten after a week."""
    await site.site.post("A", "READ", instance="one")
    await site.site.post("B", "READ", instance="two")
    site.clock.advance(5 * HOUR)
    await site.site.post("C", "READ", instance="two")
    before = await site.kinds()
    site.clock.advance(1.5 * HOUR)
    quiet, counted = await site.kinds(), site.metric("silent_instances")
    await site.site.post("D", "READ", instance="one")
    after = await site.kinds()
    site.clock.advance(6.9 * DAY)
    both = await site.kinds()
    site.clock.advance(0.2 * DAY)
    forgotten = await site.kinds()

    assert before == after == forgotten == []
    assert quiet == [(Missing.INSTANCE_SILENT, "one", 1)]
    assert counted == 1
    assert [instance for _, instance, _ in both] == ["two", "one"]
    assert site.metric("silent_instances") == 0


async def test_messages_that_stay_sent(site: Site) -> None:
    """A day after they were sent, those of which nothing was heard are counted, for a week."""
    for name, status in (("A", "SENT"), ("B", "SENT"), ("C", "RECEIVED"), ("D", "FAILED")):
        await site.site.post(name, status)
    site.clock.advance(0.9 * DAY)
    await site.site.post("E", "SENT")
    early = await site.kinds()
    site.clock.advance(0.2 * DAY)
    await site.site.post("F", "READ")
    late, counted = await site.kinds(), site.metric("stuck_messages")
    await site.site.post("A", "READ")
    heard = await site.kinds()
    site.clock.advance(DAY)
    await site.site.post("F", "PLAYED")
    another = await site.kinds()
    site.clock.advance(7 * DAY)
    await site.site.post("G", "READ")

    assert early == []
    assert late == [(Missing.MESSAGES_STUCK, "", 2)]
    assert counted == 2
    assert heard == [(Missing.MESSAGES_STUCK, "", 1)]
    assert another == [(Missing.MESSAGES_STUCK, "", 2)]
    assert await site.kinds() == []


async def test_a_webhook_behind_which_nothing_comes(site: Site) -> None:
    """Accepted half an hour ago and not confirmed; a newer attempt, or a callback, ends it."""
    for number in ("1", "2"):
        attempt = Attempt(
            update_id=number, request_id="", url="https://x", url_sha256="s", updated_by="ops"
        )
        await site.own(EventKind.WEBHOOK_ATTEMPT, attempt)
        outcome = Outcome(update_id=number, state=WebhookState.ACCEPTED, error="", error_reason="")
        await site.own(EventKind.WEBHOOK_OUTCOME, outcome)
    at_first = await site.kinds()
    site.clock.advance(0.6 * HOUR)
    late, counted = await site.kinds(), site.metric("unconfirmed_webhooks")
    await site.site.post("A", "READ")

    assert at_first == []
    assert late == [(Missing.WEBHOOK_UNCONFIRMED, "acme", 1)]
    assert counted == 1
    assert await site.kinds() == []


async def test_views_that_are_behind(site: Site) -> None:
    """Events that nobody folds are told of once the oldest is half a minute old."""
    await site.site.post("A", "READ")
    await site.site.core._projector.stop()
    for name in ("B", "C"):
        await site.site.append(callback(name, "READ"))
    early = await site.kinds()
    site.clock.advance(31)

    assert early == []
    assert await site.kinds() == [(Missing.VIEWS_BEHIND, "", 2)]


async def test_the_command_tells_of_it(tmp_path: Path) -> None:
    """`plugstatus status` has a line for each, the metrics a count, the log the instance."""
    data = tmp_path / "data"
    with ServerProcess(data, {"SILENT_AFTER_S": "0.001", "STUCK_AFTER_S": "0.001"}) as server:
        async with (
            httpx.AsyncClient(base_url=server.http, trust_env=False) as http,
            httpx.AsyncClient(base_url=server.ops, trust_env=False) as ops,
            asyncio.timeout(60),
        ):
            await post(http, callback("A"))
            told = ""
            while "1 message(s)" not in told:
                run = await asyncio.to_thread(plugstatus, "status", API_TARGET=server.grpc)
                told = run.stdout
            page = (await ops.get("/metrics")).text
        server.stop()

    assert "WARNING: acme used to talk, and was not heard of since " in told
    assert "WARNING: 1 message(s) were sent, and not heard of again" in told
    assert "plugstatus_silent_instances " in page
