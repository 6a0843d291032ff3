"""More ways of breaking a history: its frames, its snapshots, its bounds and its waits."""

import msgspec

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.faults.case import Item, View
from tests.faults.damage import Spot, breaks, changes_of, insert, put, response
from tests.faults.history import End, Frame, Wait


def _taken(spot: Spot, least: int = 4) -> View:
    """A stream with so many messages of a snapshot, and all that follows it."""
    return spot.dice.choice(
        [view for view in spot.case.views if len(view.snapshot) >= least and view.considered]
    )


@breaks("SnapshotConsistent")
def a_message_is_left_out(spot: Spot) -> None:
    while True:
        view, item = spot.change(snapshot=True)
        told = changes_of(view, item)[item.nth or 0].message
        assert item.where is not None
        later = spot.case.truth.next_change((told.instance, told.message_id), item.where.place)
        sent_s = spot.case.posts[spot.case.events[later.place[0]].number].sent_s if later else 1e9
        if sent_s > item.at_s + 1 and view.items[-1].at_s > item.at_s + 1:
            del view.record.frames[item.frame]
            return


@breaks("SnapshotConsistent")
def two_messages_are_exchanged(spot: Spot) -> None:
    view = _taken(spot)
    one, other = view.snapshot[0], view.snapshot[2]
    frames = view.record.frames
    frames[one.frame], frames[other.frame] = frames[other.frame], frames[one.frame]


@breaks("SnapshotConsistent")
def a_message_comes_that_changed_later(spot: Spot) -> None:
    """As it is by then, and not as of the snapshot."""
    view = _taken(spot)
    item = view.snapshot[1]
    assert item.change is not None
    message = response(view, item).changes.changes[0].message
    reports = spot.case.truth.by_message[message.instance, message.message_id]
    last = [report for report in reports if report.changed][-1]
    message.CopyFrom(last.change.message)
    message.group = not message.group


@breaks("SnapshotConsistent")
def a_message_comes_that_is_new(spot: Spot) -> None:
    views = [
        (view, key)
        for view in spot.case.views
        if view.snapshot and view.start
        for key in spot.case.truth.keys
        if spot.case.truth.last_change(key, view.start.place) is None
    ]
    view, key = spot.dice.choice(views)
    change = response(view, view.snapshot[-1]).changes.changes[-1]
    change.message.CopyFrom(spot.case.truth.by_message[key][-1].change.message)


@breaks("SnapshotConsistent")
def a_message_comes_that_was_not_asked_for(spot: Spot) -> None:
    """The filter is another one than what was sent keeps to."""
    _taken(spot).record.request.filter.instances[:] = ["nobody"]


@breaks("SnapshotConsistent")
def a_message_of_a_snapshot_has_a_status_before(spot: Spot) -> None:
    view = _taken(spot)
    response(view, view.snapshot[1]).changes.changes[0].previous_status = pb.STATUS_SENT


@breaks("SnapshotConsistent")
def a_message_of_a_snapshot_has_a_recipient(spot: Spot) -> None:
    view = _taken(spot)
    response(view, view.snapshot[1]).changes.changes[0].recipient.participant = "77001"


@breaks("SnapshotConsistent")
def a_message_is_counted_short(spot: Spot) -> None:
    view = _taken(spot)
    response(view, view.snapshot[1]).changes.changes[0].message.report_count = 0


@breaks("SnapshotConsistent")
def a_cursor_names_another_message(spot: Spot) -> None:
    view = _taken(spot)
    change = response(view, view.snapshot[1]).changes.changes[0]
    change.cursor = view.snapshot[2].cursor


@breaks("MirrorsAgree")
def a_mirror_misses_a_change(spot: Spot) -> None:
    """One that no later change of the same message makes up for."""
    found = []
    for view in spot.case.views:
        chosen = view.record.request
        if not chosen.snapshot or chosen.filter.statuses or chosen.filter.phones:
            continue
        last: dict[tuple[str, str], Item] = {}
        for item in view.changes:
            if item.change:
                last[item.change.message.instance, item.change.message.message_id] = item
        changed = [
            item
            for item in last.values()
            if item.ordinary and spot.case.truth.by_place[item.ordinary].changed
        ]
        found += [(view, item) for item in changed]
    view, item = spot.dice.choice(found)
    put(view, item, [one for one in changes_of(view, item) if one.cursor != item.cursor])


