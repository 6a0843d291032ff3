"""Promises about the frames of a stream, and about how it ends."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.faults.case import Case, View
from tests.faults.history import End, Stream

_LETTERS = {
    "opened": "o",
    "changes": "c",
    "progress": "p",
    "snapshot_end": "e",
    "caught_up": "u",
    "fell_behind": "b",
    "closing": "x",
}
_ONGOING = r"([cp]*(u[cp]*(b[cp]*u[cp]*)*(b[cp]*)?)?)"
_ORDER = re.compile(rf"(o{_ONGOING}x?)?")
_ORDER_WITH_SNAPSHOT = re.compile(rf"(o[cp]*(e{_ONGOING})?x?)?")

_LATE_S = 10.0
"""More than a machine that shares its processors ever stood still; a stuck stream stands longer."""

_AT_ONCE_S = 1.0
"""Within this time of a server's being away, its clients may find it so."""

_SWITCHED_S = 3.0
"""So long after a rebuild even a slow machine has told those who watch."""

_DEFAULT_INTERVAL_S = 15.0


def frames_in_order(case: Case) -> Iterator[str]:
    """Opened first, SnapshotEnd, CaughtUp, FellBehind and CaughtUp in turn, Closing last."""
    for view in case.views:
        kinds = "".join(_LETTERS[item.kind] for item in view.items if item.nth is None)
        order = _ORDER_WITH_SNAPSHOT if view.in_snapshot else _ORDER
        if not order.fullmatch(kinds):
            yield f"{view}: frames came as {kinds}"
        yield from _inside_until_its_end(view)
        yield from _caught_up_with(case, view)
        yield from _closed_for_a_reason(case, view)
        for frame in view.record.frames:
            if frame.kind == "changes" and not frame.response.changes.changes:
                yield f"{view}: a frame of no changes"


def _inside_until_its_end(view: View) -> Iterator[str]:
    """Cursors are those of a snapshot up to SnapshotEnd, and ordinary from there on."""
    inside = view.in_snapshot
    for item in view.items:
        if item.kind == "snapshot_end":
            inside = False
            if view.start and item.ordinary != view.start.place:
                yield f"{view}: the snapshot as of {view.start.place} ends at {item.where}"
        if item.where is not None and (item.where.inside is not None) != inside:
            yield f"{view}: {item.kind} of frame {item.frame} has a cursor at {item.where}"


def _caught_up_with(case: Case, view: View) -> Iterator[str]:
    """CaughtUp comes behind all that was recorded before the stream was asked for."""
    caught_up = next((item for item in view.items if item.kind == "caught_up"), None)
    head = case.answered_before(view.record.asked_s)
    if caught_up is not None and caught_up.ordinary is not None and caught_up.ordinary < head:
        yield f"{view}: caught up at {caught_up.ordinary}, though {head} was recorded before"


def _closed_for_a_reason(case: Case, view: View) -> Iterator[str]:
    history, last = case.history, view.record.frames[-1:]
    if not last or last[0].kind != "closing":
        return
    reason, at_s = last[0].response.closing.reason, last[0].at_s
    if reason == pb.CLOSING_REASON_SHUTTING_DOWN:
        if not any(one.signal == "SIGTERM" and one.at_s <= at_s for one in history.outages):
            yield f"{view}: closed as if the server stopped"
    elif reason == pb.CLOSING_REASON_VIEWS_REBUILT:
        if not any(one.asked_s <= at_s for one in history.rebuilds):
            yield f"{view}: closed as if the views had been rebuilt"
    else:
        yield f"{view}: closed for the reason {reason}"
    end = view.record.end
    if end is not None and end.how == "error" and not _excused(case, view.record, end):
        yield f"{view}: ended with {end.code} behind Closing"


def ends_well(case: Case) -> Iterator[str]:
    """A stream ends with OK behind Closing, or because its server was killed, or it stalled."""
    for view in case.views:
        end = view.record.end
        closed = bool(view.items) and view.items[-1].kind == "closing"
        if end is None or end.how in ("cancelled", "stuck"):
            continue
        if end.how == "lost" and not _met_an_outage(case, view.record):
            yield f"{view}: neither Opened nor an error came"
        if end.how == "ok" and not closed:
            yield f"{view}: ended with OK, without Closing"
        if end.how == "error" and not _excused(case, view.record, end):
            yield f"{view}: ended with {end.code} {end.reason}: {end.details}"
    yield from _outlived(case)
    yield from _generations(case)


