"""The log as the rest of the service sees it; `reader`, `sqlite` and `postgres` implement it.

Both halves are synchronous and are each used by one thread at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from service.database.database import Fence, unfenced
from service.domain.events import Event, Mark, NewEvent, Position
from service.domain.message import MessageKey
from service.eventlog.baseline import Baseline, BaselineKey, BaselineRow


class BaselineChange(NamedTuple):
    """What a removal changes of the baseline, in this order."""

    ended: Sequence[MessageKey] = ()
    """Messages to leave out from now on, with their recipients."""
    dropped: Sequence[BaselineKey] = ()
    put: Sequence[BaselineRow] = ()
    """Rows that are new, or replace the one with their key."""


class Removals(NamedTuple):
    """What was ever removed from the log."""

    erased_event_count: int
    expired_event_count: int
    last_erasure_time_us: int
    """0: none ever."""
    oldest_event_time_us: int
    """Receive time of the first event still there; 0: there is none."""
    last_expired_time_us: int
    """Greatest receive time of what retention removed; 0: nothing ever."""


class LogWriter(Protocol):
    """Appends. One writer a log on SQLite; on a shared database each process has one."""

    @property
    def mends_itself(self) -> bool:
        """It goes on after a failure; others are to be closed, and a new one opened."""
        ...

    def append(self, events: Sequence[NewEvent]) -> Position:
        """Append at least one event in one durable transaction; all of them or none.

        Returns the first one's position; the others follow it without a gap, in the order given.
        SPOOLED: the callbacks among them are on this machine's disk, on their way to the log, and
        the others are nowhere. Raises LogUnavailable, and then nothing of the batch is visible;
        where the log is elsewhere, it may become so later.
        """
        ...

    def cut(self, until: Mark, baseline: BaselineChange, fence: Fence = unfenced) -> None:
        """Remove every event up to that one, in one durable transaction with the baseline.

        `until` stands before the last event. Raises LogUnavailable, or what the fence raises, and
        then nothing is removed.
        """
        ...

    def erase(
        self,
        tombstones: Sequence[tuple[Position, bytes]],
        erasure: NewEvent,
        baseline: BaselineChange,
        fence: Fence = unfenced,
    ) -> Position:
        """Replace contents by tombstones, and append the ERASURE event that says so.

        One durable transaction, with the baseline. Returns the appended event's position.
        Raises LogUnavailable, or what the fence raises, and then nothing is erased.
        """
        ...

    def purge(self, span_us: int) -> bool:
        """Remove from the disk some of what `cut` has removed from sight; is there more?

        Where whole pieces of the log go at once, the events of a piece that is not wholly cut yet
        may wait for the rest of it, but for no longer than `span_us` of receive times.
        Raises LogUnavailable.
        """
        ...

    def hold(self) -> None:
        """From now on nobody but this writer appends, until `release`, or it is closed.

        Raises LogUnavailable.
        """
        ...

    @property
    def holding(self) -> bool:
        """Nobody else can append."""
        ...

    def release(self) -> None:
        """Let others append again. Raises LogUnavailable; then they can as well."""
        ...

    def rewrite(self) -> None:
        """Write the store's file anew, without the gaps that may keep copies of deleted rows.

        It takes the file's size again on disk, and every append waits. Raises LogUnavailable.
        """
        ...

    def wipe(self) -> bool:
        """Empty what lies beside the store's file; False while a reader is in the way.

        Raises LogUnavailable.
        """
        ...

    def hint(self) -> None:
        """Tell other processes that events were appended. Raises LogUnavailable."""
        ...

    def close(self) -> None: ...


class LogReader(Protocol):
    """Reads what is committed. Raises LogUnavailable if the store cannot be read."""

    @property
    def usable(self) -> bool:
        """False once the connection is lost: only a new reader helps."""
        ...

    @property
    def identity(self) -> str:
        """32 hex digits, made with the log and copied with it."""
        ...

    def head(self) -> Mark:
        """The last event's mark; ORIGIN for a log that never held one."""
        ...

    def mark(self, position: Position) -> Mark | None:
        """The mark of the event there, or None where the log holds none."""
        ...

    def event(self, position: Position) -> Event | None:
        """The event there, or None where the log holds none."""
        ...

    def kept_from(self) -> Position:
        """The lowest position that retention keeps; 1 if it never removed anything."""
        ...

    def last_removed(self) -> Mark:
        """The mark of the last event that retention removed; ORIGIN if it never did."""
        ...

    def removals(self) -> Removals: ...

    def baseline(self) -> Baseline:
        """What the removed events had come to. Valid as long as the reader is."""
        ...

    def read(self, after: Position, events_max: int, bytes_max: int) -> list[Event]:
        """Events behind `after` in order of position, without gaps; empty at the head.

        Ends at `events_max`, or as soon as the contents reach `bytes_max` bytes together, so
        one event of any size is always read.
        """
        ...

    def holds_trace(self, text: str) -> bool:
        """Does the text stand anywhere in the store's files, deleted rows included?"""
        ...

    def received_from(self, time_us: int) -> Position | None:
        """The lowest position received at that time or later, or None if all came before.

        The lowest one kept, if retention has removed that position.
        """
        ...

    def close(self) -> None: ...
