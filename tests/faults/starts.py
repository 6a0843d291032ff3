"""Promises about where a stream begins."""

from collections.abc import Iterator

from tests.faults.case import ORIGIN_PLACE, Case, View
from tests.faults.truth import END

_CURSOR_ERRORS = "CURSOR_"


def resumable(case: Case) -> Iterator[str]:
    """Every cursor received is one of this log, and a stream begins exactly behind it."""
    for view in case.views:
        for item in view.items:
            if item.where is None:
                yield f"{view}: {item.kind} of frame {item.frame} has the cursor {item.cursor!r}"
        end = view.record.end
        if end is not None and end.reason.startswith(_CURSOR_ERRORS):
            yield f"{view}: its cursor was refused: {end.reason}: {end.details}"
        if view.asked is not None and view.opened is not None and view.start != view.asked:
            yield f"{view}: asked to begin behind {view.asked}, it began behind {view.start}"
    yield from _last_seen(case)


def _last_seen(case: Case) -> Iterator[str]:
    """A frame's cursor stands at its last change, or behind it."""
    for view in case.views:
        last = None
        for item in view.items:
            if item.kind == "change":
                last = item
            elif item.kind == "changes" and last is not None and item.where and last.where:
                short = item.where.place < last.where.place
                if short or (item.where.inside or ("",)) < (last.where.inside or ("",)):
                    yield f"{view}: the cursor of frame {item.frame} stands before its last change"


def starts_where_asked(case: Case) -> Iterator[str]:
    """Now is the head of the log at opening; a time is the first event received then or later."""
    for view in case.views:
        if view.start is None or view.opened is None:
            continue
        kind = view.record.request.WhichOneof("start")
        head = case.answered_before(view.record.asked_s)
        if kind == "from_time":
            yield from _at_time(case, view, head)
        elif kind != "cursor" and view.start.place < head:
            yield f"{view}: now is {view.start.place}, though {head} was recorded before"
        if kind == "snapshot" and (view.start.inside != ("", "") or view.start.place[1] != END):
            yield f"{view}: the snapshot begins at {view.start}"


def _at_time(case: Case, view: View, head: tuple[int, int]) -> Iterator[str]:
    assert view.start is not None
    time_us = view.record.request.from_time.ToMicroseconds()
    later = [event.position for event in case.history.events if event.time_us >= time_us]
    place = view.start.place
    if later and place >= (min(later), 0):
        yield f"{view}: from_time begins at {place}, behind {min(later)}, which it should tell of"
    # What was there before it opened and is not later than that time is not asked for.
    least = (min(later) - 1, END) if later and (min(later), 0) <= head else head
    if place < max(least, ORIGIN_PLACE):
        yield f"{view}: from_time begins at {place}, before {least}"
