"""Promises about snapshots, and about those who mirror from them."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.faults.case import Case, Item, View
from tests.faults.truth import END, Expected, wanted_message
from tests.fold_model import Key, Place


def snapshot_consistent(case: Case) -> Iterator[str]:
    """It is the state as of Opened, by key; left out is only what a later change tells of."""
    for view in case.views:
        if view.in_snapshot and view.start is not None and view.start.inside is not None:
            yield from _in_order(view)
            yield from _as_of(case, view, view.start.place)
            yield from _whole(case, view, view.start.place)


def _in_order(view: View) -> Iterator[str]:
    """By instance and message id, behind what was considered before."""
    assert view.start is not None
    last = view.start.inside or ("", "")
    for item in view.items:
        if item.kind == "opened" or item.where is None:
            continue
        if item.where.inside is None:
            return
        if item.where.place != view.start.place:
            yield f"{view}: frame {item.frame} is of a snapshot as of {item.where.place}"
        again = item.kind == "change" and item.where.inside == last
        if again or item.where.inside < last:
            yield f"{view}: {item.kind} of frame {item.frame} at {item.where.inside} behind {last}"
        last = item.where.inside


def _as_of(case: Case, view: View, as_of: Place) -> Iterator[str]:
    """Each message is as it was then; only its count may be newer."""
    for item in view.snapshot:
        assert item.change is not None
        told = item.change
        key = (told.message.instance, told.message.message_id)
        if item.where is None or item.where.inside != key:
            yield f"{view}: the cursor of {key} in frame {item.frame} names {item.where}"
        expected = case.truth.last_change(key, as_of)
        if expected is None:
            yield f"{view}: {key} is in the snapshot, and came only behind {as_of}"
        elif not _same(told, expected):
            yield f"{view}: as of {as_of} came\n{told}instead of\n{expected.change.message}"
        elif not wanted_message(view.record.request.filter, told.message):
            yield f"{view}: {key} is in the snapshot, and was not asked for"
        least = case.truth.count(key, as_of)
        if not least <= told.message.report_count <= len(case.truth.by_message[key]):
            yield f"{view}: {key} has {told.message.report_count} reports, and had {least}"


def _same(told: pb.StatusChange, expected: Expected) -> bool:
    message = pb.MessageStatus()
    message.CopyFrom(told.message)
    message.report_count = expected.change.message.report_count
    return (
        message == expected.change.message
        and told.previous_status == pb.STATUS_UNSPECIFIED
        and not told.HasField("recipient")
    )


def _whole(case: Case, view: View, as_of: Place) -> Iterator[str]:
    """What is not in it had changed behind it by then, or was not asked for."""
    assert view.start is not None
    after, until = view.start.inside or ("", ""), _looked(view)
    has = {item.where.inside for item in view.snapshot if item.where}
    keys = case.truth.keys
    first = bisect_right(keys, after)
    last = len(keys) if until is None else bisect_right(keys, until)
    for key in keys[first:last]:
        state = None if key in has else case.truth.last_change(key, as_of)
        if state is None or not wanted_message(view.record.request.filter, state.change.message):
            continue
        later = case.truth.next_change(key, as_of)
        if later is None or not _posted_before(case, later, _passed_s(view, key)):
            yield f"{view}: {key} was left out, last changed at {state.place}, as of {as_of}"


def _passed_s(view: View, key: Key) -> float:
    """When the client received the first frame from behind that key."""
    inside = [item for item in view.items if item.where and item.where.inside is not None]
    at = bisect_right(inside, key, key=_inside)
    end = next((item for item in view.items if item.kind == "snapshot_end"), view.items[-1])
    return inside[at].at_s if at < len(inside) else end.at_s


def _inside(item: Item) -> Key:
    return (item.where.inside if item.where else None) or ("", "")


def _looked(view: View) -> Key | None:
    """The last key considered; None once all were."""
    inside = [item.where.inside for item in view.items if item.where]
    return None if None in inside else max(key for key in inside if key is not None)


def _posted_before(case: Case, report: Expected, at_s: float) -> bool:
    event = case.events[report.place[0]]
    return case.posts[event.number].sent_s < at_s


class _Mirror(NamedTuple):
    as_of: Place
    """Of the snapshot that it began with."""
    messages: dict[Key, pb.MessageStatus]

    def take(self, item: Item) -> None:
        assert item.change is not None
        message = item.change.message
        self.messages[message.instance, message.message_id] = message


def mirrors_agree(case: Case) -> Iterator[str]:
    """A snapshot with all changes behind it is the state by the model, streams resumed or not."""
    for view in case.views:
        mirror = _begun(case, view)
        if mirror is None or view.considered is None:
            continue
        for item in (*view.snapshot, *view.changes):
            mirror.take(item)
        yield from _differences(case, view, mirror, view.considered)


def _begun(case: Case, view: View) -> _Mirror | None:
    """What the client has when the stream begins; None if it is no mirror.

    One that asks for some statuses only, or some phones, does not hear of all that a message does.
    """
    request, resumed = view.record.request, view.record.resumed
    if request.filter.statuses or request.filter.phones or view.start is None:
        return None
    if request.snapshot:
        return _Mirror(view.start.place, {})
    source = case.by_number.get(resumed.stream) if resumed else None
    if source is None or resumed is None or source.record.request.filter != request.filter:
        return None
    mirror = _begun(case, source)
    until = (resumed.frame, END if resumed.change is None else resumed.change)
    for item in (*source.snapshot, *source.changes):
        if mirror is not None and (item.frame, item.nth or 0) <= until:
            mirror.take(item)
    return mirror


def _differences(case: Case, view: View, mirror: _Mirror, at: Place) -> Iterator[str]:
    for key in case.truth.keys:
        expected = case.truth.last_change(key, at)
        chosen = view.record.request.filter
        if expected is None or not wanted_message(chosen, expected.change.message):
            if key in mirror.messages:
                yield f"{view}: at {at} its mirror holds {key}"
            continue
        has = mirror.messages.get(key)
        if has is None and expected.place <= mirror.as_of and case.truth.next_change(key, at):
            # Left out of the snapshot: the change that it was left out for is still to come.
            continue
        message = pb.MessageStatus()
        message.CopyFrom(has or message)
        message.report_count = expected.change.message.report_count
        if message != expected.change.message:
            yield f"{view}: at {at} its mirror of {key} differs from\n{expected.change.message}"