def _outlived(case: Case) -> Iterator[str]:
    """Rebuilt views end every stream that was open on those before."""
    for view in case.views:
        if view.opened is None or not view.record.prompt:
            continue
        for rebuild in case.history.rebuilds:
            before = view.opened.at_s < rebuild.asked_s
            if before and view.items[-1].at_s > rebuild.done_s + _SWITCHED_S:
                yield f"{view}: went on over a rebuild"


def _met_an_outage(case: Case, stream: Stream) -> bool:
    """Asked while a server went, a call can get lost between it and the client's transport."""
    return any(one.at_s - _AT_ONCE_S <= stream.asked_s <= one.up_s for one in case.history.outages)


def _excused(case: Case, stream: Stream, end: End) -> bool:
    if end.code == "CANCELLED" and not end.reason and not stream.frames:
        # It came so late that the transport was being taken down: nobody was there to answer it.
        return any(
            one.signal == "SIGTERM"
            and one.at_s - _AT_ONCE_S <= stream.asked_s
            and end.at_s <= one.up_s
            for one in case.history.outages
        )
    if end.code != "UNAVAILABLE":
        return False
    if end.reason == "WATCHER_STALLED":
        return not stream.prompt
    away = [one for one in case.history.outages if one.at_s <= end.at_s]
    if stream.frames:
        away = [one for one in away if stream.asked_s <= one.at_s + _AT_ONCE_S]
        if stream.prompt:
            # A server that stops by itself says so to those who listen.
            away = [one for one in away if one.signal == "SIGKILL"]
    return end.reason in ("", "SHUTTING_DOWN") and any(
        stream.asked_s <= one.up_s + _AT_ONCE_S for one in away
    )


def _generations(case: Case) -> Iterator[str]:
    """The generation of a server's views never falls, and is another once they were rebuilt."""
    for server in {view.record.server for view in case.views}:
        yield from _generations_of([view for view in case.views if view.record.server == server])


def _generations_of(of_one: Sequence[View]) -> Iterator[str]:
    views = [view for view in of_one if view.opened is not None]
    by_opened = sorted(views, key=lambda view: view.opened.at_s if view.opened else 0.0)
    by_asked = sorted(views, key=lambda view: view.record.asked_s)
    least, number = 0, 0
    for view in by_asked:
        while number < len(views) and _opened_s(by_opened[number]) < view.record.asked_s:
            least = max(least, _generation(by_opened[number]))
            number += 1
        if _generation(view) < least:
            yield f"{view}: is of generation {_generation(view)}, and {least} was live before"
    by_number = {view.record.number: view for view in of_one}
    for view in views:
        source = by_number.get(view.record.resumed.stream) if view.record.resumed else None
        if source is None or not source.record.frames or not _rebuilt(source):
            continue
        if _generation(view) <= _generation(source):
            yield f"{view}: is of a generation that was replaced before"


def _opened_s(view: View) -> float:
    return view.opened.at_s if view.opened else 0.0


def _generation(view: View) -> int:
    return view.record.frames[0].response.opened.views_generation


def _rebuilt(view: View) -> bool:
    closing = view.record.frames[-1].response.closing
    return closing.reason == pb.CLOSING_REASON_VIEWS_REBUILT


def progress_never_overtakes(case: Case) -> Iterator[str]:
    """Once a frame's cursor says that a place was considered, nothing at or before it comes."""
    for view in case.views:
        considered: tuple[int, int] = (-1, 0)
        key = view.start.inside if view.start else None
        for item in view.items:
            if item.where is None:
                continue
            place, inside = item.where
            if item.kind != "change":
                key, considered = (inside, considered) if inside else (None, place)
            elif inside is not None and key is not None and inside <= key:
                yield f"{view}: {inside} came in frame {item.frame}, {key} was considered before"
            elif inside is None and place <= considered:
                yield f"{view}: {place} came in frame {item.frame} behind {considered}"


def progress_in_time(case: Case) -> Iterator[str]:
    """A client that reads at once gets Progress every interval, whatever the stream is doing."""
    for view in case.views:
        if not view.record.prompt or view.opened is None or view.record.end is None:
            continue
        asked = view.record.request.progress_interval
        interval_s = asked.ToTimedelta().total_seconds() or _DEFAULT_INTERVAL_S
        signs = [item.at_s for item in view.items if item.kind in ("opened", "progress")]
        for before_s, after_s in pairwise([*signs, view.record.end.at_s]):
            if after_s - before_s > 2 * interval_s + _LATE_S:
                yield f"{view}: no Progress for {after_s - before_s:.1f} s of {interval_s} s"
