"""Retention: the oldest events go, and the baseline keeps what later ones go on with.

A chunk at a time, all on the projector's thread, so that the views do not move meanwhile:

0. Once, wait until the views stand at the log's head. An erasure that they have not folded yet
   took from the log what they still show, and only the reports they hold say of what.
1. Fold the chunk onto the baseline.
2. In one transaction of the log: write the baseline, raise `kept_from`, delete the chunk.
3. In one transaction of the views: leave out the chunk's reports, and the messages without later
   ones. Killed between 2 and 3, the projector does 3 before it folds anything else.

Last, what is out of sight is taken off the disk, where that is not the same.

So the baseline always stands at the last removed event, and the views always hold what folding
the kept log onto it gives.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar

import structlog

from service import errors
from service.config import Limits
from service.database.database import Fence, unfenced
from service.domain.events import Event, Mark, Position
from service.domain.message import MessageKey
from service.domain.progress import Progress
from service.eventlog import baseline as rows
from service.eventlog.baseline import Baseline, BaselineRow
from service.eventlog.log import BaselineChange, LogWriter
from service.projector.batch import fold_events, quarantined
from service.projector.task import Hands
from service.views.store import Checkpoint, ViewsBatch
from service.wire.cursor import CursorCodec

_log = structlog.get_logger(__name__)
ResultT = TypeVar("ResultT")


class Cut(Protocol):
    """Runs something with the process's one writer, between two appends; what that returns."""

    def __call__(self, work: Callable[[LogWriter], ResultT], /) -> ResultT: ...


class Retention:
    """As a task: remove all events before a position that the views have passed."""

    def __init__(
        self,
        keep_from: Position,
        write: Cut,
        cursors: CursorCodec,
        limits: Limits,
        fence: Fence = unfenced,
        purge_span_us: int = 0,
    ) -> None:
        """`purge_span_us` is `LogWriter.purge`'s."""
        self._keep_from = keep_from
        self._fence = fence
        self._purge_span_us = purge_span_us
        self._write = write
        self._cursors = cursors
        self._limits = limits

    def __call__(self, hands: Hands) -> Iterator[Progress]:
        total = 0
        if hands.log.kept_from() < self._keep_from:
            total = yield from self._cut(hands)
        if hands.log.kept_from() > 1:
            # Also what an earlier run had to leave.
            while self._write(lambda log: log.purge(self._purge_span_us)):
                yield Progress(total, total, "events", "taking old events off the disk")

    def _cut(self, hands: Hands) -> Generator[Progress, None, int]:
        """How many events it was about."""
        yield from self._caught_up(hands)
        first = hands.log.last_removed().position
        total = self._keep_from - 1 - first
        while events := self._chunk(hands):
            batch = self._folded(events, hands.log.baseline())
            until = batch.until
            ended = hands.views.ended_before(Position(until.position + 1))
            known = hands.views.messages(
                {MessageKey(one.instance, one.message_id) for one in batch.messages}
            )
            change = _change(batch, hands.log.baseline(), ended, known.keys() - set(ended))
            self._write(partial(_cut, until, change, self._fence))
            hands.views.prune(Position(until.position + 1))
            yield Progress(until.position - first, total, "events", "removing old events")
        return total

    def _caught_up(self, hands: Hands) -> Iterator[Progress]:
        # Behind what the writer was handed already: an erasure whose caller left may be among it.
        self._write(lambda _log: None)
        head = hands.log.head().position
        while hands.views.checkpoint().mark.position < head:
            yield Progress(0, 0, "events", "waiting for the views")

    def _chunk(self, hands: Hands) -> list[Event]:
        events = hands.log.read(
            hands.log.last_removed().position,
            self._limits.retention_events_max,
            self._limits.fold_bytes_max,
        )
        return [event for event in events if event.position < self._keep_from]

    def _folded(self, events: Sequence[Event], baseline: Baseline) -> ViewsBatch:
        """Fold the events, or fewer of them, where a defect of ours is in the way of one."""
        since = Checkpoint(0, Mark(Position(0), 0))
        try:
            return fold_events(
                events, since, baseline, self._cursors, self._limits.fold_reports_max
            )
        except errors.PlugstatusError:
            raise
        except Exception:  # noqa: BLE001
            if len(events) > 1:
                return self._folded(events[: len(events) // 2], baseline)
            _log.exception("event left out of the baseline", position=events[0].position)
            return quarantined(events[0], since)


def _cut(until: Mark, change: BaselineChange, fence: Fence, log: LogWriter) -> None:
    log.cut(until, change, fence)


def _change(
    batch: ViewsBatch,
    baseline: Baseline,
    ended: Sequence[MessageKey],
    going_on: set[MessageKey],
) -> BaselineChange:
    webhooks = {one.update_id: one for one in (*baseline.webhooks(), *batch.webhooks)}
    last = {
        one.instance: one for one in sorted(webhooks.values(), key=lambda one: one.attempt_position)
    }
    put: list[BaselineRow] = [
        *(
            rows.message_row(one)
            for one in batch.messages
            if MessageKey(one.instance, one.message_id) in going_on
        ),
        *(rows.recipient_row(key, one) for key, one in batch.recipients if key in going_on),
        *map(rows.webhook_row, last.values()),
        *map(rows.instance_row, batch.instances),
    ]
    dropped = [rows.webhook_key(one) for one in webhooks.values() if one not in last.values()]
    return BaselineChange(ended, dropped, put)
