"""What a watch hands out, in the order of its stream."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.gen.plugchat.status.v1 import status_pb2 as pb


@dataclass(frozen=True, slots=True)
class Update:
    """Base of them all."""

    cursor: str
    """Store it once the update is dealt with: a watch from it goes on right behind. Empty only in
    an Interrupted before the first stream was open."""


@dataclass(frozen=True, slots=True)
class Opened(Update):
    """A stream is open and goes on where the watch was; the first one starts where it was told to.

    Callbacks that are posted from now on will be seen.
    """

    views_generation: int
    """Of the views that the stream reads. Another one than before: the views were rebuilt, and may
    hold what was never streamed."""


@dataclass(frozen=True, slots=True)
class SnapshotBegin(Update):
    """A stream is open and first sends every message there is: drop what you hold.

    Changes and then SnapshotEnd follow. A snapshot that is interrupted is continued behind the next
    Opened, without another SnapshotBegin.
    """

    views_generation: int


@dataclass(frozen=True, slots=True)
class Changes(Update):
    """One frame's changes, in the order of the log; in a snapshot, messages in order of key.

    The cursor is the last change's.
    """

    changes: Sequence[pb.StatusChange]
    """At least one; together at most 1 MiB."""


@dataclass(frozen=True, slots=True)
class SnapshotEnd(Update):
    """The snapshot is complete; what changed since it was taken follows."""


@dataclass(frozen=True, slots=True)
class CaughtUp(Update):
    """All that was there when the stream opened, or while it lagged, has been handed out."""


@dataclass(frozen=True, slots=True)
class FellBehind(Update):
    """The consumer is too slow for live changes. None is missing; CaughtUp follows in time."""


@dataclass(frozen=True, slots=True)
class Progress(Update):
    """Nothing matched up to this cursor."""


@dataclass(frozen=True, slots=True)
class Interrupted(Update):
    """The stream has ended; the watch opens another one when the next update is asked for.

    Opened or SnapshotBegin follows, or another Interrupted.
    """

    reason: str
    """An ErrorReason or ClosingReason without its prefix; the gRPC code where the server gave no
    reason, UNAVAILABLE for a stream that ended or fell silent."""
    message: str
    """The same for people."""
    retry_in_s: float
    """How long the watch waits before that, in seconds, from when it is asked."""
