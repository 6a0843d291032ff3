"""Pages of the feed and of a snapshot, with and without a filter that is looked up."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import errors
from service.domain.events import Place, Position
from service.domain.message import Message, MessageKey
from service.domain.status import Status
from service.views.feed import FeedEntry, FeedFilter, FeedRow, Pack
from service.views.store import EncodedMessage, ViewsReader, ViewsWriter
from service.wire import frames
from tests.domain_values import message
from tests.sqlite_stores import any_connection_of
from tests.view_stores import VIEW_STORES, as_told, batch, feed_entry, mark

PLENTY = 1_000_000_000
HEAD = 8
BEFORE_ALL = MessageKey("", "")
PHONES = {("a", "a"): "1", ("a", "b"): "2", ("b", "a"): "2", ("b", "b"): "", ("a", "é"): "1"}
"""The messages there are, with the phone they have in the end."""

Drawn = tuple[int, int, tuple[str, str], bool, Status, bool, bytes]
"""A feed row: place, message, whether its phone is known, status, changed, change."""

few_statuses = st.sampled_from([Status.SENT, Status.READ])
feed_rows = st.lists(
    st.tuples(
        st.integers(1, HEAD),
        st.sampled_from([0, 1, 2**32 - 2]),
        st.sampled_from(sorted(PHONES)),
        st.booleans(),
        few_statuses,
        st.booleans(),
        st.binary(max_size=20),
    ),
    max_size=24,
    unique_by=lambda drawn: drawn[:2],
)
names = st.sets(st.sampled_from(["a", "b", "é"]), max_size=2).map(frozenset)
filters = st.builds(
    FeedFilter,
    instances=names,
    message_ids=names,
    phones=st.sets(st.sampled_from(["1", "2", "3"]), max_size=2).map(frozenset),
    statuses=st.sets(few_statuses, max_size=2).map(frozenset),
    unchanged=st.booleans(),
)


def _matches(one: FeedRow | Message, wanted: FeedFilter) -> bool:
    """AND between the fields, OR within, and an empty field asks for anything."""
    asked = [
        (one.instance, wanted.instances),
        (one.message_id, wanted.message_ids),
        (one.phone, wanted.phones),
        (one.status, wanted.statuses),
    ]
    return all(value in values for value, values in asked if values)


@settings(max_examples=20)
@given(
    drawn=feed_rows,
    wanted=filters,
    after=st.builds(Place, st.integers(0, 4).map(Position), st.sampled_from([0, 1, 2**32 - 1])),
    until=st.integers(4, HEAD),
    rows_max=st.integers(1, 9),
    bytes_max=st.sampled_from([1, 10, 25, PLENTY]),
)
@pytest.mark.parametrize("kind", VIEW_STORES)
def test_pages_of_the_feed_hold_every_wanted_row_once(
    kind: str,
    drawn: Sequence[Drawn],
    wanted: FeedFilter,
    after: Place,
    until: int,
    rows_max: int,
    bytes_max: int,
) -> None:
    """Page by page, whatever their bounds, the feed gives all wanted rows in log order, once.

    Of a short stretch by reading it, of a long one by looking up the messages the filter names.
    """
    entries = _entries(drawn)
    found: list[FeedRow] = []
    with TemporaryDirectory() as folder:
        views = VIEW_STORES[kind](Path(folder))
        with closing(views.open_writer()) as writer, closing(views.open_reader()) as reader:
            _put(writer, entries)
            place = after
            while place < Place(Position(until)):
                page = reader.feed(place, mark(until), wanted, rows_max, bytes_max)
                sizes = [len(row.change) for row in page.rows]
                assert len(page.rows) <= rows_max
                assert sum(sizes[:-1]) < bytes_max
                assert page.end.place > place
                assert mark(page.end.place.position).receive_time_us == page.end.receive_time_us
                found += page.rows
                place = page.end.place

    assert _expected(entries, wanted, after, until) == found


@settings(max_examples=20)
@given(
    drawn=feed_rows,
    wanted=filters | st.builds(FeedFilter, unchanged=st.booleans()),
    after=st.builds(Place, st.integers(0, 4).map(Position), st.sampled_from([0, 1, 2**32 - 1])),
    until=st.integers(4, HEAD),
    rows_max=st.integers(1, 9),
    bounds=st.builds(frames.Bounds, st.integers(1, 4), st.sampled_from([1, 10, 25, PLENTY])),
    headless=st.sets(st.integers(1, HEAD), max_size=2) | st.just(set(range(HEAD + 1))),
)
@pytest.mark.parametrize("kind", VIEW_STORES)
def test_packs_hold_every_wanted_change_once(
    kind: str,
    drawn: Sequence[Drawn],
    wanted: FeedFilter,
    after: Place,
    until: int,
    rows_max: int,
    bounds: frames.Bounds,
    headless: set[int],
) -> None:
    """Page by page they give all wanted changes in log order, whole, within a frame's bounds.

    Also of rows that an earlier program wrote, which lack their heads.
    """
    entries = _entries(drawn)
    found: list[bytes] = []
    with TemporaryDirectory() as folder:
        views = VIEW_STORES[kind](Path(folder))
        with closing(views.open_writer()) as writer, closing(views.open_reader()) as reader:
            _put(writer, entries)
            for position in headless:
                any_connection_of(writer).execute(
                    f"UPDATE feed_a SET head = NULL WHERE position = {position}"
                )
            place = after
            while place < Place(Position(until)):
                page = reader.changes(place, mark(until), wanted, rows_max, bounds)
                for pack in page.packs:
                    found += _changes_of(pack, bounds)
                    assert place < pack.last.place <= page.end.place
                    place = pack.last.place
                    expected = _expected(entries, wanted, after, until)[: len(found)]
                    assert expected[-1].point == pack.last
                assert page.end.place >= place
                assert mark(page.end.place.position).receive_time_us == page.end.receive_time_us
                place = page.end.place

    assert [row.change for row in _expected(entries, wanted, after, until)] == found


def _changes_of(pack: Pack, bounds: frames.Bounds) -> list[bytes]:
    """The pack taken apart; no more than a frame may hold."""
    found, at = [], 0
    while at < len(pack.changes):
        # None is so long that its length took more than a byte.
        tag, size = pack.changes[at : at + 2]
        assert tag == 1 << 3 | 2
        found.append(pack.changes[at + 2 : at + 2 + size])
        at += 2 + size
    assert at == len(pack.changes)
    assert 1 <= len(found) <= bounds.changes_max
    assert len(found) == 1 or len(pack.changes) <= bounds.bytes_max
    return found


def _entries(drawn: Sequence[Drawn]) -> list[FeedEntry]:
    return [
        feed_entry(
            position,
            index,
            instance=key[0],
            message_id=key[1],
            phone=PHONES[key] if known else "",
            status=status,
            changed=changed,
            change=change,
        )
        for position, index, key, known, status, changed, change in drawn
    ]


def _put(writer: ViewsWriter, entries: Sequence[FeedEntry]) -> None:
    heard = {(entry.row.instance, entry.row.message_id) for entry in entries}
    messages = [message(key[1], instance=key[0], phone=PHONES[key]) for key in heard]
    writer.apply(batch(writer.checkpoint(), HEAD, feed=entries, messages=messages))


def _expected(
    entries: Sequence[FeedEntry], wanted: FeedFilter, after: Place, until: int
) -> list[FeedRow]:
    return [
        row
        for row in sorted((entry.row for entry in entries), key=lambda row: row.place)
        if after < row.place <= Place(Position(until))
        and (row.changed or wanted.unchanged)
        and _matches(row, wanted)
    ]


@settings(max_examples=20)
@given(
    changed_at=st.lists(st.integers(1, HEAD), min_size=len(PHONES), max_size=len(PHONES)),
    statuses=st.lists(few_statuses, min_size=len(PHONES), max_size=len(PHONES)),
    wanted=filters,
    as_of=st.integers(0, HEAD),
    messages_max=st.integers(1, 6),
)
@pytest.mark.parametrize("kind", VIEW_STORES)
def test_pages_of_a_snapshot_hold_every_wanted_message_once(
    kind: str,
    changed_at: list[int],
    statuses: list[Status],
    wanted: FeedFilter,
    as_of: int,
    messages_max: int,
) -> None:
    """Page by page, by key and code point: all that were last changed by then, and no other."""
    messages = [
        message(key[1], instance=key[0], phone=phone, status=status, changed_at=Place(Position(at)))
        for (key, phone), status, at in zip(PHONES.items(), statuses, changed_at, strict=True)
    ]
    found: list[EncodedMessage] = []
    with TemporaryDirectory() as folder:
        views = VIEW_STORES[kind](Path(folder))
        with closing(views.open_writer()) as writer, closing(views.open_reader()) as reader:
            writer.apply(batch(writer.checkpoint(), HEAD, messages=messages))
            after: MessageKey | None = BEFORE_ALL
            while after is not None:
                page = reader.snapshot(after, Position(as_of), wanted, messages_max)
                assert len(page.messages) <= messages_max
                assert page.end is None or page.end > after
                found += page.messages
                after = page.end

    expected = [
        as_told(one)
        for one in sorted(messages, key=lambda one: (one.instance, one.message_id))
        if one.changed_at.position <= as_of and _matches(one, wanted)
    ]

    assert expected == found


def test_a_snapshot_goes_by_code_point(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Ids in the order of their code points, beyond the basic plane too, and resumed at each."""
    ids = ["!", "1", "10", "9", "A", "a", "é", "\ud7ff", "\ue000", "\uffff", "\U0001f600"]
    messages = [message(one, instance=name) for name in ("A", "a", "a.b") for one in ids]
    views_writer.apply(batch(views_writer.checkpoint(), 1, messages=messages[::-1]))

    keys = [MessageKey(one.instance, one.message_id) for one in messages]
    behind = [
        views_reader.snapshot(key, Position(1), FeedFilter(), len(keys) + 1).messages
        for key in [BEFORE_ALL, *keys]
    ]

    told = [as_told(one) for one in messages]
    assert behind == [told[at:] for at in range(len(keys) + 1)]


