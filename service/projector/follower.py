"""One generation of the views, following the log a batch at a time."""

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile

import structlog

from service import errors
from service.config import Limits
from service.domain.events import ORIGIN, Event, EventKind, Mark, Position
from service.eventlog.baseline import BaselinePart
from service.eventlog.log import LogReader
from service.projector.ahead import FoldedAhead
from service.projector.batch import Folding, quarantined
from service.projector.refold import refolded
from service.views.store import Checkpoint, GenerationWriter, ViewsBatch, always
from service.wire.cursor import CursorCodec

_log = structlog.get_logger(__name__)
_BASELINE_ROWS = 1_000
_PLENTY = Position(2**63 - 1)
_AHEAD = (EventKind.CALLBACK, EventKind.TOMBSTONE)
"""Others ask the views again when they are folded, or are folded by themselves."""


class Follower:
    """Every method raises RetryLater if a store cannot be used; then nothing was written."""

    def __init__(
        self,
        log: LogReader,
        views: GenerationWriter,
        cursors: CursorCodec,
        limits: Limits,
        events_max: int,
    ) -> None:
        self._log = log
        self._views = views
        self._cursors = cursors
        self._limits = limits
        self._most_events = events_max
        self._events_max = events_max
        self._since: Checkpoint | None = None
        """Where the views stand: before what `waiting` has just returned."""
        self._until = _PLENTY
        self._ahead: FoldedAhead | None = None

    def waiting(self, until: Position = _PLENTY) -> Sequence[Event]:
        """The next events to fold, none behind `until`; empty if there are none."""
        self._since, self._until = self._views.checkpoint(), until
        if self._ahead is not None and self._ahead.since == self._since:
            return self._ahead.events
        self._ahead = None
        return self._behind(self._since.mark.position)

    def next_position(self) -> Position | None:
        """Where the next event to be folded will stand; None if the views may have moved."""
        return Position(self._since.mark.position + 1) if self._since else None

    def moved(self) -> None:
        """Somebody else may have written the views."""
        self._since = self._ahead = None

    def advance(
        self,
        events: Sequence[Event],
        recorded: Callable[[], bool] = always,
        *,
        ahead: bool = False,
    ) -> ViewsBatch | None:
        """Fold the first of what `waiting` has just returned, or would return now.

        Nothing is written until `recorded` says that they are in the log for good. None: nothing
        was written; they are not there, or are to be tried with fewer at once.

        With `ahead` the next events are folded meanwhile if there are many (see `FoldedAhead`). It
        counts only if nobody else writes these views before the next call.

        A defect of ours in decoding or folding must not hold up what stands behind it. Halving
        the batches finds the one event at fault; it is stepped over, and stays in the log, and in
        quarantine by name.
        """
        since, self._since = self._since, None
        ready, self._ahead = self._ahead, None
        following: FoldedAhead | None = None
        assert since is not None
        try:
            batch = ready.batch if ready and ready.events is events else None
            batch = batch or self._folded(events, since)
            if ahead and len(events) >= self._limits.ahead_events_min:
                following = self._many_behind(batch)
            applied = self._views.apply(batch, recorded, following)
        except errors.PlugstatusError:
            raise
        except Exception as error:  # noqa: BLE001
            if len(events) > 1:
                _log.warning("trying with fewer events at once", reason=repr(error))
                self._events_max = len(events) // 2
                return None
            _log.exception("event put in quarantine", position=events[0].position)
            batch, following = quarantined(events[0], since), None
            applied = self._views.apply(batch, recorded)
        self._events_max = min(2 * self._events_max, self._most_events)
        if not applied:
            return None
        self._since = Checkpoint(since.generation, batch.until)
        if following is not None and following.batch is not None:
            self._ahead = following
        return batch

    def begin(self) -> None:
        """Take over the baseline, if events that these views never folded were removed.

        Raises StoreUnusable if the views hold some of the removed events and not all of them.
        """
        for _ in self.beginning():
            pass

    def beginning(self) -> Iterator[int]:
        """The same in steps: how many rows so far. Nothing may be removed meanwhile."""
        cut = self._log.last_removed()
        since = self._views.checkpoint()
        if since.mark.position >= cut.position:
            return
        if since.mark != ORIGIN:
            raise errors.StoreUnusable(
                f"the views stand at position {since.mark.position}, and retention has removed "
                f"events behind it from this log: move the views away, and they are built again"
            )
        rows = 0
        for part in self._log.baseline().parts(_BASELINE_ROWS):
            self._views.apply(_baseline(since, since.mark, part))
            rows += len(part.messages) + len(part.recipients)
            rows += len(part.webhooks) + len(part.instances)
            yield rows
        # Only now, so that one that was killed before begins again.
        self._views.apply(_baseline(since, cut, BaselinePart([], [], [], [])))

    def _folded(self, events: Sequence[Event], since: Checkpoint) -> ViewsBatch:
        if events[0].kind is EventKind.ERASURE:
            return refolded(events[0], since, self._views, self._log, self._cursors)
        erasures = (at for at, event in enumerate(events) if event.kind is EventKind.ERASURE)
        until = next(erasures, len(events))
        return self._folding(events[:until]).folded(since)

    def _folding(self, events: Sequence[Event]) -> Folding:
        return Folding(events, self._views, self._cursors, self._limits.fold_reports_max)

    def _many_behind(self, batch: ViewsBatch) -> FoldedAhead | None:
        """None unless there are many: until it is their turn there will be more."""
        since = Checkpoint(batch.since.generation, batch.until)
        try:
            behind = self._behind(since.mark.position)
        except errors.LogUnavailable:
            # No reason not to write what was read.
            return None
        events = list(takewhile(lambda event: event.kind in _AHEAD, behind))
        many = len(events) >= self._limits.ahead_events_min
        return FoldedAhead(since, events, self._folding) if many else None

    def _behind(self, position: Position) -> list[Event]:
        events = self._log.read(position, self._events_max, self._limits.fold_bytes_max)
        return [event for event in events if event.position <= self._until]


def _baseline(since: Checkpoint, until: Mark, part: BaselinePart) -> ViewsBatch:
    return ViewsBatch(
        since=since,
        until=until,
        messages=part.messages,
        recipients=part.recipients,
        feed=(),
        quarantine=(),
        webhooks=part.webhooks,
        instances=part.instances,
    )
