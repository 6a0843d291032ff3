"""A round on PostgreSQL: roles in processes of their own, killed, stopped and cut off at random.

Callbacks are posted to both ingress processes and watched at both api processes all the while; a
migration is killed before that as often as it takes. Judged as the rounds on SQLite are, and beside
that what was spooled has to be in the log, once.
"""

import asyncio
import random
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests import prefork
from tests.faults.history import Rebuild
from tests.faults.stage import now_s
from tests.postgres import bring_back, empty_database_url, take_away
from tests.run_on_site import Run
from tests.server_process import ServerProcess, clean_environment
from tests.site_on_postgres import Site, opened

_POSTS = 40
"""Between two faults."""

_FAULTS = 12
"""In a round."""

_MIGRATION_S = 1.5
"""About as long as one takes."""

FAULTS = (
    "kill an ingress",
    "kill the leader",
    "kill an api",
    "stop the leader",
    "kill a rebuild",
    "database away",
    "kill an ingress that spools",
    "kill an ingress that drains its spool",
)


def played_apart(seed: int, folder: Path, counts: Counter[str]) -> list[str]:
    """Play a round: which promises were not kept."""
    dice = random.Random(f"{seed}:apart")
    url = empty_database_url(folder)
    _migrate(url, folder, dice, counts)
    with Site(folder, url) as site:
        return asyncio.run(_play(site, dice, counts))


def _migrate(url: str, folder: Path, dice: random.Random, counts: Counter[str]) -> None:
    """Killed a few times; then it has to succeed."""
    kills = dice.randrange(4)
    while True:
        with (folder / "migrate.log").open("w+b") as out, Path("/dev/null").open("rb") as nothing:
            process = prefork.started(
                ["migrate"],
                clean_environment({"EVENTS_URL": url, "DATA_DIR": str(folder / "m")}),
                stdin=nothing,
                stdout=out,
                stderr=out,
            )
            if kills:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(dice.random() * _MIGRATION_S)
                process.send_signal(signal.SIGKILL)
                process.wait(60)
                kills -= 1
                counts["SIGKILL"] += 1
                continue
            code = process.wait(60)
            out.seek(0)
            assert code == 0, out.read()
            return


async def _play(site: Site, dice: random.Random, counts: Counter[str]) -> list[str]:
    async with Run(site) as run:
        await run.posts(_POSTS)
        for _ in range(_FAULTS):
            fault = dice.choice(FAULTS)
            counts[fault] += 1
            await _Making(run, dice, counts).make(fault)
            await run.posts(dice.randrange(_POSTS))
        await run.posts(_POSTS)
    told = await site.told()
    broken = list(run.broken)
    if told != [run.messages] * len(site.apis):
        broken.append("the messages that are told are not what the log comes to")
    counts["events"] += len(site.logged())
    counts["acknowledged"] += len(run.answers)
    counts["spooled"] += sum(answer.spooled for answer in run.answers)
    counts["streams"] += len(run.streams)
    counts["changes"] += sum(
        len(frame.response.changes.changes) for stream in run.streams for frame in stream.frames
    )
    return broken


class _Making:
    """One fault."""

    def __init__(self, run: Run, dice: random.Random, counts: Counter[str]) -> None:
        self._run = run
        self._site = run.site
        self._dice = dice
        self._counts = counts

    async def make(self, fault: str) -> None:
        site, dice = self._site, self._dice
        match fault:
            case "kill an ingress":
                await self._kill(dice.choice(site.ingress))
            case "kill the leader":
                await self._kill(await site.leader())
            case "kill an api":
                await self._kill(dice.choice(site.apis))
            case "stop the leader":
                await self._stop(await site.leader())
            case "kill a rebuild":
                await self._kill_rebuild()
            case "database away":
                await self._away()
            case "kill an ingress that spools":
                await self._away(kill=True)
            case "kill an ingress that drains its spool":
                await self._away()
                await self._kill(dice.choice(site.ingress))
            case _:
                raise AssertionError(fault)

    async def _kill(self, process: ServerProcess) -> None:
        self._counts["SIGKILL"] += 1
        self._run.signal(process, signal.SIGKILL)
        await self._run.restart(process)

    async def _stop(self, leader: ServerProcess) -> None:
        """For longer than its lease lasts; then it goes on, and has to notice."""
        self._run.signal(leader, signal.SIGSTOP)
        try:
            others = [one for one in self._site.projectors if one is not leader]
            await self._site.leader(*others)
            await self._run.told(_POSTS // 2)
        finally:
            leader.signal(signal.SIGCONT)

    async def _kill_rebuild(self) -> None:
        """Its process is killed while it rebuilds; what was begun is gone on with, or cleared."""
        self._run.rebuilds.append(Rebuild(now_s()))
        leader = await self._site.leader()
        async with opened(self._site.apis[0]) as api:
            call = api.admin.RebuildViews(pb.RebuildViewsRequest())
            await call.read()
            await self._kill(leader)
            call.cancel()

    async def _away(self, *, kill: bool = False) -> None:
        """The database refuses everybody for a while; callbacks are spooled."""
        await asyncio.to_thread(take_away, self._site.url)
        try:
            await self._run.posts(self._dice.randrange(10, 3 * _POSTS))
            if kill:
                await self._kill(self._dice.choice(self._site.ingress))
                await self._run.posts(_POSTS)
        finally:
            await asyncio.to_thread(bring_back, self._site.url)
