"""The log as the rest of the service sees it; `sqlite` is an implementation.

Both halves are synchronous and are each used by one thread at a time.
"""

from collections.abc import Sequence
from typing import Protocol

from service.domain.events import Event, Mark, NewEvent, Position


class LogWriter(Protocol):
    """Appends. One writer a log on SQLite; on a shared database each process has one."""

    def append(self, events: Sequence[NewEvent]) -> Position:
        """Append at least one event in one durable transaction; all of them or none.

        Returns the first one's position; the others follow it without a gap, in the order given.
        Raises LogUnavailable, and then nothing of the batch is visible.
        """
        ...

    def close(self) -> None: ...


class LogReader(Protocol):
    """Reads what is committed. Raises LogUnavailable if the store cannot be read."""

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

    def read(self, after: Position, events_max: int, bytes_max: int) -> list[Event]:
        """Events behind `after` in order of position, without gaps; empty at the head.

        Ends at `events_max`, or as soon as the contents reach `bytes_max` bytes together, so
        one event of any size is always read.
        """
        ...

    def received_from(self, time_us: int) -> Position | None:
        """The lowest position received at that time or later, or None if all came before.

        The lowest one kept, if retention has removed that position.
        """
        ...

    def close(self) -> None: ...
