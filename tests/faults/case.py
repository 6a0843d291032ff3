"""A history made ready to be judged: cursors as places, streams as items, the log as the truth."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from service.domain.events import END_OF_CALLBACK, ORIGIN, Mark, Position
from service.errors import CursorError
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.wire.cursor import CursorCodec, instance_digest
from tests.faults.history import History, LoggedEvent, Stream
from tests.faults.truth import END, Truth
from tests.fold_model import Key, Place, Said

ORIGIN_PLACE: Place = (0, END)
BEFORE_ALL: Key = ("", "")


class Where(NamedTuple):
    """What a cursor says."""

    place: Place
    inside: Key | None = None
    """Behind this message of a snapshot as of `place`; None for an ordinary cursor."""


class Item(NamedTuple):
    """A change, or the frame itself behind its changes, in the order received."""

    frame: int
    nth: int | None
    """Of a change in its frame; None for the frame."""
    kind: str
    at_s: float
    cursor: str
    where: Where | None
    """None: it is no cursor of this log."""
    change: pb.StatusChange | None = None

    @property
    def ordinary(self) -> Place | None:
        """The place, unless it is inside a snapshot or unknown."""
        return self.where.place if self.where and self.where.inside is None else None


class View(NamedTuple):
    """One stream, understood."""

    record: Stream
    asked: Where | None
    """What its cursor said, if it was asked for with one."""
    items: Sequence[Item]
    snapshot: Sequence[Item]
    """Messages of the snapshot."""
    changes: Sequence[Item]
    """Every other change."""

    def __str__(self) -> str:
        return f"stream {self.record.number} ({self.record.watcher})"

    @property
    def opened(self) -> Item | None:
        return next((item for item in self.items if item.kind == "opened"), None)

    @property
    def start(self) -> Where | None:
        """Where it began, by the cursor of Opened."""
        return self.opened.where if self.opened else None

    @property
    def considered(self) -> Place | None:
        """What its last frame's cursor says; None while it is in its snapshot."""
        return self.items[-1].ordinary if self.items else None

    @property
    def in_snapshot(self) -> bool:
        """Does it begin in a snapshot?"""
        return self.record.request.snapshot or bool(self.asked and self.asked.inside is not None)


class Case:
    """Everything the validators look at."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.codec = CursorCodec(history.log_identity)
        self.events = {event.position: event for event in history.events}
        self.posts = {post.body.number: post for post in history.posts}
        self.truth = Truth(self._said(), self.codec)
        self._instances = {
            instance_digest(name): name for name in {event.instance for event in history.events}
        }
        self._known: dict[str, Where | None] = {}
        self.views = [self._view(stream) for stream in history.streams]
        self.by_number = {view.record.number: view for view in self.views}
        self.answered_before = _greatest_before(
            [
                (post.answered_s, where.place)
                for post in history.posts
                if post.answered_s is not None and (where := self.where(post.cursor))
            ]
        )
        """The last place that was acknowledged before a time."""
        self.sent_after = _least_after(
            [
                (self.posts[event.number].sent_s, (event.position, 0))
                for event in history.events
                if event.number in self.posts
            ]
        )
        """The first place of what was posted after a time; None if nothing was."""

    def where(self, cursor: str) -> Where | None:
        """What a cursor says; None if it is none of this log."""
        if cursor not in self._known:
            self._known[cursor] = self._decoded(cursor)
        return self._known[cursor]

    def _decoded(self, text: str) -> Where | None:
        try:
            cursor = self.codec.decode(text)
        except CursorError:
            return None
        position, index = cursor.place.position, cursor.place.index
        event = self.events.get(position)
        mark = Mark(Position(position), event.time_us) if event else ORIGIN
        if mark.position != position or not cursor.recognises(mark):
            return None
        if index != END_OF_CALLBACK and (position, index) not in self.truth.by_place:
            return None
        if cursor.snapshot is None:
            return Where((position, index))
        if not cursor.snapshot.message_id:
            return Where((position, index), BEFORE_ALL)
        instance = self._instances.get(cursor.snapshot.instance_digest)
        key = (instance, cursor.snapshot.message_id) if instance else None
        return Where((position, index), key) if key else None

    def _said(self) -> Iterator[Said]:
        for event in sorted(self.history.events, key=lambda event: event.position):
            post = self.posts.get(event.number)
            if post is not None:
                yield from (_logged(said, event) for said in post.body.said)

    def _view(self, stream: Stream) -> View:
        request = stream.request
        asked = self.where(request.cursor) if request.WhichOneof("start") == "cursor" else None
        items = list(self._items(stream))
        in_snapshot = request.snapshot or bool(asked and asked.inside is not None)
        end = next((item.frame for item in items if item.kind == "snapshot_end"), len(items))
        changes = [item for item in items if item.kind == "change"]
        return View(
            stream,
            asked,
            items,
            [item for item in changes if in_snapshot and item.frame < end],
            [item for item in changes if not in_snapshot or item.frame > end],
        )

    def _items(self, stream: Stream) -> Iterator[Item]:
        for number, frame in enumerate(stream.frames):
            for index, change in enumerate(frame.response.changes.changes):
                where = self.where(change.cursor)
                yield Item(number, index, "change", frame.at_s, change.cursor, where, change)
            cursor = frame.response.cursor
            yield Item(number, None, frame.kind, frame.at_s, cursor, self.where(cursor))


def _logged(said: Said, event: LoggedEvent) -> Said:
    """What a body says once its place and its receive time are known."""
    return said._replace(
        place=(event.position, said.place[1]),
        time_us=event.time_us,
        occur_us=said.occur_us or event.time_us,
    )


def _greatest_before(found: list[tuple[float, Place]]) -> Callable[[float], Place]:
    found = sorted(found)
    times = [at_s for at_s, _ in found]
    greatest = list(accumulate((place for _, place in found), max, initial=ORIGIN_PLACE))
    return lambda at_s: greatest[bisect_left(times, at_s)]


def _least_after(found: list[tuple[float, Place]]) -> Callable[[float], Place | None]:
    found = sorted(found)
    times = [at_s for at_s, _ in found]
    none = (2**63, 0)
    least = list(accumulate((place for _, place in reversed(found)), min, initial=none))[::-1]
    return lambda at_s: None if (it := least[bisect_right(times, at_s)]) == none else it
