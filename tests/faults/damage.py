"""Ways of breaking a history, each for the promise that it breaks.

A way changes the history that it is given, at a place that the dice choose.
"""

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.faults.case import Case, Item, View
from tests.faults.history import End, Frame, History, LoggedEvent, Stream
from tests.faults.truth import END, Expected, wanted

Way = Callable[["Spot"], None]
WAYS: list[tuple[str, Way]] = []
"""The promise and what breaks it."""


def breaks(promise: str) -> Callable[[Way], Way]:
    def note(way: Way) -> Way:
        WAYS.append((promise, way))
        return way

    return note


class Spot(NamedTuple):
    """A history to damage, and dice."""

    history: History
    case: Case
    """Of the history as it was."""
    dice: random.Random

    def view(self, *kinds: str, resumed: bool = False, start: str = "") -> View:
        """A stream that has frames of all these kinds."""
        return self.dice.choice(
            [
                view
                for view in self.case.views
                if set(kinds) <= {item.kind for item in view.items}
                and (not resumed or view.record.resumed)
                and (not start or view.record.request.WhichOneof("start") == start)
            ]
        )

    def change(self, *, snapshot: bool = False) -> tuple[View, Item]:
        """A change, or a message of a snapshot; not a stream's first or last one."""
        found = [
            (view, item)
            for view in self.case.views
            for item in (view.snapshot if snapshot else view.changes)[1:-1]
        ]
        return self.dice.choice(found)

    def item(self, view: View, kind: str) -> Item:
        return self.dice.choice([item for item in view.items if item.kind == kind])


def response(view: View, item: Item) -> pb.WatchStatusesResponse:
    return view.record.frames[item.frame].response


def changes_of(view: View, item: Item) -> list[pb.StatusChange]:
    return list(response(view, item).changes.changes)


def put(view: View, item: Item, found: list[pb.StatusChange]) -> None:
    """Give a frame other changes."""
    del response(view, item).changes.changes[:]
    response(view, item).changes.changes.extend(found)


def insert(stream: Stream, at: int, told: pb.WatchStatusesResponse) -> None:
    frame = stream.frames[min(at, len(stream.frames) - 1)]
    stream.frames.insert(at, Frame(frame.at_s, told))


def told(report: Expected) -> pb.WatchStatusesResponse:
    """A frame with one change."""
    return pb.WatchStatusesResponse(
        cursor=report.change.cursor, changes=pb.Changes(changes=[report.change])
    )


@breaks("Recorded")
def an_event_is_lost(spot: Spot) -> None:
    answered = {post.body.number for post in spot.history.posts if post.answered_s is not None}
    spot.history.events.remove(
        spot.dice.choice([event for event in spot.history.events if event.number in answered])
    )


@breaks("Recorded")
def an_event_is_there_twice(spot: Spot) -> None:
    event = spot.dice.choice(spot.history.events)
    last = spot.history.events[-1].position
    spot.history.events.append(msgspec.structs.replace(event, position=last + 1))


@breaks("Recorded")
def nobody_posted_it(spot: Spot) -> None:
    last = spot.history.events[-1]
    spot.history.events.append(LoggedEvent(last.position + 1, "acme", last.time_us, 10**9))


@breaks("Recorded")
def two_answers_are_exchanged(spot: Spot) -> None:
    one, other = spot.dice.sample([post for post in spot.history.posts if post.cursor], 2)
    one.cursor, other.cursor = other.cursor, one.cursor


@breaks("Recorded")
def it_is_of_another_instance(spot: Spot) -> None:
    at = spot.dice.randrange(len(spot.history.events))
    answered = {post.body.number for post in spot.history.posts if post.answered_s is not None}
    while spot.history.events[at].number not in answered:
        at = spot.dice.randrange(len(spot.history.events))
    spot.history.events[at] = msgspec.structs.replace(spot.history.events[at], instance="other")


@breaks("Ordered")
def two_changes_are_exchanged(spot: Spot) -> None:
    views = [
        (view, item)
        for view in spot.case.views
        for item in view.changes
        if len(changes_of(view, item)) > 1
    ]
    view, item = spot.dice.choice(views)
    put(view, item, changes_of(view, item)[::-1])


@breaks("Ordered")
def two_frames_are_exchanged(spot: Spot) -> None:
    view = spot.dice.choice([view for view in spot.case.views if len(view.changes) > 5])
    one, other = spot.dice.choice(
        [(a, b) for a, b in zip(view.changes, view.changes[1:], strict=False) if a.frame < b.frame]
    )
    frames = view.record.frames
    frames[one.frame], frames[other.frame] = frames[other.frame], frames[one.frame]


@breaks("Ordered")
def a_cursor_goes_back(spot: Spot) -> None:
    view = spot.view("caught_up", "progress", "changes")
    progress = view.items[-1]
    opened = view.opened
    assert opened is not None
    response(view, progress).cursor = spot.case.truth.cursor((1, END), spot.case.events[1].time_us)


@breaks("Unique")
def a_change_is_repeated(spot: Spot) -> None:
    view, item = spot.change()
    at = item.nth or 0
    found = changes_of(view, item)
    put(view, item, [*found[: at + 1], found[at], *found[at + 1 :]])


