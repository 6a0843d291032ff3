"""What an embedded store does now and then, killed at random moments until it is done.

    migrate      a store of an earlier version, until `migrate` says that it is upgraded
    retention    a store half of which is too old, until all of that is gone

With the disk that forgets, so each kill is a power failure.
"""

import asyncio
import random
import sqlite3
import subprocess
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import httpx

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests import prefork
from tests.calls import Api, callback
from tests.command import plugstatus
from tests.faults.disk import Disk
from tests.server_process import ServerProcess, clean_environment

DATA = Path(__file__).parents[1] / "data"
OLD = ("e0001", "e0002")
_VIEWS = ("v0001", "v0002")
_MOMENT_S = 1.2
_DAYS = 10
_DAY_US = 86_400 * 1_000_000
_EVENTS = 300
_KILLS_MAX = 8
_PATIENCE_S = 60.0


def chores(seed: int, library: Path, folder: Path, counts: Counter[str]) -> list[str]:
    """Do each of them once; what is wrong then."""
    dice = random.Random(f"{seed}:chores")
    broken = []
    for name, chore in (("migrate", _migrated), ("retention", _retained)):
        place = folder / name
        place.mkdir()
        disk = Disk(library, place)
        disk.set(early_percent=dice.choice((0, 50)))
        broken += [f"{name}: {fault}" for fault in chore(dice, disk, place, counts)]
        counts[name] += 1
    return broken


def _migrated(dice: random.Random, disk: Disk, folder: Path, counts: Counter[str]) -> list[str]:
    data = folder / "data"
    data.mkdir()
    for file, dumps in (("events.db", OLD), ("views.db", _VIEWS)):
        with closing(sqlite3.connect(data / file)) as connection:
            connection.executescript((DATA / f"{dice.choice(dumps)}.sql").read_text())
    before = _contents(data)
    environment = clean_environment({"DATA_DIR": str(data)}) | disk.environment()
    kills, code = dice.randrange(1, _KILLS_MAX), 0
    with Path("/dev/null").open("r+b") as nothing:
        for left in range(kills, -1, -1):
            process = prefork.started(
                ["migrate"], environment, stdin=nothing, stdout=nothing, stderr=nothing
            )
            if left:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(dice.random() * _MOMENT_S)
                with suppress(ProcessLookupError):
                    process.send_signal(9)
                counts["SIGKILL"] += 1
            code = process.wait(_PATIENCE_S)
    found = ["it did not end well"] if code else []
    checked = plugstatus("check", "--full", DATA_DIR=str(data))
    if checked.returncode:
        found.append(checked.stdout)
    if _contents(data) != before:
        found.append("the events are not the same")
    return found


def _retained(dice: random.Random, disk: Disk, folder: Path, counts: Counter[str]) -> list[str]:
    data = folder / "data"
    environment = disk.environment()
    for age_days, name in ((_DAYS, "old"), (0, "new")):
        disk.set(clock_us=-age_days * _DAY_US)
        with ServerProcess(data, environment=environment) as server:
            with httpx.Client(base_url=server.http, trust_env=False, timeout=30) as http:
                for number in range(_EVENTS):
                    body = callback(f"{name}-{number % 50}", dice.choice(("SENT", "READ")))
                    http.post("/instancia/acme/status", json=body).raise_for_status()
            server.kill()
            counts["SIGKILL"] += 1
    settings = {"RETENTION_DAYS": str(_DAYS / 2)}
    for _ in range(dice.randrange(1, _KILLS_MAX)):
        with ServerProcess(data, settings, environment=environment) as server:
            server.wait_or_none(dice.random() * _MOMENT_S / 4)
            server.kill()
            counts["SIGKILL"] += 1
    with ServerProcess(data, settings, environment=environment) as server:
        expired, difference = asyncio.run(_settled(server))
        server.stop()
    with closing(sqlite3.connect(data / "events.db")) as connection:
        left = connection.execute("SELECT count(*), min(position) FROM events").fetchall()[0]
    found = [difference] if not difference.startswith("no difference") else []
    if (expired, left) != (_EVENTS, (_EVENTS, _EVENTS + 1)):
        found.append(f"{expired} events expired, and {left} are left")
    return found


async def _settled(server: ServerProcess) -> tuple[int, str]:
    """How many events went, once none has to go any more; and what a check of the views says."""
    api = Api(server.grpc)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            expired = 0
            while expired < _EVENTS:
                status = await api.admin.GetServiceStatus(pb.GetServiceStatusRequest())
                expired = status.removals.expired_event_count
            steps = [
                one.progress.note
                async for one in api.admin.RebuildViews(pb.RebuildViewsRequest(check=True))
            ]
    finally:
        await api.channel.close()
    return expired, steps[-1]


def _contents(data: Path) -> list[tuple[int, bytes]]:
    with closing(sqlite3.connect(data / "events.db")) as connection:
        return connection.execute("SELECT position, content FROM events").fetchall()
