"""The leading projector dies, is stopped, is cut off, is asked to let go."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import callback, fresh_id, post
from tests.faults.history import Rebuild
from tests.faults.stage import now_s
from tests.line import Line
from tests.postgres import connected, database_url
from tests.run_on_site import Run
from tests.server_process import ServerProcess
from tests.site_on_postgres import DEADLINE_S, TAKEOVER_S, Site, metric, opened

_TERM = """
SELECT activity.state, activity.wait_event_type, EXISTS (
    SELECT 1 FROM pg_stat_activity AS other
    WHERE other.pid <> pg_backend_pid() AND other.state = 'active'
      AND other.query LIKE '%UPDATE leases SET%')
FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
WHERE locktype = 'advisory' AND mode = 'ShareLock'
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
"""What the transaction of the leader's term is doing, as nobody else shares the lease's lock; and
whether the lease is just being renewed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def lines(folder: Path) -> Iterator[list[Line]]:
    """One for each projector."""
    with ExitStack() as whole:
        yield [
            whole.enter_context(Line(folder / f"line{number}", database_url(folder)))
            for number in range(2)
        ]


@pytest.fixture(scope="module")
def site(folder: Path, lines: list[Line]) -> Iterator[Site]:
    urls = [line.url for line in lines]
    with Site(folder, database_url(folder), projector_urls=urls) as running:
        yield running


def _other(site: Site, leader: ServerProcess) -> ServerProcess:
    return next(each for each in site.projectors if each is not leader)


async def _taken_over(site: Site, run: Run, by: ServerProcess, since_s: float, how: str) -> None:
    """The other one leads in time, and watchers have not waited longer either."""
    await site.leader(by)
    after_s = now_s() - since_s
    await run.told(50)
    quiet_s = run.longest_quiet_s(since_s)
    print(f"{how}: another leads after {after_s:.2f} s, watchers heard nothing for {quiet_s:.2f} s")
    assert after_s < TAKEOVER_S
    assert quiet_s < TAKEOVER_S


async def _stands_by(process: ServerProcess) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await metric(process, "plugstatus_leading") != 0:
            pass


async def test_killed(site: Site) -> None:
    """Another one leads within five seconds; nothing is lost, repeated or out of order."""
    leader = await site.leader()
    async with Run(site) as run:
        await run.told(50)
        at_s = run.signal(leader, signal.SIGKILL)
        await _taken_over(site, run, _other(site, leader), at_s, "killed")
        await run.restart(leader)
        await run.told(50)
    told = await site.told()

    assert run.refused == []
    assert run.broken == []
    assert told == [run.messages] * 2
    assert await site.checked() == "no difference"


def _caught(site: Site, stop: Callable[[], None], go_on: Callable[[], None]) -> float:
    """Stop the leader while its transaction waits for the next statement; when."""
    until_s = now_s() + DEADLINE_S
    with connected(site.url) as database:
        while now_s() < until_s:
            if database.execute(_TERM).fetchone() is None:
                continue
            at_s = now_s()
            stop()
            # What was sent before is still done.
            while (found := database.execute(_TERM).fetchone()) and found[1] is None:
                continue
            if found == ("idle in transaction", "Client", False):
                return at_s
            go_on()
    raise TimeoutError("no transaction was caught")


def _stop(process: ServerProcess) -> None:
    process.signal(signal.SIGSTOP)
    status = Path(f"/proc/{process.pid}/stat")
    # A state behind a name that may hold anything.
    while not status.read_text().rpartition(") ")[2].startswith("T"):
        continue


async def test_stopped_in_a_transaction(site: Site) -> None:
    """A stopped leader's transaction is cut off; going on, it changes nothing and stands by."""
    leader = await site.leader()
    async with Run(site) as run:
        await run.told(50)
        at_s = await asyncio.to_thread(
            _caught, site, lambda: _stop(leader), lambda: leader.signal(signal.SIGCONT)
        )
        await _taken_over(site, run, _other(site, leader), at_s, "stopped")
        leader.signal(signal.SIGCONT)
        await _stands_by(leader)
        await run.told(50)
    told = await site.told()

    assert run.broken == []
    assert told == [run.messages] * 2
    assert await site.checked() == "no difference"


async def test_cut_off_in_a_transaction(site: Site, lines: list[Line]) -> None:
    """What a leader has sent that was cut off comes late, changes nothing, and it stands by."""
    leader = await site.leader()
    line = lines[site.projectors.index(leader)]
    async with Run(site) as run:
        await run.told(50)
        at_s = await asyncio.to_thread(_caught, site, line.cut, line.mend)
        await _taken_over(site, run, _other(site, leader), at_s, "cut off")
        line.mend()
        await _stands_by(leader)
        await run.told(50)
    told = await site.told()

    assert run.broken == []
    assert told == [run.messages] * 2
    assert await site.checked() == "no difference"


async def test_tasks_asked_of_a_process_that_does_not_lead(site: Site) -> None:
    """It leads for a rebuild and for an erasure, while callbacks come, and lets go."""
    phone = "5599900000001"
    asked = site.apis[1]
    async with httpx.AsyncClient(base_url=site.ingress[0].http, trust_env=False) as http:
        await post(http, callback(fresh_id(), phone=phone))
    async with Run(site) as run, opened(asked) as api:
        await run.told(50)
        rebuild = Rebuild(now_s())
        run.rebuilds.append(rebuild)
        call = api.admin.RebuildViews(pb.RebuildViewsRequest(), timeout=DEADLINE_S)
        rebuilt = [each.progress.note async for each in call]
        rebuild.done_s = now_s()
        await run.told(50)
        call = api.admin.Forget(pb.ForgetRequest(phone=phone), timeout=DEADLINE_S)
        erased = [each.progress.note async for each in call]
        ended_s = now_s()
        await site.leader()
        print(f"a projector leads again after {now_s() - ended_s:.2f} s")
        await run.told(50)
    told = await site.told()

    assert rebuilt[-1].startswith("rebuilt: generation ")
    assert erased[-1].startswith("erased 1 callbacks, 1 messages and 0 recipients")
    assert any('"leading"' in line for line in asked.log)
    assert run.broken == []
    assert told == [run.messages] * 2
    assert await site.checked() == "no difference"
