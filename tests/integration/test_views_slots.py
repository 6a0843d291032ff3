"""What every implementation of the views promises of its two slots: beside each other, switched."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import errors
from service.domain.events import (
    BEFORE_FIRST,
    ORIGIN,
    Mark,
    Place,
    Position,
)
from service.domain.message import MessageKey
from service.domain.status import Status
from service.views.feed import FeedFilter
from service.views.store import Checkpoint, Difference, ViewsReader, ViewsWriter
from tests import domain_values
from tests.domain_values import message, webhook_update
from tests.slot_rows import PROGRAM, begun, instance, one_of_each, put, quarantined, recipient
from tests.view_stores import VIEW_STORES, ViewsUnderTest, batch, feed_entry, mark

ANY = FeedFilter(unchanged=True)
KEY = MessageKey("acme", "M")


def seen(reader: ViewsReader, name: str = "M") -> list[object]:
    """All that a reader finds of one message, and of everything else."""
    key = MessageKey("acme", name)
    page = reader.feed(Place(BEFORE_FIRST), mark(1_000), ANY, 1_000, 1_000_000)
    return [
        reader.checkpoint(),
        reader.message(key),
        reader.recipients(key, "", 100),
        page.rows,
        reader.quarantine((), Position(1_000), 100),
        reader.webhook_updates((), Position(1_000), 100),
        reader.instances("", 100),
    ]


def compared(writer: ViewsWriter, rows_max: int = 3) -> tuple[int, list[Difference]]:
    """How many rows a comparison looked at, and what differs."""
    pages = list(writer.compare(rows_max))
    assert max(page.rows for page in pages) <= 2 * rows_max
    return sum(page.rows for page in pages), [one for page in pages for one in page.differences]


def test_the_spare_slot_of_new_views(views_writer: ViewsWriter) -> None:
    """Nothing is begun there: no program, no generation above the live one, no row."""
    spare = views_writer.spare()

    assert spare.program() == ""
    assert spare.kept_from() == 1
    assert spare.checkpoint().mark == ORIGIN
    assert spare.checkpoint().generation < views_writer.checkpoint().generation
    assert spare.clear(1_000) == 0


def test_neither_slot_feels_the_other(views_writer: ViewsWriter, views_reader: ViewsReader) -> None:
    """What is written to one is in no table of the other, and moves only its own checkpoint."""
    put(views_writer, 1, **one_of_each("M"))
    before = seen(views_reader)
    spare = begun(views_writer)
    put(spare, 2, **one_of_each("N", 2))
    after, others = seen(views_reader), seen(views_reader, "N")
    put(views_writer, 3, messages=[message("M", status=Status.READ)])

    assert before == after
    assert others[1] is None
    assert spare.messages([KEY]) == {}
    assert spare.keys_at([Position(1), Position(2)]) == {MessageKey("acme", "N")}
    assert spare.positions_of([KEY, MessageKey("acme", "N")]) == [2]
    assert [spare.checkpoint().mark, views_writer.checkpoint().mark] == [mark(2), mark(3)]


def test_a_begun_spare_slot_says_how_far_it_is(
    views: ViewsUnderTest, views_writer: ViewsWriter
) -> None:
    """Generation, first position kept, program and checkpoint are there after a restart."""
    generation = views_writer.checkpoint().generation + 7
    spare = views_writer.spare()
    spare.begin(generation, Position(4), PROGRAM)
    at_first = spare.checkpoint()
    put(spare, 9)
    views_writer.close()
    with closing(views.open_writer()) as again:
        other = again.spare()
        found = (other.checkpoint(), other.kept_from(), other.program())

    assert at_first == Checkpoint(generation, ORIGIN)
    assert found == (Checkpoint(generation, mark(9)), 4, PROGRAM)


def test_a_batch_that_does_not_follow_is_refused(views_writer: ViewsWriter) -> None:
    """Of another place or another generation, the live one's too: nothing of it is written."""
    spare = begun(views_writer)
    put(spare, 2)
    stands = spare.checkpoint()
    elsewhere = Checkpoint(stands.generation, mark(1))
    for since in (elsewhere, Checkpoint(stands.generation + 1, stands.mark)):
        with pytest.raises(errors.CheckpointMoved):
            spare.apply(batch(since, 5, **one_of_each()))

    with pytest.raises(errors.CheckpointMoved):
        spare.apply(batch(views_writer.checkpoint(), 5, **one_of_each()))
    assert spare.checkpoint() == stands
    assert spare.clear(1_000) == 0


