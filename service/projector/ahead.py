"""The next batch, folded while the one before it is being committed.

A commit waits for the disk and leaves Python to others, so that under load, where many events wait,
folding the next ones costs no time of its own:

    write N ─ look up N+1 ┬ commit N ────┬ write N+1 ─ look up N+2 ┬ …
                          └ fold N+1 ────┘                         └ …

N+1 is read from the log before that, and what it meets is looked up in N's own transaction, so
there is nothing to add to it. If N is not committed, N+1 is forgotten.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from service import errors
from service.domain.events import Event
from service.projector.batch import Folding
from service.views.store import Checkpoint, ViewsBatch


class FoldedAhead:
    """As `Ahead`. A defect of ours leaves it without a batch: whose turn it is comes upon it."""

    def __init__(
        self,
        since: Checkpoint,
        events: Sequence[Event],
        folding: Callable[[Sequence[Event]], Folding],
    ) -> None:
        """`since`: where the views will stand. `events`: the first that wait behind it."""
        self.since = since
        self.events = events
        self.batch: ViewsBatch | None = None
        """What they change."""
        self._begin = folding
        self._folding: Folding | None = None

    def look_up(self) -> None:
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
