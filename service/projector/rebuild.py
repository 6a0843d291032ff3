"""Rebuilding the views: fold the whole log into the spare slot, then switch, or compare.

    clear the spare slot ─ take over the baseline ─ fold up to the live position ┬ switch ─ clear
                                                                                 └ compare ─ clear

Every step is durable and says how far it got, so that a rebuild which was killed goes on where it
was, if the same version goes on; another one may fold otherwise, and begins again. The live views
are folded between the steps, so the rebuilt ones reach them and stay beside them.
"""

from collections.abc import Iterator

import msgspec

from service import __version__
from service.clock import Clock
from service.config import Limits
from service.domain.progress import Progress
from service.projector.follower import Follower
from service.projector.task import Hands
from service.views.store import Difference, SpareWriter
from service.wire.cursor import CursorCodec

_EXAMPLES_MAX = 5


class Rebuild:
    """As a task. Its last progress says what was done, or what differs."""

    def __init__(self, cursors: CursorCodec, clock: Clock, limits: Limits, *, check: bool) -> None:
        self._cursors = cursors
        self._clock = clock
        self._limits = limits
        self._check = check

    def __call__(self, hands: Hands) -> Iterator[Progress]:
        spare = hands.views.spare()
        if not _goes_on(hands, spare):
            yield from cleared(spare, self._limits.clear_rows_max)
            spare.begin(
                max(self._clock.now_us(), hands.views.checkpoint().generation + 1),
                hands.log.kept_from(),
                __version__,
            )
        follower = Follower(
            hands.log, spare, self._cursors, self._limits, self._limits.rebuild_events_max
        )
        for rows in follower.beginning():
            yield Progress(rows, 0, "baseline rows", "taking over what removed events came to")
        yield from _caught_up(hands, spare, follower)
        if self._check:
            yield from self._compared(hands, spare, follower)
        else:
            yield from self._switched(hands, spare)

    def _switched(self, hands: Hands, spare: SpareWriter) -> Iterator[Progress]:
        hands.views.switch()
        events = _folded(hands)
        generation = hands.views.checkpoint().generation
        yield from cleared(spare, self._limits.clear_rows_max)
        note = f"rebuilt: generation {generation} is live, at position {events}"
        yield Progress(events, events, "events", note)

    def _compared(self, hands: Hands, spare: SpareWriter, follower: Follower) -> Iterator[Progress]:
        rows, differences = 0, 0
        examples: list[Difference] = []
        pages = hands.views.compare(self._limits.compare_rows_max)
        while True:
            # Without a pause before the page is read, so that both stand at the same event.
            for _ in _caught_up(hands, spare, follower):
                yield Progress(rows, 0, "rows", "comparing", differences)
            page = next(pages, None)
            if page is None:
                break
            rows += page.rows
            differences += len(page.differences)
            examples += page.differences[: _EXAMPLES_MAX - len(examples)]
            yield Progress(rows, 0, "rows", "comparing", differences)
        for progress in cleared(spare, self._limits.clear_rows_max):
            yield msgspec.structs.replace(progress, differences=differences)
        yield Progress(rows, rows, "rows", _told(rows, differences, examples), differences)


def cleared(spare: SpareWriter, rows_max: int) -> Iterator[Progress]:
    """Empty the spare slot."""
    rows = 0
    while more := spare.clear(rows_max):
        rows += more
        yield Progress(rows, 0, "spare rows", "clearing the views that are not live")


def tidied(hands: Hands, rows_max: int) -> Iterator[Progress]:
    """Empty the spare slot, unless it holds what a rebuild would go on with.

    What a kill left there would stay until the next rebuild, whatever retention removes meanwhile.
    """
    spare = hands.views.spare()
    if not _goes_on(hands, spare):
        yield from cleared(spare, rows_max)


def _goes_on(hands: Hands, spare: SpareWriter) -> bool:
    """Is the spare slot what this version made of the log as it now is?"""
    checkpoint = spare.checkpoint()
    return (
        spare.program() == __version__
        and checkpoint.generation > hands.views.checkpoint().generation
        and spare.kept_from() == hands.log.kept_from()
        and (
            checkpoint.mark.position < spare.kept_from()
            or hands.log.mark(checkpoint.mark.position) == checkpoint.mark
        )
        and checkpoint.mark.position <= _folded(hands)
    )


def _caught_up(hands: Hands, spare: SpareWriter, follower: Follower) -> Iterator[Progress]:
    first = hands.log.last_removed().position
    while events := follower.waiting(hands.views.checkpoint().mark.position):
        follower.advance(events, ahead=True)
        done = spare.checkpoint().mark.position - first
        yield Progress(done, _folded(hands) - first, "events", "folding the log anew")


def _folded(hands: Hands) -> int:
    return hands.views.checkpoint().mark.position


def _told(rows: int, differences: int, examples: list[Difference]) -> str:
    if not differences:
        return f"no difference: {rows} rows are the same"
    shown = "; ".join(f"{one.table} {'/'.join(one.key)} {one.fault}" for one in examples)
    more = f"; and {differences - len(examples)} more" if differences > len(examples) else ""
    return f"{differences} of {rows} rows differ: {shown}{more}"