def test_a_switch_shows_all_of_the_other_slot_at_once(
    views: ViewsUnderTest, views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Readers see every table of the new generation, and writers go on with it, reopened too."""
    put(views_writer, 5, **one_of_each("M"))
    spare = begun(views_writer)
    put(spare, 5, **one_of_each("N", 2))
    generation = spare.checkpoint().generation
    before = seen(views_reader)
    views_writer.switch()
    old, new = seen(views_reader, "M"), seen(views_reader, "N")
    put(views_writer, 6, messages=[message("later")])
    views_writer.close()
    with closing(views.open_writer()) as again:
        reopened = again.checkpoint()

    assert before != new
    assert old[1] is None
    assert all(new)
    assert new[0] == Checkpoint(generation, mark(5))
    assert reopened == Checkpoint(generation, mark(6))
    assert views_reader.message(MessageKey("acme", "later")) is not None


def test_a_spare_slot_is_always_the_other_one(views_writer: ViewsWriter) -> None:
    """What was the spare slot's hand before a switch is the hand of what was live."""
    put(views_writer, 5, messages=[message("old")])
    spare = begun(views_writer)
    put(spare, 5, messages=[message("new")])
    views_writer.switch()
    keys = [MessageKey("acme", "old"), MessageKey("acme", "new")]

    assert list(spare.messages(keys)) == [keys[0]]
    assert list(views_writer.messages(keys)) == [keys[1]]
    assert spare.checkpoint().generation < views_writer.checkpoint().generation


@pytest.mark.parametrize(("live", "spare"), [(5, 4), (4, 5), (5, 0)])
def test_slots_at_different_events_are_not_switched(
    views_writer: ViewsWriter, views_reader: ViewsReader, live: int, spare: int
) -> None:
    """A switch would lose or repeat what lies between: it is refused, and nothing changes."""
    put(views_writer, live, **one_of_each())
    other = begun(views_writer)
    if spare:
        put(other, spare)
    before = seen(views_reader)

    with pytest.raises(errors.CheckpointMoved):
        views_writer.switch()

    assert seen(views_reader) == before
    put(views_writer, 6)
    assert views_reader.checkpoint().mark == mark(6)


def test_slots_at_the_same_place_of_other_logs_are_not_switched(views_writer: ViewsWriter) -> None:
    """The same position received at another time is another event."""
    put(views_writer, 5)
    other = begun(views_writer)
    moved = batch(other.checkpoint(), 5)
    other.apply(msgspec.structs.replace(moved, until=Mark(Position(5), 1)))

    with pytest.raises(errors.CheckpointMoved):
        views_writer.switch()


def test_clearing_takes_so_many_rows_at_a_time(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Every row of every table goes, no more at once than asked, and none of the live ones."""
    put(views_writer, 9, **one_of_each())
    before = seen(views_reader)
    spare = begun(views_writer)
    for number in range(1, 8):
        put(spare, number, **one_of_each(f"N{number}", number))
    steps: list[int] = []
    while cleared := spare.clear(5):
        steps.append(cleared)

    assert sum(steps) == 7 * 6
    assert max(steps) == 5
    assert seen(views_reader) == before
    # What was there under the same keys does not come back.
    put(views_writer, 10)
    put(begun(views_writer), 10)
    views_writer.switch()
    assert not any(seen(views_reader, "N1")[1:])


def test_a_slot_that_is_being_cleared_is_not_begun(
    views: ViewsUnderTest, views_writer: ViewsWriter
) -> None:
    """From the first step on it says so, killed in between too: half a slot goes on nowhere."""
    spare = begun(views_writer)
    for number in range(1, 8):
        put(spare, number, **one_of_each(f"N{number}", number))
    spare.clear(5)
    views_writer.close()
    with closing(views.open_writer()) as again:
        left = again.spare()
        told = (left.program(), left.checkpoint().mark, left.kept_from())
        below = left.checkpoint().generation < again.checkpoint().generation
        rest = left.clear(1_000)

    assert told == ("", ORIGIN, 1)
    assert below
    assert rest == 7 * 6 - 5


@pytest.mark.parametrize("table", sorted(one_of_each()))
def test_a_comparison_finds_what_one_slot_lacks(views_writer: ViewsWriter, table: str) -> None:
    """In each table: a row that only one of both has, and on which side, by table and key."""
    both, lone = one_of_each("M", 1), one_of_each("N", 2)
    found: dict[str, list[Difference]] = {}
    spare = begun(views_writer)
    put(views_writer, 1, **both)
    put(spare, 1, **both)
    same = compared(views_writer)
    put(views_writer, 2, **{table: lone[table]})
    put(spare, 2)
    found["only live"] = compared(views_writer)[1]
    put(views_writer, 3)
    put(spare, 3, **lone)
    put(views_writer, 4, **{name: rows for name, rows in lone.items() if name != table})
    put(spare, 4)
    whole = compared(views_writer)

    assert same == (6, [])
    assert [one.table for one in found["only live"]] == [table]
    assert [one.fault for one in found["only live"]] == ["only live"]
    assert whole == (12, [])


@pytest.mark.parametrize("table", sorted(one_of_each()))
def test_a_comparison_finds_what_only_the_spare_slot_has(
    views_writer: ViewsWriter, table: str
) -> None:
    """A row that the live views have lost is told as well."""
    given = one_of_each()
    put(begun(views_writer), 1, **given)
    put(views_writer, 1, **{name: rows for name, rows in given.items() if name != table})
    rows, differences = compared(views_writer)

    assert rows == 6
    assert [(one.table, one.fault) for one in differences] == [(table, "only rebuilt")]


DIFFERING: dict[str, tuple[str, Any]] = {
    "messages": ("phone", [message("M", phone="other")]),
    "recipients": ("status", [(KEY, recipient("77", Status.PLAYED))]),
    "feed": ("change", [feed_entry(1, change=b"CHANGE")]),
    "quarantine": ("instance", [quarantined(1, "other")]),
    "webhooks": ("error", [webhook_update("u-M", error="other")]),
    "instances": ("last_callback_time_us", [instance("i-M", 1)]),
}


@pytest.mark.parametrize("table", sorted(DIFFERING))
def test_a_comparison_names_the_columns_that_differ(views_writer: ViewsWriter, table: str) -> None:
    """A row under the same key with another value is told with the names of its columns."""
    column, rows = DIFFERING[table]
    put(begun(views_writer), 1, **one_of_each())
    put(views_writer, 1, **(one_of_each() | {table: rows}))
    looked, differences = compared(views_writer)

    assert looked == 6
    assert [(one.table, one.fault) for one in differences] == [(table, f"differs in {column}")]


keys = st.sets(st.tuples(domain_values.texts.filter(bool), domain_values.ids), max_size=12)


@settings(max_examples=20)
@given(shared=keys, live=keys, spare=keys, rows_max=st.integers(1, 5))
@pytest.mark.parametrize("kind", VIEW_STORES)
def test_a_comparison_of_any_keys(
    kind: str,
    shared: set[tuple[str, str]],
    live: set[tuple[str, str]],
    spare: set[tuple[str, str]],
    rows_max: int,
) -> None:
    """Whatever the keys and the pages are, what is told is exactly the symmetric difference."""
    with (
        TemporaryDirectory() as folder,
        closing(VIEW_STORES[kind](Path(folder)).open_writer()) as w,
    ):
        put(w, 1, messages=[message(one, instance=name) for name, one in shared | live])
        put(begun(w), 1, messages=[message(one, instance=name) for name, one in shared | spare])
        looked, differences = compared(w, rows_max)

    told = {(one.key, one.fault) for one in differences}

    assert looked == len(shared | live | spare)
    assert told == {(key, "only live") for key in live - spare - shared} | {
        (key, "only rebuilt") for key in spare - live - shared
    }
    assert len(differences) == len(told)


def test_both_slots_may_move_on_between_two_pages(views_writer: ViewsWriter) -> None:
    """Batches that reach both between two pages make no difference, before or behind the page."""
    spare = begun(views_writer)
    names = [f"M{number:02d}" for number in range(20)]
    given = [message(name) for name in names[::2]]
    put(views_writer, 1, messages=given)
    put(spare, 1, messages=given)
    differences: list[Difference] = []
    position = 1
    for page in views_writer.compare(3):
        differences += page.differences
        position += 1
        later = [message(name, report_count=position) for name in names]
        put(views_writer, position, messages=later)
        put(spare, position, messages=later)

    assert differences == []