@breaks("FramesInOrder")
def opened_is_not_first(spot: Spot) -> None:
    frames = spot.view("caught_up").record.frames
    frames[0], frames[1] = frames[1], frames[0]


@breaks("FramesInOrder")
def opened_comes_twice(spot: Spot) -> None:
    stream = spot.view("changes").record
    insert(stream, 1, stream.frames[0].response)


@breaks("FramesInOrder")
def caught_up_comes_twice(spot: Spot) -> None:
    view = spot.view("caught_up")
    item = spot.item(view, "caught_up")
    insert(view.record, item.frame + 1, response(view, item))


@breaks("FramesInOrder")
def caught_up_is_left_out(spot: Spot) -> None:
    view = spot.view("caught_up", "fell_behind")
    del view.record.frames[next(item.frame for item in view.items if item.kind == "caught_up")]


@breaks("FramesInOrder")
def the_end_of_a_snapshot_is_left_out(spot: Spot) -> None:
    view = spot.view("snapshot_end", "caught_up")
    del view.record.frames[spot.item(view, "snapshot_end").frame]


@breaks("FramesInOrder")
def a_snapshot_ends_that_was_none(spot: Spot) -> None:
    view = spot.view("caught_up", start="from_now")
    item = spot.item(view, "caught_up")
    end = pb.WatchStatusesResponse(cursor=item.cursor, snapshot_end=pb.SnapshotEnd())
    insert(view.record, item.frame, end)


@breaks("FramesInOrder")
def something_follows_closing(spot: Spot) -> None:
    view = spot.view("closing", "progress")
    view.record.frames.append(view.record.frames[spot.item(view, "progress").frame])


@breaks("FramesInOrder")
def caught_up_comes_too_early(spot: Spot) -> None:
    view = spot.view("opened", "changes", "caught_up", start="from_time")
    caught_up = next(item for item in view.items if item.kind == "caught_up")
    response(view, caught_up).cursor = view.record.frames[0].response.cursor


@breaks("FramesInOrder")
def a_frame_of_no_changes(spot: Spot) -> None:
    view, item = spot.change()
    put(view, item, [])


@breaks("FramesInOrder")
def closed_for_no_reason(spot: Spot) -> None:
    view = spot.view("closing")
    view.record.frames[-1].response.closing.reason = pb.CLOSING_REASON_UNSPECIFIED


@breaks("FramesInOrder")
def closed_for_a_rebuild_that_was_none(spot: Spot) -> None:
    spot.history.rebuilds.clear()


@breaks("FramesInOrder")
def closed_for_a_stop_that_was_none(spot: Spot) -> None:
    spot.history.outages = [one for one in spot.history.outages if one.signal != "SIGTERM"]


@breaks("FramesInOrder")
def an_error_behind_closing(spot: Spot) -> None:
    stream = spot.view("closing").record
    stream.end = End(stream.frames[-1].at_s, "error", "UNAVAILABLE")


@breaks("FramesInOrder")
def a_snapshot_ends_elsewhere(spot: Spot) -> None:
    view = spot.view("snapshot_end", "changes")
    assert view.start is not None
    position = view.start.place[0] - 1
    response(view, spot.item(view, "snapshot_end")).cursor = spot.case.truth.cursor(
        (position, 2**32 - 1), spot.case.events[position].time_us
    )


@breaks("ProgressNeverOvertakes")
def progress_overtakes_a_change(spot: Spot) -> None:
    view, item = spot.change()
    progress = pb.WatchStatusesResponse(cursor=item.cursor, progress=pb.Progress())
    insert(view.record, item.frame, progress)


