"""Histories in which every promise is kept, made without a server.

A clock of its own runs from 0 s; a callback is posted every 0.1 s, and is with all watchers soon
after. Whoever tests a validator damages one of these.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice

from google.protobuf.duration_pb2 import Duration

from service.domain.events import Mark, Position, end_of
from service.domain.message import MessageKey
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.wire.cursor import CursorCodec, InSnapshot
from tests.faults.bodies import Bodies
from tests.faults.case import Case
from tests.faults.history import (
    End,
    Frame,
    History,
    LoggedEvent,
    Outage,
    Post,
    Rebuild,
    Resumed,
    Sample,
    Stall,
    Stream,
    Wait,
)
from tests.faults.truth import END, Expected, wanted, wanted_message
from tests.fold_model import BEGIN_US, Key, Place

IDENTITY = "0f" * 16
CALLBACKS = 240
EVERY_S = 0.1
REBUILT_S = 12.0
KILLED_S = 16.0
UP_S = 17.0
END_S = CALLBACKS * EVERY_S + 2.0
_GROUP = 3
_INTERVAL_S = 1.0


def perfect(seed: int) -> History:
    """One with streams of every kind, resumed anywhere, over a rebuild, a kill and a stop."""
    return _Perfect(seed).history


class _Perfect:
    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.history = _posted(seed, self._dice)
        self._case = Case(self.history)
        self._truth = self._case.truth
        self._codec = CursorCodec(IDENTITY)
        self._marks = [Mark(Position(0), 0)] + [
            Mark(Position(event.position), event.time_us) for event in self.history.events
        ]
        self.history.rebuilds.append(Rebuild(REBUILT_S, REBUILT_S))
        self.history.outages += [Outage("SIGKILL", KILLED_S, UP_S), Outage("SIGTERM", END_S)]
        self._watch_everywhere()
        self._stall()
        self._wait()
        self.history.samples += [Sample(at_s, 1_000, 2**21, 2**27, 1) for at_s in range(5)]

    def _watch_everywhere(self) -> None:
        """Until the views are rebuilt, the server is killed, the client leaves, or it stops."""
        everything = pb.WatchStatusesRequest(progress_interval=Duration(seconds=1))
        for number, request in enumerate(_requests(everything, self._codec, self._marks)):
            asked_s = 1.05 + number % 7
            stream = self.stream(request, asked_s, asked_s + 3 + number % 5)
            for _ in range(3):
                stream = self._again(stream, stream.end.at_s + 0.01 if stream.end else 0.0)
        for at_s in (2.05, 8.05, 13.05):
            self.stream(_with(everything, snapshot=True), at_s, END_S)
        for at_s in (8.05, 14.05, 18.05):
            self.stream(_with(everything, from_now=True), at_s, END_S)

    def _again(self, source: Stream, at_s: float) -> Stream:
        """Resumed from anywhere in another stream."""
        number = self._dice.randrange(len(source.frames))
        response = source.frames[number].response
        changes, inside = response.changes.changes, None
        if changes and self._dice.random() < 0.5:
            inside = self._dice.randrange(len(changes))
        cursor = response.cursor if inside is None else changes[inside].cursor
        resumed = Resumed(source.number, number, inside)
        at_s = UP_S + 0.05 if KILLED_S <= at_s < UP_S else at_s
        return self.stream(_with(source.request, cursor=cursor), at_s, at_s + 4, resumed)

    def stream(
        self,
        request: pb.WatchStatusesRequest,
        asked_s: float,
        until_s: float,
        resumed: Resumed | None = None,
    ) -> Stream:
        """What a perfect server sends between two moments, and how it ends."""
        stream = Stream(
            len(self.history.streams), "perfect", request, asked_s, resumed=resumed, frames=[]
        )
        self.history.streams.append(stream)
        ends = {
            REBUILT_S: pb.CLOSING_REASON_VIEWS_REBUILT,
            KILLED_S: None,
            END_S: pb.CLOSING_REASON_SHUTTING_DOWN,
        }
        at_s = min(one for one in ends if one >= asked_s)
        sent = _Sent(stream, min(until_s, at_s))
        for moment_s, response in self._sent(request, asked_s + 0.001):
            if not sent.add(moment_s, response):
                break
        if until_s < at_s:
            stream.end = End(until_s, "cancelled")
        elif (reason := ends[at_s]) is None:
            stream.end = End(at_s, "error", "UNAVAILABLE", "", "connection reset")
        else:
            closing = pb.WatchStatusesResponse(
                cursor=sent.cursor, closing=pb.Closing(reason=reason)
            )
            stream.frames.append(Frame(at_s, closing))
            stream.end = End(at_s, "ok")
        return stream

    def _sent(
        self, request: pb.WatchStatusesRequest, at_s: float
    ) -> Iterator[tuple[float, pb.WatchStatusesResponse]]:
        head = self._head(at_s)
        place, inside = self._start(request, head)
        cursor = self._cursor(place) if inside is None else self._inside(place, inside)
        opened = pb.Opened(views_generation=1 if at_s < REBUILT_S else 2)
        yield at_s, pb.WatchStatusesResponse(cursor=cursor, opened=opened)
        if inside is not None:
            for key in [key for key in self._truth.keys if key > inside]:
                at_s += 0.02
                message = self._in_snapshot(request.filter, key, place, self._head(at_s))
                if message is not None:
                    yield at_s, _changes([message])
            yield (
                at_s,
                pb.WatchStatusesResponse(cursor=self._cursor(place), snapshot_end=pb.SnapshotEnd()),
            )
        for found in _grouped(self._wanted(request, place, (head, END))):
            at_s += 0.003
            yield at_s, _changes(found)
        place = max(place, (head, END))
        caught_up = pb.WatchStatusesResponse(cursor=self._cursor(place), caught_up=pb.CaughtUp())
        yield at_s, caught_up
        yield from self._live(request, place, at_s)

    def _live(
        self, request: pb.WatchStatusesRequest, place: Place, at_s: float
    ) -> Iterator[tuple[float, pb.WatchStatusesResponse]]:
        """A callback after the other; now and then it falls behind for one."""
        for position in range(place[0] + 1, CALLBACKS + 1):
            at_s = max(at_s, _heard_s(position))
            behind = self._dice.random() < 0.05
            if behind:
                cursor = self._cursor((position - 1, END))
                fell_behind = pb.FellBehind()
                yield at_s, pb.WatchStatusesResponse(cursor=cursor, fell_behind=fell_behind)
            for found in _grouped(self._wanted(request, (position - 1, END), (position, END))):
                yield at_s, _changes(found)
            cursor = self._cursor((position, END))
            if behind:
                yield at_s, pb.WatchStatusesResponse(cursor=cursor, caught_up=pb.CaughtUp())
            yield at_s, pb.WatchStatusesResponse(cursor=cursor, progress=pb.Progress())
        while True:
            at_s += _INTERVAL_S
            yield (
                at_s,
                pb.WatchStatusesResponse(
                    cursor=self._cursor((CALLBACKS, END)), progress=pb.Progress()
                ),
            )

    def _start(self, request: pb.WatchStatusesRequest, head: int) -> tuple[Place, Key | None]:
        kind = request.WhichOneof("start")
        if kind == "cursor":
            where = self._case.where(request.cursor)
            assert where is not None
            return where
        if kind == "from_time":
            times = [mark.receive_time_us for mark in self._marks]
            later = bisect_right(times, request.from_time.ToMicroseconds() - 1)
            return (min(later - 1, head), END), None
        return (head, END), ("", "") if kind == "snapshot" else None

    def _wanted(
        self, request: pb.WatchStatusesRequest, after: Place, until: Place
    ) -> Sequence[pb.StatusChange]:
        return [
            report.change for report in self._truth.between(after, until) if wanted(request, report)
        ]

    def _in_snapshot(
        self, chosen: pb.WatchFilter, key: Key, as_of: Place, head: int
    ) -> pb.StatusChange | None:
        """The message as of then, unless it has changed since."""
        state = self._truth.last_change(key, as_of)
        now = self._truth.last_change(key, (head, END))
        if state is None or state != now or not wanted_message(chosen, state.change.message):
            return None
        change = pb.StatusChange(message=state.change.message, cursor=self._inside(as_of, key))
        change.message.report_count = self._truth.count(key, (head, END))
        return change

    def _head(self, at_s: float) -> int:
        return max(0, sum(_heard_s(event.position) <= at_s for event in self.history.events))

    def _cursor(self, place: Place) -> str:
        return self._truth.cursor(place, self._marks[place[0]].receive_time_us)

    def _inside(self, as_of: Place, key: Key) -> str:
        behind = InSnapshot.behind(MessageKey(*key)) if key[1] else InSnapshot()
        return self._codec.inside(end_of(self._marks[as_of[0]]), behind)

    def _stall(self) -> None:
        """One that takes nothing for a while; the rest of its history does not matter."""
        stream = self.stream(pb.WatchStatusesRequest(from_now=True), 8.55, 11.8)
        stream.prompt = False
        posted = self._cursor((90, END))
        self.history.stalls.append(Stall(stream.number, 8.7, 11.5, posted, 9.1))

    def _wait(self) -> None:
        """Waits that end in each of the ways there are."""
        high, low = self._reached(pb.STATUS_READ), self._never(pb.STATUS_PLAYED)
        heard_s = _heard_s(high.place[0])
        request = _wait_for(high.key, pb.STATUS_READ)
        self.history.waits += [
            Wait(request, heard_s - 0.05, 9, End(heard_s, "ok"), high.change.message),
            Wait(
                _wait_for(low, pb.STATUS_PLAYED),
                1.0,
                9.0,
                End(10.0, "error", "DEADLINE_EXCEEDED", "WAIT_TIMED_OUT"),
            ),
            Wait(_wait_for(high.key, pb.STATUS_READ), 16.1, 9, End(16.2, "error", "UNAVAILABLE")),
            Wait(_wait_for(high.key, pb.STATUS_PLAYED), 1.0, 9, End(1.5, "cancelled")),
        ]

    def _reached(self, status: int) -> Expected:
        """The first report that took some message there."""
        return next(
            report
            for report in self._truth.reports
            if report.change.message.status == status > report.change.previous_status
        )

    def _never(self, status: int) -> Key:
        return next(
            (
                key
                for key in self._truth.keys
                if self._truth.by_message[key][-1].change.message.status < status
            ),
            ("acme", "absent"),
        )


class _Sent:
    """Takes frames as they come, and only as much Progress as is due."""

    def __init__(self, stream: Stream, until_s: float) -> None:
        self._stream = stream
        self._until_s = until_s
        self._due_s = 0.0
        self.cursor = ""

    def add(self, at_s: float, response: pb.WatchStatusesResponse) -> bool:
        """False once its time is over."""
        if at_s > self._until_s:
            return False
        kind = response.WhichOneof("frame")
        if kind == "opened":
            self._due_s = at_s + _INTERVAL_S
        elif at_s >= self._due_s:
            self._due_s = at_s + _INTERVAL_S
            progress = pb.WatchStatusesResponse(cursor=self.cursor, progress=pb.Progress())
            self._stream.frames.append(Frame(at_s, progress))
        if kind != "progress":
            self._stream.frames.append(Frame(at_s, response))
        self.cursor = response.cursor
        return True


def _posted(seed: int, dice: random.Random) -> History:
    """Callbacks every 0.1 s. One in ten is not answered; of those every other is not recorded."""
    history = History(seed, IDENTITY, events=[], posts=[], streams=[], outages=[], rebuilds=[])
    history.samples, history.stalls, history.waits = [], [], []
    codec = CursorCodec(IDENTITY)
    bodies = Bodies(dice, ids=4)
    while len(history.events) < CALLBACKS:
        position = len(history.events) + 1
        post = Post(bodies.next(), position * EVERY_S)
        history.posts.append(post)
        if post.body.number % 20 == 0:
            continue
        event = LoggedEvent(
            position, post.body.instance, BEGIN_US + position * 1_000, post.body.number
        )
        history.events.append(event)
        if post.body.number % 20 != 10:
            post.answered_s = post.sent_s + 0.01
            post.cursor = codec.end_of(Mark(Position(position), event.time_us))
    return history


def _heard_s(position: int) -> float:
    """When the watchers have it."""
    return position * EVERY_S + 0.02


def _requests(
    everything: pb.WatchStatusesRequest, codec: CursorCodec, marks: Sequence[Mark]
) -> Iterator[pb.WatchStatusesRequest]:
    for chosen in (
        pb.WatchFilter(),
        pb.WatchFilter(instances=["acme", "b.2"]),
        pb.WatchFilter(message_ids=["a", "B", "é"]),
        pb.WatchFilter(statuses=[pb.STATUS_READ, pb.STATUS_FAILED], instances=["acme"]),
        pb.WatchFilter(phones=["5511987650001"]),
    ):
        request = _with(everything)
        request.filter.CopyFrom(chosen)
        yield _with(request, cursor=codec.end_of(marks[3]))
        yield _with(request, snapshot=True)
        request.include_unchanged = True
        yield _with(request, from_now=True)
        request.from_time.FromMicroseconds(BEGIN_US + 8_000)
        yield request


def _with(
    request: pb.WatchStatusesRequest,
    cursor: str = "",
    snapshot: bool = False,
    from_now: bool = False,
) -> pb.WatchStatusesRequest:
    """A copy with another start."""
    copy = pb.WatchStatusesRequest()
    copy.CopyFrom(request)
    if cursor:
        copy.cursor = cursor
    elif snapshot:
        copy.snapshot = True
    elif from_now:
        copy.from_now = True
    return copy


def _changes(found: Sequence[pb.StatusChange]) -> pb.WatchStatusesResponse:
    return pb.WatchStatusesResponse(cursor=found[-1].cursor, changes=pb.Changes(changes=found))


def _grouped(found: Sequence[pb.StatusChange]) -> Iterator[Sequence[pb.StatusChange]]:
    rest = iter(found)
    while group := list(islice(rest, _GROUP)):
        yield group


def _wait_for(key: Key, status: pb.Status.ValueType) -> pb.WaitForStatusRequest:
    return pb.WaitForStatusRequest(
        instance=key[0], message_id=key[1], at_least=status, ignore_failure=True
    )
