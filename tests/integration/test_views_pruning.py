"""What every implementation of the views leaves out when retention has removed events."""

import pytest

from service import errors
from service.domain.events import Place, Position
from service.domain.message import MessageKey
from service.views.feed import FeedFilter
from service.views.store import ViewsReader, ViewsWriter
from tests.domain_values import message, webhook_update
from tests.slot_rows import begun, instance, one_of_each, put, quarantined, recipient
from tests.view_stores import feed_entry, mark

ANY = FeedFilter(unchanged=True)


@pytest.fixture
def ended(views_writer: ViewsWriter) -> ViewsWriter:
    """Of A the last report stands at 3, of B at 5; webhooks at 1, 2 and 4."""
    webhooks = [
        webhook_update(f"u{position}", attempt_position=Position(position))
        for position in (1, 2, 4)
    ]
    other = webhook_update("b1", instance="b", attempt_position=Position(1))
    named = [(1, "A"), (2, "B"), (3, "A"), (5, "B")]
    put(
        views_writer,
        5,
        messages=[message("A"), message("B")],
        recipients=[(MessageKey("acme", name), recipient("77")) for name in "AB"],
        feed=[feed_entry(position, message_id=name) for position, name in named],
        quarantine=[quarantined(3), quarantined(4)],
        webhooks=[*webhooks, other],
        instances=[instance("acme")],
    )
    return views_writer


def test_pruning_leaves_out_what_ended(ended: ViewsWriter, views_reader: ViewsReader) -> None:
    """Before the cut: reports, quarantine, ended messages, and all webhooks but the last one."""
    told = ended.ended_before(Position(4))
    ended.prune(Position(4))
    page = views_reader.feed(Place(Position(3)), mark(5), ANY, 100, 10_000)
    webhooks = views_reader.webhook_updates((), Position(1_000), 100)

    assert told == [MessageKey("acme", "A")]
    assert views_reader.message(MessageKey("acme", "A")) is None
    assert views_reader.recipients(MessageKey("acme", "A"), "", 9) == []
    assert views_reader.message(MessageKey("acme", "B")) is not None
    assert len(views_reader.recipients(MessageKey("acme", "B"), "", 9)) == 1
    assert [row.place.position for row in page.rows] == [5]
    assert [row.position for row in views_reader.quarantine((), Position(99), 9)] == [4]
    assert {one.update_id for one in webhooks} == {"u2", "u4", "b1"}
    assert len(views_reader.instances("", 9)) == 1
    assert ended.kept_from() == 4
    with pytest.raises(errors.CursorExpired):
        views_reader.feed(Place(Position(2)), mark(5), ANY, 100, 10_000)


def test_pruning_does_not_touch_the_spare_slot(ended: ViewsWriter) -> None:
    """What a rebuild is filling keeps its rows and its own first position."""
    spare = begun(ended)
    put(spare, 1, **one_of_each("A"))
    ended.prune(Position(4))

    assert spare.kept_from() == 1
    assert spare.messages([MessageKey("acme", "A")]) != {}
    assert spare.clear(100) == 6


def test_first_kept_positions_go_with_their_slots(
    ended: ViewsWriter, views_reader: ViewsReader
) -> None:
    """After a switch cursors expire where the new generation begins, and not the old one."""
    ended.prune(Position(4))
    spare = begun(ended)
    put(spare, 5)
    ended.switch()

    assert ended.kept_from() == 1
    assert spare.kept_from() == 4
    assert views_reader.feed(Place(Position(2)), mark(5), ANY, 100, 10_000).rows == []