def test_a_named_message_is_found_however_long_the_stretch(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """One page, though thousands of rows of others lie before and behind it."""
    others = [feed_entry(position, message_id="other") for position in range(1, 3_000)]
    mine = feed_entry(1_500, 1, message_id="mine", phone="77")
    messages = [message("other"), message("mine", phone="77")]
    views_writer.apply(
        batch(views_writer.checkpoint(), 3_000, feed=[*others, mine], messages=messages)
    )

    start, until = Place(Position(0)), mark(3_000)
    pages = [
        views_reader.feed(start, until, wanted, 10, PLENTY)
        for wanted in (
            FeedFilter(message_ids=frozenset({"mine", "absent"})),
            FeedFilter(phones=frozenset({"77", "78"})),
        )
    ]

    assert [([mine.row], Place(Position(3_000)))] * 2 == [
        (page.rows, page.end.place) for page in pages
    ]


def test_a_snapshot_from_before_what_is_kept_is_refused(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Its changes are not all in the feed any more; one that stands right at the cut is served."""
    messages = [message("M", changed_at=Place(Position(6)))]
    views_writer.apply(
        batch(views_writer.checkpoint(), HEAD, messages=messages, feed=[feed_entry(6)])
    )
    views_writer.prune(Position(5))

    with pytest.raises(errors.CursorExpired):
        views_reader.snapshot(BEFORE_ALL, Position(3), FeedFilter(), 10)

    assert [] == views_reader.snapshot(BEFORE_ALL, Position(4), FeedFilter(), 10).messages
    told = [as_told(one) for one in messages]
    assert told == views_reader.snapshot(BEFORE_ALL, Position(6), FeedFilter(), 10).messages