@breaks("Unique")
def a_frame_is_repeated(spot: Spot) -> None:
    view, item = spot.change()
    insert(view.record, item.frame + 1, response(view, item))


@breaks("Unique")
def a_change_comes_again_after_resuming(spot: Spot) -> None:
    views = [
        (view, source, item)
        for view in spot.case.views
        if view.record.resumed and not view.in_snapshot
        for source in [spot.case.by_number[view.record.resumed.stream]]
        for item in source.changes
        if (item.frame, item.nth or 0) <= (view.record.resumed.frame, -1)
    ]
    view, _, item = spot.dice.choice(views)
    assert item.change is not None
    again = pb.WatchStatusesResponse(cursor=item.cursor, changes=pb.Changes(changes=[item.change]))
    insert(view.record, 1, again)


@breaks("Complete")
def a_change_is_left_out(spot: Spot) -> None:
    view, item = spot.change()
    found = changes_of(view, item)
    del found[item.nth or 0]
    put(view, item, found)


@breaks("Complete")
def a_frame_is_left_out(spot: Spot) -> None:
    view, item = spot.change()
    del view.record.frames[item.frame]


@breaks("Complete")
def it_never_comes_to_the_end(spot: Spot) -> None:
    stream = spot.view("changes").record
    stream.end = End(stream.frames[-1].at_s, "stuck")


@breaks("Complete")
def it_opened_beyond_what_was_posted_later(spot: Spot) -> None:
    view = spot.view("changes", start="from_now")
    assert view.start is not None
    later = view.start.place[0] + 3
    opened = view.record.frames[0].response
    opened.cursor = spot.case.truth.cursor((later, END), spot.case.events[later].time_us)


@breaks("FilteredExactly")
def a_change_comes_that_was_not_asked_for(spot: Spot) -> None:
    _insert_unwanted(spot, changed=True)


@breaks("FilteredExactly")
def a_report_comes_that_changed_nothing(spot: Spot) -> None:
    _insert_unwanted(spot, changed=False)


def _insert_unwanted(spot: Spot, *, changed: bool) -> None:
    views = [
        (view, item, report)
        for view in spot.case.views
        for item in view.items
        if item.kind == "changes" and item.ordinary
        for report in spot.case.truth.between(item.ordinary, (item.ordinary[0] + 2, 0))[:1]
        if not wanted(view.record.request, report) and report.changed is changed
    ]
    view, item, report = spot.dice.choice(views)
    insert(view.record, item.frame + 1, told(report))


def _alter(alteration: Callable[[pb.StatusChange], None], *, when: str = "") -> Way:
    """Change a member of a change; `when`: one that has this member."""

    def alter(spot: Spot) -> None:
        while True:
            view, item = spot.change()
            change = response(view, item).changes.changes[item.nth or 0]
            if not when or change.HasField(when):  # type: ignore[arg-type]
                alteration(change)
                return

    return alter


def _recipient_left_out(change: pb.StatusChange) -> None:
    change.ClearField("recipient")


def _recipient_altered(change: pb.StatusChange) -> None:
    change.recipient.occur_time.nanos += 1_000


def _named_wrongly(change: pb.StatusChange) -> None:
    change.cursor = change.cursor[:-1]


_MESSAGE_FIELDS: dict[str, object] = {
    "phone": "0",
    "group": None,
    "status": pb.STATUS_PENDING,
    "provider_status": "novel word",
    "recipient_count": 99,
    "report_count": 10_000,
    "cursor": "x",
}


def _message_altered(name: str, value: object) -> Callable[[pb.StatusChange], None]:
    def alter(change: pb.StatusChange) -> None:
        old = getattr(change.message, name)
        setattr(change.message, name, not old if value is None else value)
        if getattr(change.message, name) == old:
            change.message.status = pb.STATUS_UNRECOGNIZED

    alter.__name__ = f"{name}_is_another"
    return alter


def _stage_altered(change: pb.StatusChange) -> None:
    change.message.stages[-1].receive_time.nanos += 1_000


def _previous_altered(change: pb.StatusChange) -> None:
    unsent = change.previous_status != pb.STATUS_SENT
    change.previous_status = pb.STATUS_SENT if unsent else pb.STATUS_PENDING


def _noted() -> Iterator[tuple[str, Way]]:
    alterations = [
        (_recipient_left_out, "recipient"),
        (_recipient_altered, "recipient"),
        (_named_wrongly, ""),
        (_stage_altered, ""),
        (_previous_altered, ""),
        *((_message_altered(*each), "") for each in _MESSAGE_FIELDS.items()),
    ]
    for alteration, when in alterations:
        way = _alter(alteration, when=when)
        way.__name__ = alteration.__name__.strip("_")
        yield "Faithful", way


WAYS.extend(_noted())


@breaks("NeverBackwards")
def a_status_falls(spot: Spot) -> None:
    view, item = spot.change()
    message = response(view, item).changes.changes[item.nth or 0]
    message.previous_status = pb.STATUS_PLAYED
    message.message.status = pb.STATUS_SENT
