"""More ways of breaking a history: where streams begin, and how they end."""

from tests.faults.damage import Spot, breaks, changes_of, response
from tests.faults.history import End, Outage, Rebuild
from tests.faults.truth import END


@breaks("Resumable")
def a_cursor_is_none(spot: Spot) -> None:
    view = spot.view("progress")
    progress = response(view, spot.item(view, "progress"))
    progress.cursor = progress.cursor.swapcase()


@breaks("Resumable")
def a_cursor_is_of_an_event_that_is_not_there(spot: Spot) -> None:
    view = spot.view("progress")
    response(view, spot.item(view, "progress")).cursor = spot.case.truth.cursor((10**6, END), 7)


@breaks("Resumable")
def a_cursor_is_refused(spot: Spot) -> None:
    stream = spot.view("changes", resumed=True).record
    stream.frames = []
    stream.end = End(stream.asked_s, "error", "FAILED_PRECONDITION", "CURSOR_DIVERGED")


@breaks("Resumable")
def it_resumes_behind_another_place(spot: Spot) -> None:
    views = [view for view in spot.case.views if view.asked and view.asked.inside is None]
    view = spot.dice.choice(views)
    assert view.asked is not None
    position = view.asked.place[0] + 1
    cursor = spot.case.truth.cursor((position, END), spot.case.events[position].time_us)
    view.record.frames[0].response.cursor = cursor


@breaks("Resumable")
def a_frame_names_a_place_before_its_last_change(spot: Spot) -> None:
    frames = [
        (view, item)
        for view in spot.case.views
        for item in view.items
        if item.kind == "changes" and len(changes_of(view, item)) > 1
    ]
    view, item = spot.dice.choice(frames)
    response(view, item).cursor = changes_of(view, item)[0].cursor


@breaks("StartsWhereAsked")
def now_is_before_what_was_recorded(spot: Spot) -> None:
    _opened_elsewhere(spot, "from_now", -1)


@breaks("StartsWhereAsked")
def a_time_begins_too_early(spot: Spot) -> None:
    _opened_elsewhere(spot, "from_time", -1)


@breaks("StartsWhereAsked")
def a_time_begins_too_late(spot: Spot) -> None:
    _opened_elsewhere(spot, "from_time", 1)


def _opened_elsewhere(spot: Spot, start: str, by: int) -> None:
    view = spot.view("opened", start=start)
    assert view.start is not None
    # Two further on: what was posted last may not have been answered.
    position = view.start.place[0] + 2 * by
    cursor = spot.case.truth.cursor((position, END), spot.case.events[position].time_us)
    view.record.frames[0].response.cursor = cursor


@breaks("EndsWell")
def a_prompt_client_is_called_stalled(spot: Spot) -> None:
    stream = spot.view("changes").record
    stream.prompt = True
    stream.end = End(stream.frames[-1].at_s, "error", "UNAVAILABLE", "WATCHER_STALLED")


@breaks("EndsWell")
def ok_without_closing(spot: Spot) -> None:
    view = spot.view("closing")
    del view.record.frames[-1]


@breaks("EndsWell")
def a_fault_of_the_server(spot: Spot) -> None:
    stream = spot.view("changes").record
    stream.end = End(stream.frames[-1].at_s, "error", "INTERNAL", "INTERNAL")


@breaks("EndsWell")
def away_without_a_reason(spot: Spot) -> None:
    stream = spot.view("changes").record
    stream.end = End(stream.frames[-1].at_s, "error", "UNAVAILABLE", "")
    spot.history.outages = [Outage("SIGTERM", 10**6)]


@breaks("EndsWell")
def a_stop_without_a_word(spot: Spot) -> None:
    view = spot.dice.choice(
        [view for view in spot.case.views if view.record.end and view.record.end.at_s > 24]
    )
    del view.record.frames[-1]
    view.record.end = End(10**6, "error", "UNAVAILABLE", "")


@breaks("EndsWell")
def a_generation_falls(spot: Spot) -> None:
    later = [view for view in spot.case.views if view.record.asked_s > 18]
    opened = spot.dice.choice(later).record.frames[0].response.opened
    opened.views_generation = 1


@breaks("EndsWell")
def a_stream_outlives_a_rebuild(spot: Spot) -> None:
    spot.history.rebuilds.append(Rebuild(5.0, 5.05))


@breaks("EndsWell")
def a_generation_is_shown_again(spot: Spot) -> None:
    """Behind Closing because of a rebuild."""
    closed = [
        view.record
        for view in spot.case.views
        if view.record.resumed
        and spot.case.by_number[view.record.resumed.stream].items[-1].kind == "closing"
    ]
    spot.dice.choice(closed).frames[0].response.opened.views_generation = 1


@breaks("EndsWell")
def nothing_ever_came(spot: Spot) -> None:
    stream = spot.dice.choice([view.record for view in spot.case.views if view.record.asked_s < 14])
    stream.frames = []
    stream.end = End(stream.asked_s + 12, "lost")
