"""A round: a real server, everybody who takes part, and the record of it."""

import asyncio
import random
import signal
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from service.database.sqlite import SqliteDatabase
from service.domain.events import EventKind, Position
from service.eventlog.reader import StoredLogReader
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.faults.bodies import Bodies, Body, number_of
from tests.faults.disk import Disk
from tests.faults.history import History, LoggedEvent, Outage, Stream
from tests.faults.others import posting, sampling, waiting
from tests.faults.stage import Stage, data_folder, now_s, settings
from tests.faults.trouble import Trouble
from tests.faults.watching import Manner, Watcher, resuming, within
from tests.server_process import ServerProcess

_DRAIN_S = 60.0
"""How long those who watch may take to come to the end of the log, once nothing more is posted."""

_POSTERS = 4
_WAITERS = 3
_RESUMES_AT_ONCE = 8
TROUBLE_OF_DISKS = ("full disk", "slow disk", "clock back", "clock forth")
TROUBLE = (
    "second process",
    "SIGKILL",
    "SIGTERM",
    "rebuild",
    "killed rebuild",
    "stall",
    "SIGKILL in a snapshot",
    "SIGTERM in a snapshot",
)


class Shape(msgspec.Struct, frozen=True):
    """How large a round is, and what goes wrong in it, in this order."""

    callbacks: int
    ids: int
    manners: tuple[Manner, ...]
    trouble: tuple[str, ...]
    resumes: int
    interval_s: int
    """The longest interval of Progress that is asked for."""
    stall_s: int = 300
    early_percent: int | None = None
    """With a disk that forgets what was not fsynced: how much it writes before, whole or torn."""


SHORT = Shape(
    callbacks=900,
    ids=40,
    manners=(Manner.PROMPT,) * 5 + (Manner.SLOW, Manner.STALLING),
    trouble=("stall", "SIGKILL in a snapshot", "rebuild", "SIGTERM"),
    resumes=24,
    interval_s=1,
)


def random_shape(seed: int, *, disk: bool = False) -> Shape:
    """`disk`: there is one that forgets, fills up and is slow; half of the rounds mostly kill."""
    dice = random.Random(f"{seed}:shape")
    early_percent = dice.choice((0, 20, 80)) if disk else None
    if disk and dice.random() < 0.5:
        return Shape(
            callbacks=2_400,
            ids=dice.choice((3, 40, 400)),
            manners=(Manner.PROMPT,) * 3,
            trouble=tuple(dice.sample(("SIGKILL",) * 18 + TROUBLE_OF_DISKS, 22)),
            resumes=20,
            interval_s=1,
            early_percent=early_percent,
        )
    kinds = (*TROUBLE, *TROUBLE_OF_DISKS) if disk else TROUBLE
    manners = [dice.choice(list(Manner)[:3]) for _ in range(dice.randint(3, 10))]
    return Shape(
        callbacks=dice.choice((600, 1_500, 3_000)),
        ids=dice.choice((3, 40, 400)),
        manners=(Manner.PROMPT, Manner.PROMPT, Manner.STALLING, *manners),
        trouble=tuple(dice.choices(kinds, k=dice.randint(2, 7))),
        early_percent=early_percent,
        resumes=dice.choice((20, 60)),
        interval_s=dice.choice((1, 2, 5)),
        stall_s=dice.choice((300, 300, 15)),
    )


def played(seed: int, shape: Shape, folder: Path, library: Path | None = None) -> History:
    """Play a round; its record. The server's data is below `folder`.

    `library` is the disk's (see `disk`), for a shape that has one.
    """
    disk = None
    if shape.early_percent is not None:
        assert library is not None
        disk = Disk(library, folder)
        disk.set(early_percent=shape.early_percent)
    history = History(seed)
    # The record is no task's result: asyncio would spell it out whole.
    asyncio.run(_play(history, shape, folder, disk))
    history.events = _logged(data_folder(folder))
    return history


async def _play(history: History, shape: Shape, folder: Path, disk: Disk | None) -> None:
    environment = disk.environment() if disk else None
    with ServerProcess(
        data_folder(folder), settings(shape.stall_s), environment=environment
    ) as server:
        await _Round(Stage(history, server), shape, disk).play()