@breaks("ProgressNeverOvertakes")
def progress_overtakes_a_message_of_a_snapshot(spot: Spot) -> None:
    view, item = spot.change(snapshot=True)
    progress = pb.WatchStatusesResponse(cursor=item.cursor, progress=pb.Progress())
    insert(view.record, item.frame, progress)


@breaks("ProgressInTime")
def no_sign_for_long(spot: Spot) -> None:
    view = spot.view("progress")
    at = spot.item(view, "progress").frame
    frames = view.record.frames
    frames[at:] = [Frame(frame.at_s + 30, frame.response) for frame in frames[at:]]
    assert view.record.end is not None
    view.record.end = msgspec.structs.replace(view.record.end, at_s=view.record.end.at_s + 30)


@breaks("ProgressInTime")
def changes_without_progress(spot: Spot) -> None:
    long = [view for view in spot.case.views if view.items[-1].at_s - view.items[0].at_s > 9]
    stream = spot.dice.choice(long).record
    # As if each second were three, so that 9 s are enough.
    stream.frames = [
        Frame(frame.at_s * 3, frame.response) for frame in stream.frames if frame.kind != "progress"
    ]
    assert stream.end is not None
    stream.end = msgspec.structs.replace(stream.end, at_s=stream.end.at_s * 3)


@breaks("Bounded")
def too_much_waits(spot: Spot) -> None:
    samples = spot.history.samples
    samples[2] = msgspec.structs.replace(samples[2], queued_bytes=4 * 2**20)


@breaks("Bounded")
def the_server_grows(spot: Spot) -> None:
    samples = spot.history.samples
    samples[-1] = msgspec.structs.replace(samples[-1], rss_bytes=2**30)


@breaks("Isolated")
def one_stalls_another(spot: Spot) -> None:
    stall = spot.history.stalls[0]
    views = [
        view.record
        for view in spot.case.views
        if view.record.prompt
        and view.record.end
        and view.record.frames[0].at_s < stall.from_s
        and view.record.end.at_s >= stall.until_s
    ]
    stream = spot.dice.choice(views)
    stream.frames = [
        Frame(frame.at_s if frame.at_s < stall.from_s else stall.until_s + 0.01, frame.response)
        for frame in stream.frames
    ]


def _wait(spot: Spot, number: int) -> Wait:
    """0 is answered, 1 times out, 2 finds the server away, 3 is left."""
    return spot.history.waits[number]


@breaks("WaitsAnswered")
def answered_too_early(spot: Spot) -> None:
    _wait(spot, 0).request.at_least = pb.STATUS_PLAYED


@breaks("WaitsAnswered")
def answered_before_it_was_posted(spot: Spot) -> None:
    end = _wait(spot, 0).end
    assert end is not None
    _wait(spot, 0).end = msgspec.structs.replace(end, at_s=end.at_s - 0.1)


@breaks("WaitsAnswered")
def answered_with_another_state(spot: Spot) -> None:
    message = _wait(spot, 0).message
    assert message is not None
    message.update_time.nanos += 1_000


@breaks("WaitsAnswered")
def answered_about_another_message(spot: Spot) -> None:
    _wait(spot, 0).request.message_id = "another"


@breaks("WaitsAnswered")
def gave_up_on_what_was_there(spot: Spot) -> None:
    wait = _wait(spot, 0)
    assert wait.end is not None
    wait.message = None
    wait.end = End(wait.end.at_s + 12, "error", "DEADLINE_EXCEEDED", "WAIT_TIMED_OUT")
    spot.history.outages.clear()


@breaks("WaitsAnswered")
def ambiguous_though_an_instance_was_given(spot: Spot) -> None:
    _wait(spot, 1).end = End(3, "error", "FAILED_PRECONDITION", "AMBIGUOUS_MESSAGE_ID")


@breaks("WaitsAnswered")
def never_ended(spot: Spot) -> None:
    _wait(spot, 1).end = End(60, "stuck")


@breaks("WaitsAnswered")
def failed_without_a_reason(spot: Spot) -> None:
    _wait(spot, 1).end = End(10, "error", "UNAVAILABLE", "")
