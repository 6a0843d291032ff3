"""A watcher's snapshot: every message as it was at one event, read a page at a time.

Why the snapshot and the changes after it are the whole state, without a long transaction:

1. A snapshot is as of the end of an event P, the log's head when the stream opened. Its pages are
   read once the views have folded P in, each from whatever state they are in by then.
2. The row of a message that was last changed at P or before is what it was at P, but for its
   report count: only a change alters anything else, and a change moves `changed_at`.
3. The row of any other message was changed behind P, so that change is in the feed behind P, and
   the stream goes on there after the snapshot. So each message is in the snapshot or, as often as
   it changed, behind it. (With a filter of statuses, one that has left it is in neither.)
4. Messages are read in order of their key, which never changes, and each page goes on behind the
   key where the last one ended. So none comes twice, and one that was there all the time is not
   passed over, however many appear, change or go meanwhile.

A cursor inside the snapshot names P and the key it is behind: that is all a page needs, so any
server can go on with it. It names an instance by a digest; the views know every instance.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from service import errors
from service.api.packing import frame_bounds
from service.config import Limits
from service.domain.events import Point
from service.domain.message import MessageKey
from service.views.feed import FeedFilter
from service.views.store import ViewsReader
from service.wire import frames
from service.wire.cursor import BEFORE_ALL_MESSAGES, CursorCodec, InSnapshot, instance_digest

_INSTANCES_PAGE = 1_000


class SnapshotFrame(NamedTuple):
    encoded: bytes
    """A Changes frame."""
    behind: InSnapshot
    """Its last message."""


class SnapshotFrames(NamedTuple):
    generation: int
    """Of the views that were read."""
    frames: list[SnapshotFrame]
    end: InSnapshot | None
    """How far was looked; None once nothing is left."""


class Snapshot:
    """How far one watcher's snapshot is."""

    def __init__(
        self,
        as_of: Point,
        behind: InSnapshot,
        cursors: CursorCodec,
        instances: Collection[str] = (),
    ) -> None:
        """`instances`: the only ones there are for the watcher, if there are any."""
        self.as_of = as_of
        self.behind = behind
        """Everything up to here was sent or passed over."""
        self._cursors = cursors
        self._instances = instances
        self._key: MessageKey | None = None

    def cursor(self) -> str:
        return self._cursors.inside(self.as_of, self.behind)

    def read(self, views: ViewsReader, wanted: FeedFilter, limits: Limits) -> SnapshotFrames:
        """The next page. Moves nothing but what `read` itself needs to know.

        The views stand at `as_of` or further. Raises ViewsUnavailable; CursorExpired if retention
        has removed what follows the snapshot; CursorDiverged if no server can have begun it.
        """
        if self._key is None:
            self._key = _key(views, self.behind, self._instances)
        page = views.snapshot(
            self._key, self.as_of.place.position, wanted, limits.snapshot_messages_max
        )
        keys = [(instance, message_id) for instance, message_id, _, _ in page.messages]
        cursors = self._cursors.behind_each(self.as_of, keys)
        encoded = [encoded for _, _, _, encoded in page.messages]
        changes = list(map(frames.in_snapshot, encoded, cursors))
        self._key = page.end
        return SnapshotFrames(
            page.generation,
            list(_frames(changes, keys, cursors, limits)),
            page.end and InSnapshot.behind(page.end),
        )


def _frames(
    changes: Sequence[bytes],
    keys: Sequence[tuple[str, str]],
    cursors: Sequence[bytes],
    limits: Limits,
) -> Iterator[SnapshotFrame]:
    last = -1
    for group in frames.grouped(changes, [*map(len, changes)], frame_bounds(limits)):
        last += len(group)
        frame = frames.changes(group, cursors[last].decode("ascii"))
        yield SnapshotFrame(frame, InSnapshot.behind(MessageKey(*keys[last])))


def _key(views: ViewsReader, behind: InSnapshot, instances: Collection[str]) -> MessageKey:
    if behind == BEFORE_ALL_MESSAGES:
        return MessageKey("", "")
    name = ""
    while known := views.instances(name, _INSTANCES_PAGE, instances):
        for instance in known:
            if instance_digest(instance.instance) == behind.instance_digest:
                return MessageKey(instance.instance, behind.message_id)
        name = known[-1].instance
    raise errors.CursorDiverged(
        "this log never heard of the instance that the snapshot had come to: start anew"
    )
