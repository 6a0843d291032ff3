"""The next batch, folded while the one before it is being committed.

A commit waits for the disk and leaves Python to others, so that under load, when more waits than
one batch takes, folding the next one costs no time of its own:

    write N ─ look up N+1 ┬ commit N ────┬ write N+1 ─ look up N+2 ┬ …
                          └ fold N+1 ────┘                         └ …

What N+1 meets is looked up in N's own transaction, so there is nothing to add to it. If N is not
committed, N+1 is forgotten.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import takewhile

from service import errors
from service.domain.events import Event, EventKind
from service.projector.batch import Folding
from service.views.store import Checkpoint, ViewsBatch

_KINDS = (EventKind.CALLBACK, EventKind.TOMBSTONE)
"""Others ask the views again when they are folded, or are folded by themselves."""


class FoldedAhead:
    """As `Ahead`. A defect of ours leaves it without a batch: whose turn it is comes upon it."""

    def __init__(
        self,
        since: Checkpoint,
        read: Callable[[], Sequence[Event]],
        folding: Callable[[Sequence[Event]], Folding],
        events_min: int,
    ) -> None:
        """`since`: where the views will stand. Of fewer than `events_min` events none is folded:
        until it is their turn there will be more.
        """
        self.since = since
        self.events: Sequence[Event] = ()
        """The first that wait behind `since`."""
        self.batch: ViewsBatch | None = None
        """What they change."""
        self._read = read
        self._begin = folding
        self._events_min = events_min
        self._folding: Folding | None = None

    def look_up(self) -> None:
        # What the log lacks is no reason to undo a transaction of the views.
        with suppress(errors.LogUnavailable):
            self.events = list(takewhile(lambda event: event.kind in _KINDS, self._read()))
        if len(self.events) >= self._events_min:
            try:
                self._folding = self._begin(self.events)
            except errors.PlugstatusError:
                raise
            except Exception:  # noqa: BLE001
                self._folding = None

    def work(self) -> None:
        if self._folding is not None:
            with suppress(Exception):
                self.batch = self._folding.folded(self.since)
