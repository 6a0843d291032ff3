"""What goes wrong in a round: stops, kills, rebuilds, clients that take nothing."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, cast

from google.protobuf.duration_pb2 import Duration

from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.command import plugstatus
from tests.faults.bodies import Bodies
from tests.faults.disk import Disk
from tests.faults.history import Outage, Rebuild, Stall
from tests.faults.others import sample
from tests.faults.stage import Stage, now_s
from tests.faults.watching import Manner, Watcher

_WAIT_S = 30.0
LARGE_MESSAGES = 900

Join = Callable[[Manner, pb.WatchStatusesRequest], Watcher]
"""Makes one more watcher take part, who begins with that request."""


class Trouble:
    """Makes it; each kind of it by name."""

    def __init__(self, stage: Stage, large: Bodies, join: Join, disk: Disk | None = None) -> None:
        self._stage = stage
        self._disk = disk
        self._clock_us = 0
        self._large = large
        self._join = join
        self.dice = stage.dice("trouble")

    async def make(self, kind: str) -> None:
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "SIGKILL": lambda: self._restart(signal.SIGKILL),
            "SIGTERM": lambda: self._restart(signal.SIGTERM),
            "rebuild": self._rebuild,
            "killed rebuild": self._killed_rebuild,
            "stall": self._stall,
            "SIGKILL in a snapshot": lambda: self._in_a_snapshot(signal.SIGKILL),
            "SIGTERM in a snapshot": lambda: self._in_a_snapshot(signal.SIGTERM),
            "second process": self._second_process,
            "full disk": self._full_disk,
            "slow disk": self._slow_disk,
            "clock back": lambda: self._jump(-1),
            "clock forth": lambda: self._jump(1),
        }
        await kinds[kind]()

    async def _restart(self, number: signal.Signals) -> None:
        stage = self._stage
        outage = Outage(number.name, now_s())
        stage.history.outages.append(outage)
        stage.server.signal(number)
        stage.up = False
        await asyncio.to_thread(stage.server.wait)
        await asyncio.to_thread(stage.server.start)
        outage.up_s = now_s()
        stage.run += 1
        stage.up = True
        stage.moved()

    async def _second_process(self) -> None:
        """On the same data folder; it is refused with a sentence, and disturbs nobody."""
        stage = self._stage
        second = await asyncio.to_thread(
            plugstatus,
            "serve",
            DATA_DIR=str(stage.server.data_dir),
            HTTP_BIND="127.0.0.1:0",
            GRPC_BIND="127.0.0.1:0",
        )
        assert second.returncode == 1, second.stderr
        assert f"is in use by process {stage.server.pid}" in second.stderr, second.stderr

    async def _full_disk(self) -> None:
        """Nothing can be written for a while; then there is room again, without a restart."""
        assert self._disk is not None
        # Nobody has to be answered in time meanwhile; but nobody is cut off either.
        outage = Outage("full disk", now_s())
        self._stage.history.outages.append(outage)
        self._disk.set(full=1)
        await self._stage.pause(self.dice.uniform(0.2, 2.0))
        self._disk.set(full=0)
        async with self._stage.client() as http:
            async with asyncio.timeout(_WAIT_S):
                while (await self._stage.post(http, self._large.last())).answered_s is None:
                    pass
        outage.up_s = now_s()

    async def _slow_disk(self) -> None:
        assert self._disk is not None
        outage = Outage("slow disk", now_s())
        self._stage.history.outages.append(outage)
        self._disk.set(fsync_us=self.dice.choice((50_000, 300_000)))
        await self._stage.pause(self.dice.uniform(0.5, 3.0))
        self._disk.set(fsync_us=0)
        outage.up_s = now_s()

    async def _jump(self, direction: int) -> None:
        """The machine's wall clock is set, by minutes or by days."""
        assert self._disk is not None
        step_s = self.dice.choice((5, 900, 7_200, 200_000))
        self._clock_us += direction * step_s * 1_000_000
        self._disk.set(clock_us=self._clock_us)

    async def _rebuild(self) -> None:
        rebuild = Rebuild(now_s())
        self._stage.history.rebuilds.append(rebuild)
        async with self._stage.channel() as channel:
            admin = cast("Any", stubs.AdminServiceStub(channel))
            async for _ in admin.RebuildViews(pb.RebuildViewsRequest()):
                pass
        rebuild.done_s = now_s()

    async def _killed_rebuild(self) -> None:
        """Killed once it has begun: nobody hears how it would have ended."""
        self._stage.history.rebuilds.append(Rebuild(now_s()))
        async with self._stage.channel() as channel:
            admin = cast("Any", stubs.AdminServiceStub(channel))
            call = admin.RebuildViews(pb.RebuildViewsRequest())
            await call.read()
            await self._restart(signal.SIGKILL)
            call.cancel()

    async def _stall(self) -> None:
        """Some take nothing, while much is posted; it goes on until all others have it."""
        stage = self._stage
        begun = len(stage.history.stalls)
        stage.stalling = stage.holding = True
        try:
            await stage.until(lambda: len(stage.history.stalls) > begun, _WAIT_S)
            async with stage.client() as http:
                for _ in range(self.dice.randint(5, 7)):
                    await stage.post(http, self._large.large(LARGE_MESSAGES))
                post = await stage.post(http, self._large.last())
            for stall in stage.history.stalls[begun:]:
                stall.posted, stall.posted_s = post.cursor, now_s()
            place = stage.place(post.cursor)
            assert place is not None
            await stage.until(lambda: self._all_prompt_at(place), _WAIT_S)
            async with stage.channel() as channel:
                await sample(stage, channel)
            stage.stalling = False
            stage.moved()
            await stage.until(
                lambda: all(map(self._went_on, stage.history.stalls[begun:])), _WAIT_S
            )
        finally:
            stage.stalling = stage.holding = False
            stage.moved()

    def _went_on(self, stall: Stall) -> bool:
        """Has it been told that it fell behind, if it still listens?"""
        stream = self._stage.history.streams[stall.stream]
        return stream.end is not None or any(one.kind == "fell_behind" for one in stream.frames)

    def _all_prompt_at(self, place: tuple[int, int]) -> bool:
        open_now = [
            stream.watcher
            for stream in self._stage.history.streams
            if stream.prompt and stream.end is None
        ]
        return all(self._stage.considered.get(name, (0, 0)) >= place for name in open_now)

    async def _in_a_snapshot(self, number: signal.Signals) -> None:
        """The server ends while one who takes a snapshot has a part of it."""
        request = pb.WatchStatusesRequest(snapshot=True, progress_interval=Duration(seconds=1))
        watcher = self._join(Manner.HALTING, request)
        await self._stage.until(lambda: watcher.halted, _WAIT_S)
        await self._restart(number)