class _Round:
    def __init__(self, stage: Stage, shape: Shape, disk: Disk | None) -> None:
        self._stage = stage
        self._disk = disk
        self._shape = shape
        self._bodies = Bodies(stage.dice("bodies"), shape.ids)
        self._large = Bodies(stage.dice("large"), shape.ids, first=1_000_000)
        self._watchers: list[Watcher] = []
        self._tasks = asyncio.TaskGroup()

    async def play(self) -> None:
        stage = self._stage
        async with stage.client() as http:
            # Whatever begins has something to begin with.
            await stage.post(http, self._bodies.next())
        async with self._tasks as tasks:
            for manner in self._shape.manners:
                self._join(manner)
            tasks.create_task(sampling(stage))
            waiters = [
                tasks.create_task(waiting(stage, number, self._bodies.ids))
                for number in range(_WAITERS)
            ]
            await self._post_in_trouble()
            await self._finish()
            await self._resume_anywhere()
            await asyncio.wait(waiters)
            await self._stop()

    async def _post_in_trouble(self) -> None:
        stage, bodies = self._stage, self._callbacks()
        trouble = Trouble(stage, self._large, self._join, self._disk)
        await asyncio.gather(
            *(posting(stage, bodies) for _ in range(_POSTERS)), self._trouble(trouble)
        )

    def _callbacks(self) -> Iterator[Body]:
        for _ in range(self._shape.callbacks):
            yield self._bodies.next()

    def _join(self, manner: Manner, request: pb.WatchStatusesRequest | None = None) -> Watcher:
        name = f"{manner.name.lower()} {len(self._watchers)}"
        watcher = Watcher(self._stage, name, manner, self._bodies.ids, self._shape.interval_s)
        self._watchers.append(watcher)
        self._tasks.create_task(watcher.run(request))
        return watcher

    async def _trouble(self, trouble: Trouble) -> None:
        """One after the other, each in the middle of its share of what is posted."""
        stage, kinds = self._stage, self._shape.trouble
        share = self._shape.callbacks // (len(kinds) + 1)
        for kind in kinds:
            stage.most += share
            due = stage.most - int(share * trouble.dice.random())
            stage.moved()
            await stage.until(lambda due=due: stage.posted >= due, float("inf"))  # type: ignore[misc]
            await trouble.make(kind)
        stage.most = self._shape.callbacks
        stage.moved()

    async def _finish(self) -> None:
        """Have everybody come to the end of the log."""
        stage = self._stage
        async with stage.client() as http:
            post = await stage.post(http, self._large.last())
        stage.history.last_cursor = post.cursor
        stage.last = stage.place(post.cursor) or stage.last
        stage.finishing = True
        stage.moved()
        names = [watcher.name for watcher in self._watchers]
        if not await stage.until(
            lambda: all(stage.considered.get(name, (0, 0)) >= stage.last for name in names),
            _DRAIN_S,
        ):
            stage.over = True
        for watcher in self._watchers:
            if stage.considered.get(watcher.name, (0, 0)) < stage.last:
                watcher.give_up()

    async def _resume_anywhere(self) -> None:
        """Begin once more behind cursors that anybody has received, in frames of every kind."""
        stage, dice = self._stage, self._stage.dice("resumes")
        received: dict[str, list[tuple[Stream, int]]] = defaultdict(list)
        for stream in stage.history.streams:
            for number, frame in enumerate(stream.frames):
                received[frame.kind].append((stream, number))
        slots = asyncio.Semaphore(_RESUMES_AT_ONCE)

        async def resume(number: int, stream: Stream, frame: int) -> None:
            resumed = within(stream, frame, stage.dice(f"resume {number}"))
            async with slots:
                once = Once(stage, f"resumed {number}", Manner.PROMPT, (), 1)
                await once.watch(resuming(stream, resumed), resumed)

        kinds = sorted(received)
        chosen = [
            found[int(dice.random() * len(found))]
            for number in range(self._shape.resumes)
            for found in [received[kinds[number % len(kinds)]]]
        ]
        await asyncio.gather(*(resume(number, *each) for number, each in enumerate(chosen)))

    async def _stop(self) -> None:
        """Everybody who watches sees the server stop."""
        stage = self._stage
        stage.over = True
        stage.history.outages.append(Outage("SIGTERM", now_s()))
        stage.server.signal(signal.SIGTERM)
        await asyncio.to_thread(stage.server.wait)


class Once(Watcher):
    """Leaves as soon as it has come to the end of the log."""

    def _leaves(self, stream: Stream, after: int) -> bool:
        del stream, after
        return self._stage.considered.get(self.name, (0, 0)) >= self._stage.last


def _logged(data_dir: Path) -> list[LoggedEvent]:
    found: list[LoggedEvent] = []
    with closing(StoredLogReader(SqliteDatabase(data_dir / "events.db"))) as log:
        while events := log.read(
            Position(found[-1].position if found else 0), events_max=1_000, bytes_max=2**24
        ):
            assert {event.kind for event in events} == {EventKind.CALLBACK}
            found += [
                LoggedEvent(
                    event.position,
                    event.instance,
                    event.receive_time_us,
                    number_of(event.content),
                )
                for event in events
            ]
    return found
