"""Watchers: they start anywhere, ask for anything, read as they like, leave and come back."""

import asyncio
import enum
import random
import time
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.calls import error_info
from tests.faults.bodies import GROUPS, INSTANCES, PHONES
from tests.faults.history import End, Frame, Resumed, Stall, Stream
from tests.faults.stage import Stage, now_s

_STUCK_S = 40.0
"""Without any frame, though one is due every few seconds."""

_LOST_S = 12.0
"""Without even Opened."""

_HALT_S = 20.0
_TURNS = ("caught_up", "fell_behind")
_STATUSES = (10, 20, 30, 40, 50, 60, 70, 80)


class Manner(enum.Enum):
    """How a watcher reads."""

    PROMPT = enum.auto()
    SLOW = enum.auto()
    """With a pause behind each frame."""
    STALLING = enum.auto()
    """Not at all while the stage says so."""
    HALTING = enum.auto()
    """Stops inside a snapshot until the server was started anew."""


class Watcher:
    """One after the other: streams."""

    def __init__(
        self, stage: Stage, name: str, manner: Manner, ids: tuple[str, ...], interval_s: int
    ) -> None:
        """`ids` are what it may ask for; `interval_s` is the longest it waits for Progress."""
        self.name = name
        self.manner = manner
        self.halted = False
        self._stage = stage
        self._ids = ids
        self._interval_s = interval_s
        self._dice = stage.dice(name)
        self._call: Any = None
        self._stream: Stream | None = None

    async def run(self, request: pb.WatchStatusesRequest | None = None) -> None:
        """Until the round is over."""
        stage = self._stage
        request, resumed = request or self.fresh(), None
        while not stage.over:
            stream = await self.watch(request, resumed)
            request, resumed = self._going_on(stream)
            if stream.end and stream.end.how in ("error", "lost"):
                await stage.up_again()

    def give_up(self, how: str = "stuck") -> None:
        """It was waited for in vain."""
        if self._stream is not None and self._stream.end is None:
            self._stream.end = End(now_s(), how)
            self._call.cancel()

    async def watch(self, request: pb.WatchStatusesRequest, resumed: Resumed | None) -> Stream:
        """One stream, until it ends or it is left."""
        stage = self._stage
        stream = Stream(
            number=len(stage.history.streams),
            watcher=self.name,
            request=request,
            asked_s=now_s(),
            prompt=self.manner is Manner.PROMPT,
            resumed=resumed,
        )
        stage.history.streams.append(stream)
        self._stream = stream
        async with stage.channel() as channel:
            self._call = cast("Any", stubs.MessageStatusServiceStub(channel)).WatchStatuses(request)
            try:
                await self._read(stream)
            except grpc.aio.AioRpcError as error:
                stream.end = stream.end or _failed(error)
            except asyncio.CancelledError:
                if stream.end is None:
                    raise
        stage.moved()
        return stream

    async def _read(self, stream: Stream) -> None:
        stage, dice = self._stage, self._dice
        leaves_after = dice.choice((1, 2, 4, 10, 40, 10_000, 10_000))
        while True:
            reading = asyncio.ensure_future(self._call.read())
            await asyncio.wait({reading}, timeout=_STUCK_S if stream.frames else _LOST_S)
            if not reading.done():
                self.give_up("stuck" if stream.frames else "lost")
            response = await reading
            if response is grpc.aio.EOF:
                stream.end = End(now_s(), "ok")
                return
            stream.frames.append(Frame(now_s(), response))
            stage.came(self.name, response.cursor)
            if self._leaves(stream, leaves_after):
                stream.end = End(now_s(), "cancelled")
                self._call.cancel()
                return
            await self._between_frames(stream)

    def _leaves(self, stream: Stream, after: int) -> bool:
        stage = self._stage
        return not stage.finishing and not stage.holding and len(stream.frames) >= after

    async def _between_frames(self, stream: Stream) -> None:
        stage = self._stage
        if self.manner is Manner.SLOW:
            await stage.pause(self._dice.choice((0.0, 0.02, 0.1, 0.3)))
        elif self.manner is Manner.STALLING and stage.stalling and _live(stream):
            stall = Stall(stream.number, now_s())
            stage.history.stalls.append(stall)
            stage.moved()
            await stage.until(lambda: not stage.stalling, float("inf"))
            stall.until_s = now_s()
        elif self.manner is Manner.HALTING and not self.halted:
            self.halted = stream.frames[-1].kind == "changes"
            stage.moved()
            run = stage.run
            if self.halted:
                await stage.until(lambda: stage.run > run, _HALT_S)

    def _going_on(self, stream: Stream) -> tuple[pb.WatchStatusesRequest, Resumed | None]:
        """What to ask for behind a stream."""
        dice, frames = self._dice, stream.frames
        again, back, other = (dice.random() for _ in range(3))
        if not frames:
            return stream.request, stream.resumed
        if self._stage.finishing or self.manner is Manner.HALTING or again < 0.6:
            resumed = Resumed(stream.number, len(frames) - 1)
        elif again < 0.85:
            resumed = within(stream, int(back * len(frames)), dice)
        else:
            return self.fresh(frames), None
        request = resuming(stream, resumed)
        if other < 0.1 and not self._stage.finishing:
            # The cursor says where, not what.
            request.filter.CopyFrom(self._filter())
        return request, resumed

    def fresh(self, frames: list[Frame] | None = None) -> pb.WatchStatusesRequest:
        """A request that resumes nothing; `frames` have times worth starting from."""
        dice = self._dice
        request = pb.WatchStatusesRequest(
            filter=self._filter(),
            progress_interval=Duration(seconds=dice.randint(1, self._interval_s)),
            include_unchanged=dice.random() < 0.3,
        )
        kind = dice.choice(("cursor", "from_time", "from_now", "", "snapshot", "snapshot"))
        if kind == "cursor":
            answered = [post.cursor for post in self._stage.history.posts if post.cursor]
            request.cursor = answered[int(dice.random() * len(answered))]
        elif kind == "from_time":
            request.from_time.CopyFrom(self._time(frames or []))
        elif kind:
            setattr(request, kind, True)
        return request

    def _time(self, frames: list[Frame]) -> Timestamp:
        """One at which something was received, or a little later, or one to come."""
        dice = self._dice
        times = [
            change.message.update_time.ToMicroseconds()
            for frame in frames
            for change in frame.response.changes.changes
        ]
        found = times[int(dice.random() * len(times))] if times else time.time_ns() // 1_000
        found += dice.choice((0, 0, 1, 1_000, -1, -(10**6), 10**12))
        told = Timestamp()
        told.FromMicroseconds(found)
        return told

    def _filter(self) -> pb.WatchFilter:
        dice, found = self._dice, pb.WatchFilter()
        if dice.random() < 0.35 or self.manner is Manner.STALLING:
            return found
        for name in dice.sample(
            ("instances", "message_ids", "phones", "statuses"), dice.choice((1, 1, 2, 4))
        ):
            values: dict[str, list[Any]] = {
                "instances": [*INSTANCES, "nobody"],
                "message_ids": [*self._ids, "absent"],
                "phones": [*PHONES, *GROUPS],
                "statuses": list(_STATUSES),
            }
            most = min(len(values[name]), 8)
            getattr(found, name).extend(dice.sample(values[name], dice.randint(1, most)))
        return found


def within(stream: Stream, frame: int, dice: random.Random) -> Resumed:
    """A cursor of a frame: its own, or of a change inside it."""
    changes = len(stream.frames[frame].response.changes.changes)
    inside = changes and dice.random() < 0.6
    return Resumed(stream.number, frame, int(dice.random() * changes) if inside else None)


def resuming(stream: Stream, resumed: Resumed) -> pb.WatchStatusesRequest:
    """The same request from that cursor on."""
    request = pb.WatchStatusesRequest()
    request.CopyFrom(stream.request)
    response = stream.frames[resumed.frame].response
    inside = resumed.change
    request.cursor = response.cursor if inside is None else response.changes.changes[inside].cursor
    return request


def _live(stream: Stream) -> bool:
    kinds = [frame.kind for frame in stream.frames]
    return next((kind for kind in reversed(kinds) if kind in _TURNS), "") == "caught_up"


def _failed(error: grpc.aio.AioRpcError) -> End:
    return End(now_s(), "error", error.code().name, reason_of(error), str(error.details()))


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The server's reason; empty if the error is not the server's own."""
    try:
        return str(error_info(error).reason)
    except AssertionError:
        return ""
