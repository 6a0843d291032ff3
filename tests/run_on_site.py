"""A load on a site, and what those who watch are told meanwhile.

A run posts random callbacks to every ingress process and watches every api process, while a test
breaks something. Everybody only records; in the end the fault suite's validators judge it.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from itertools import pairwise
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

import grpc
import grpc.aio
import httpx
import msgspec
from google.protobuf.duration_pb2 import Duration

from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from service.wire.cursor import CursorCodec
from tests.faults import history as record
from tests.faults.bodies import Body
from tests.faults.case import Case
from tests.faults.promises import judged
from tests.faults.stage import CHANNEL_OPTIONS, now_s
from tests.faults.watching import reason_of, resuming
from tests.histories import State, state_of
from tests.server_process import ServerProcess
from tests.site_on_postgres import DEADLINE_S, Site

_POSTERS = 6


class Answer(NamedTuple):
    """A callback that was answered with 200."""

    post: record.Post
    target: int
    """Which ingress process."""
    at_s: float
    spooled: bool


class Run:
    """A load and a watcher on each api process, from before a test breaks something.

    On leaving, the load ends, everybody comes to the end of the log, and `broken` says which
    promises were not kept.
    """

    def __init__(self, site: Site, bodies: Callable[[], Body] | None = None) -> None:
        self.site = site
        self.broken: list[str] = []
        self.messages: dict[tuple[str, str], State] = {}
        """In the end: what the log comes to, by the model."""
        self.answers: list[Answer] = []
        """Every 200, as they came."""
        self.refused: list[int] = []
        """Status codes other than 200."""
        self.slowest_s = 0.0
        """From a callback to its answer."""
        self.rebuilds: list[record.Rebuild] = []
        self.streams: list[record.Stream] = []
        self._outages: list[record.Outage] = []
        self._next_body = bodies or site.bodies.next
        self._codec = CursorCodec(site.history.log_identity)
        self._considered: dict[str, int] = {}
        self._ending = False
        self._moved = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for number in range(len(self.site.apis)):
            # One hears of every report, the others of what changes.
            request = pb.WatchStatusesRequest(
                from_now=True,
                include_unchanged=not number,
                progress_interval=Duration(seconds=1),
            )
            self._begin(self._watch(f"watcher {number}", number, request))
        try:
            await self._until(lambda: len(self._considered) == len(self.site.apis))
        except BaseException:
            await self._stop()
            raise
        for number in range(_POSTERS):
            self._begin(self._post(number))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                await self._finish()
        finally:
            await self._stop()
        if error is None:
            self._judge()

    async def posts(self, more: int) -> None:
        """Until so many more callbacks were answered."""
        wanted = len(self.answers) + more
        await self._until(lambda: len(self.answers) >= wanted)

    async def told(self, more: int) -> None:
        """Until every watcher has come so many positions further."""
        wanted = {name: at + more for name, at in self._considered.items()}
        await self._until(lambda: all(self._considered[name] >= wanted[name] for name in wanted))

    def signal(self, process: ServerProcess, number: signal.Signals) -> float:
        """Send it, and note that down for those who judge; the time."""
        outage = record.Outage(number.name, now_s())
        self._outages.append(outage)
        process.signal(number)
        return outage.at_s

    async def restart(self, process: ServerProcess) -> None:
        """Start what was killed."""
        await asyncio.to_thread(process.wait)
        await asyncio.to_thread(process.start)

    def longest_quiet_s(self, since_s: float) -> float:
        """The longest time in which a watcher heard of no change."""
        longest = 0.0
        for name in self._considered:
            heard = [
                frame.at_s
                for stream in self.streams
                for frame in stream.frames
                if stream.watcher == name and frame.kind == "changes" and frame.at_s > since_s
            ]
            longest = max([longest, *(b - a for a, b in pairwise([since_s, *heard]))])
        return longest

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Raises what failed meanwhile, TimeoutError after the deadline."""
        async with asyncio.timeout(DEADLINE_S), self._moved:
            while not holds():
                for task in self._tasks:
                    if task.done():
                        task.result()
                await self._moved.wait()

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def _post(self, turn: int) -> None:
        """One callback after the other, to the ingress processes in turn."""
        targets = [f"http://{each.settings['HTTP_BIND']}" for each in self.site.ingress]
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
            while not self._ending:
                post = record.Post(self._next_body(), now_s())
                self.site.history.posts.append(post)
                response = None
                while response is None and not self._ending:
                    turn += 1
                    try:
                        response = await http.post(
                            f"{targets[turn % 2]}/instancia/{post.body.instance}/status",
                            content=post.body.content.encode(),
                            headers={"Content-Type": "application/json"},
                        )
                    except httpx.ConnectError:
                        # Nothing was sent: the other one gets it.
                        continue
                    except httpx.TransportError:
                        break
                if response is not None:
                    self._take(post, turn % 2, response)
                    await self._tell()

    def _take(self, post: record.Post, target: int, response: httpx.Response) -> None:
        at_s = now_s()
        self.slowest_s = max(self.slowest_s, at_s - post.sent_s)
        if response.status_code != httpx.codes.OK:
            self.refused.append(response.status_code)
            return
        told = response.json()
        spooled = told["outcome"] == "spooled"
        self.answers.append(Answer(post, target, at_s, spooled))
        if not spooled:
            post.cursor, post.answered_s = told["cursor"], at_s

    async def _watch(self, name: str, turn: int, request: pb.WatchStatusesRequest) -> None:
        """One stream after the other, each behind the last one, on the api processes in turn."""
        targets = [each.settings["GRPC_BIND"] for each in self.site.apis]
        resumed: record.Resumed | None = None
        while True:
            number = len(self.streams)
            server = turn % len(targets)
            stream = record.Stream(number, name, request, now_s(), server=server, resumed=resumed)
            self.streams.append(stream)
            async with grpc.aio.insecure_channel(
                targets[server], options=CHANNEL_OPTIONS
            ) as channel:
                call = cast("Any", stubs.MessageStatusServiceStub(channel)).WatchStatuses(request)
                try:
                    await self._read(call, stream)
                except grpc.aio.AioRpcError as error:
                    stream.end = record.End(now_s(), "error", error.code().name, reason_of(error))
                finally:
                    stream.end = stream.end or record.End(now_s(), "cancelled")
                    call.cancel()
            turn += 1
            if stream.frames:
                resumed = record.Resumed(number, len(stream.frames) - 1)
                request = resuming(stream, resumed)

    async def _read(self, call: Any, stream: record.Stream) -> None:
        while (response := await call.read()) is not grpc.aio.EOF:
            stream.frames.append(record.Frame(now_s(), response))
            at = self._codec.decode(response.cursor).place.position
            self._considered[stream.watcher] = at
            await self._tell()
        stream.end = record.End(now_s(), "ok")

    async def _finish(self) -> None:
        """Have everybody come to the end of the log."""
        self._ending = True
        await asyncio.gather(*self._tasks[len(self.site.apis) :])
        self._tasks = self._tasks[: len(self.site.apis)]
        await self.site.spools_empty()
        head = self.site.logged()[-1][0].position
        await self._until(lambda: all(at >= head for at in self._considered.values()))

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _judge(self) -> None:
        logged = self.site.logged()
        numbers = {event.number for event, _ in logged}
        others = [record.Post(Body(one, "", "", ()), 0.0) for one in numbers if one < 0]
        history = msgspec.structs.replace(
            self.site.history,
            events=[event for event, _ in logged],
            posts=[*self.site.history.posts, *others],
            streams=self.streams,
            outages=self._outages,
            rebuilds=self.rebuilds,
        )
        self.broken = [str(each) for each in judged(history)]
        self.broken += [
            f"callback {answer.post.body.number} was spooled and is not in the log"
            for answer in self.answers
            if answer.spooled and answer.post.body.number not in numbers
        ]
        said = {post.body.number: post.body.content for post in history.posts}
        for event, content in logged:
            if event.number > 0 and content != said[event.number]:
                self.broken.append(f"the body at {event.position} is not the one that was posted")
        last = {key: found[-1] for key, found in Case(history).truth.by_message.items()}
        self.messages = {key: state_of(one.change.message) for key, one in last.items()}
