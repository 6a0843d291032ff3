"""Messages written over their rows: whatever differs is there afterwards, and nothing else."""

from typing import Any

import pytest

from service.domain.events import Place, Position
from service.domain.message import Message, MessageKey
from service.domain.status import Status
from service.views.store import MessageFilter, ViewsReader, ViewsWriter
from tests.domain_values import message
from tests.view_stores import batch

KEY = MessageKey("acme", "M")
LATER: dict[str, Any] = {
    "changed_at": Place(Position(2), 0),
    "update_time_us": message().update_time_us + 1,
}
CHANGES: dict[str, dict[str, Any]] = {
    "only counted": {"report_count": 2},
    "what no list is ordered by": {"report_count": 2, "recipient_count": 1, "failure_code": "1"},
    "a status": {"status": Status.READ, "report_count": 2, **LATER},
    "a status without a place": {"status": Status.READ},
    "a place": LATER,
    "a place within the event": {"changed_at": Place(Position(1), 1)},
    "a phone": {"phone": "5511900000000"},
    "a phone and a status": {"phone": "5511900000000", "status": Status.READ, **LATER},
}


def _put(writer: ViewsWriter, at: int, one: Message, stored: Message | None) -> None:
    known = {} if stored is None else {KEY: stored}
    writer.apply(batch(writer.checkpoint(), at, messages=[one], stored=known))


def _listed(reader: ViewsReader, **given: Any) -> list[Message]:
    return list(
        reader.last_changed(MessageFilter(**given), Place(Position(99), 0), 10, 10).messages
    )


@pytest.mark.parametrize("knows", [True, False], ids=["known before", "unknown before"])
@pytest.mark.parametrize("given", CHANGES.values(), ids=CHANGES)
def test_a_row_is_what_was_written_last(
    given: dict[str, Any], knows: bool, views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """By its key and in every list, whether the row before was known or not."""
    before, after = message(), message(**given)
    _put(views_writer, 1, before, None)
    _put(views_writer, 2, after, before if knows else None)

    assert views_writer.messages([KEY]) == {KEY: after}
    assert _listed(views_reader) == [after]
    assert _listed(views_reader, instances=frozenset({"acme"})) == [after]
    assert _listed(views_reader, phone=after.phone) == [after]
    assert _listed(views_reader, statuses=frozenset({after.status})) == [after]
    if after.phone != before.phone:
        assert _listed(views_reader, phone=before.phone) == []
    if after.status != before.status:
        assert _listed(views_reader, statuses=frozenset({before.status})) == []


def test_what_is_known_to_stay_is_not_written(views_writer: ViewsWriter) -> None:
    """Nor the indexes of it: that is what it saves, so a wrong word of the row before shows."""
    row = message(phone="1")
    counted = message(phone="2", report_count=2)
    _put(views_writer, 1, row, None)
    _put(views_writer, 2, counted, message(phone="2"))
    assert views_writer.messages([KEY]) == {KEY: message(phone="1", report_count=2)}

    read = message(phone="2", status=Status.READ, report_count=3, **LATER)
    _put(views_writer, 3, read, message(phone="2"))
    kept = message(phone="1", status=Status.READ, report_count=3, **LATER)
    assert views_writer.messages([KEY]) == {KEY: kept}


def test_a_row_that_is_not_there_is_made_whole(views_writer: ViewsWriter) -> None:
    """Even if it was said to be there: a message that was left out meanwhile comes back."""
    _put(views_writer, 1, message(), message())

    assert views_writer.messages([KEY]) == {KEY: message()}
