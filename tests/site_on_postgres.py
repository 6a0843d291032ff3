"""Processes apart by role on one PostgreSQL."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from service.domain.events import EventKind
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api
from tests.faults import history as record
from tests.faults.bodies import Bodies, number_of
from tests.faults.stage import free_port
from tests.histories import State, listed
from tests.postgres import connected
from tests.server_process import ServerProcess

DEADLINE_S = 30.0
"""Far more than anything takes; a test that waits longer has found a hang."""

TAKEOVER_S = 5.0


class Site:
    """So many processes of each role, each with a data folder of its own, on ports that stay."""

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        projector_urls: Sequence[str] = (),
        apis: int = 2,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """There is a projector for each of its URLs, of which every one leads to the database."""
        self.url = url
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        self.history = record.History(seed)
        self.bodies = Bodies(random.Random(f"{seed}:bodies"), 60)

        def process(role: str, number: int, url: str = url) -> ServerProcess:
            own = {"EVENTS_URL": url, "ROLES": role, **(settings or {})}
            bind = {"ingress": "HTTP_BIND", "api": "GRPC_BIND"}.get(role)
            if bind is not None:
                own[bind] = f"127.0.0.1:{free_port()}"
            return ServerProcess(folder / f"{role}{number}", own)

        self.ingress = [process("ingress", number) for number in range(2)]
        self.projectors = [
            process("projector", number, own)
            for number, own in enumerate(projector_urls or (url, url))
        ]
        self.apis = [process("api", number) for number in range(apis)]
        self._running = ExitStack()

    def __enter__(self) -> Self:
        processes = [*self.ingress, *self.projectors, *self.apis]
        with ExitStack() as begun, ThreadPoolExecutor(len(processes)) as threads:
            # Side by side, as most of a start is Python's own.
            for each in threads.map(ServerProcess.__enter__, processes):
                begun.push(each)
            with connected(self.url) as database:
                found = database.execute("SELECT identity FROM plugstatus_events.log").fetchall()
            self.history.log_identity = found[0][0]
            self._running = begun.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running.__exit__(kind, error, traceback)

    async def leader(self, *among: ServerProcess) -> ServerProcess:
        """The projector that leads, or the one of these, once one does."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for each in among or self.projectors:
                    if await metric(each, "plugstatus_leading") == 1:
                        return each

    async def spools_empty(self) -> None:
        """Once every callback that was spooled is in the log."""
        async with asyncio.timeout(DEADLINE_S):
            for each in self.ingress:
                while await metric(each, "plugstatus_spool_callbacks"):
                    pass

    def logged(self) -> list[tuple[record.LoggedEvent, str]]:
        """Every event of the log with its content, past the service.

        What is not a callback of `bodies` has a negative number of its own.
        """
        with connected(self.url) as database:
            rows = database.execute(
                "SELECT position, instance, receive_time_us, kind, content "
                "FROM plugstatus_events.events ORDER BY position"
            ).fetchall()
        return [
            (
                record.LoggedEvent(at, instance, time_us, _number(at, kind, content)),
                content.decode(),
            )
            for at, instance, time_us, kind, content in rows
        ]

    async def told(self) -> list[dict[tuple[str, str], State]]:
        """Every message, as each api process tells it."""
        found = []
        for each in self.apis:
            async with opened(each) as api:
                found.append(await listed(api))
        return found

    async def checked(self) -> str:
        """What `rebuild --check` says: do the views hold what the log comes to?"""
        async with opened(self.apis[0]) as api:
            call = api.admin.RebuildViews(pb.RebuildViewsRequest(check=True), timeout=DEADLINE_S)
            notes: list[str] = [each.progress.note async for each in call]
        return notes[-1].partition(":")[0]


def _number(position: int, kind: int, content: bytes) -> int:
    known = kind == EventKind.CALLBACK and b'"number"' in content
    return number_of(content) if known else -position


@asynccontextmanager
async def opened(process: ServerProcess) -> AsyncIterator[Api]:
    api = Api(process.grpc)
    try:
        yield api
    finally:
        await api.channel.close()


async def metric(process: ServerProcess, name: str) -> float | None:
    """None if it does not answer."""
    async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
        try:
            told = (await http.get(f"{process.ops}/metrics")).text
        except httpx.TransportError:
            return None
    return next(float(line.split()[1]) for line in told.splitlines() if line.startswith(name + " "))
