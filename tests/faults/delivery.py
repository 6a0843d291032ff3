"""Promises about the changes on a stream."""

from collections.abc import Iterator

from tests.faults.case import Case, Item, View
from tests.faults.truth import END, wanted
from tests.fold_model import Key, Place


def recorded(case: Case) -> Iterator[str]:
    """A callback that was answered is in the log, where its cursor says, once."""
    for post in case.history.posts:
        if post.answered_s is None:
            continue
        where = case.where(post.cursor)
        if where is None or where.inside is not None or where.place[1] != END:
            yield f"callback {post.body.number} was answered with {post.cursor!r}"
            continue
        event = case.events.get(where.place[0])
        if event is None or event.number != post.body.number:
            yield f"callback {post.body.number} is not in the log at {where.place[0]}"
        elif event.instance != post.body.instance:
            yield f"callback {post.body.number} was recorded for {event.instance}"
    seen: set[int] = set()
    for event in case.history.events:
        if event.number in seen:
            yield f"callback {event.number} is in the log again, at {event.position}"
        if event.number not in case.posts:
            yield f"nobody posted what the log holds at {event.position}"
        seen.add(event.number)


def ordered(case: Case) -> Iterator[str]:
    """Changes come in the order of the log, and so do the cursors of all frames."""
    for view in case.views:
        last: Place = (0, 0)
        for item in view.items:
            place = item.ordinary
            if place is not None and place < last:
                yield f"{view}: {item.kind} of frame {item.frame} at {place} behind {last}"
            last = max(last, place or last)


def unique(case: Case) -> Iterator[str]:
    """No change comes twice on a stream, or again on one that resumes from behind it."""
    for view in case.views:
        seen = set(_before_resuming(case, view))
        for item in (*view.snapshot, *view.changes):
            name = _name(item)
            if name in seen:
                yield f"{view}: {name} came again in frame {item.frame}"
            seen.add(name)


def complete(case: Case) -> Iterator[str]:
    """Between where it starts and what it has considered, a stream leaves nothing out."""
    for view in case.views:
        start = view.asked or view.start
        if view.record.end and view.record.end.how == "stuck":
            yield f"{view}: did not come to the end of the log in time"
        if start is None or view.considered is None:
            continue
        has = {item.ordinary for item in view.changes}
        for report in case.truth.between(start.place, view.considered):
            if report.place not in has and wanted(view.record.request, report):
                yield f"{view}: the change of {report.key} at {report.place} never came"
    yield from _delivered_once_opened(case)


def _delivered_once_opened(case: Case) -> Iterator[str]:
    """Every callback posted after the client has Opened stands behind the stream's start."""
    for view in case.views:
        if view.opened is None or view.start is None or view.asked is not None:
            continue
        first = case.sent_after(view.opened.at_s)
        if first is not None and first < view.start.place:
            yield f"{view}: opened at {view.start.place}, beyond {first}, which was posted later"


def filtered_exactly(case: Case) -> Iterator[str]:
    """What comes is what the request asks for, by the model's state and the model's changes."""
    for view in case.views:
        for item in view.changes:
            report = case.truth.by_place.get(item.ordinary or (0, 0))
            if report is not None and not wanted(view.record.request, report):
                unchanged = "" if report.changed else ", which changed nothing,"
                yield f"{view}: the report of {report.key} at {report.place}{unchanged} came"


def faithful(case: Case) -> Iterator[str]:
    """A change carries the message, the status before and the recipient as of its report."""
    for view in case.views:
        for item in view.changes:
            report = case.truth.by_place.get(item.ordinary or (0, 0))
            if report is None:
                yield f"{view}: a change in frame {item.frame} names no report: {item.cursor}"
            elif item.change != report.change:
                yield f"{view}: at {report.place} came\n{item.change}instead of\n{report.change}"


def never_backwards(case: Case) -> Iterator[str]:
    """The status of a message never falls on a stream: it is of one generation."""
    for view in case.views:
        last: dict[Key, int] = {}
        for item in (*view.snapshot, *view.changes):
            assert item.change is not None
            message = item.change.message
            key = (message.instance, message.message_id)
            if message.status < max(last.get(key, 0), item.change.previous_status):
                yield f"{view}: {key} fell to {message.status} in frame {item.frame}"
            last[key] = message.status


def _name(item: Item) -> object:
    """What a change is the same one by: its report, or in a snapshot its message."""
    return item.where or item.cursor


def _before_resuming(case: Case, view: View) -> Iterator[object]:
    """The changes that the client had when it received the cursor this stream began with."""
    resumed = view.record.resumed
    source = case.by_number.get(resumed.stream) if resumed else None
    if source is None or resumed is None:
        return
    until = (resumed.frame, END if resumed.change is None else resumed.change)
    for item in (*source.snapshot, *source.changes):
        if (item.frame, item.nth or 0) <= until:
            yield _name(item)
