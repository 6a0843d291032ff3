"""Messages as callers get them, beside their state: whenever there is one without the other."""

import pytest

from service.domain.events import Place, Position
from service.domain.message import Message, MessageKey
from service.domain.status import Status
from service.views.feed import FeedFilter
from service.views.store import EncodedMessage, MessageFilter, ViewsReader, ViewsWriter
from tests.domain_values import message
from tests.sqlite_stores import any_connection_of
from tests.view_stores import as_told, batch

KEY = MessageKey("acme", "M")


def _put(writer: ViewsWriter, at: int, one: Message, encoded: bytes | None) -> None:
    writer.apply(
        batch(
            writer.checkpoint(),
            at,
            messages=[one],
            encoded={} if encoded is None else {MessageKey(one.instance, one.message_id): encoded},
        )
    )


def _told(reader: ViewsReader) -> list[EncodedMessage]:
    """However it is asked for."""
    page = reader.last_changed(MessageFilter(), Place(Position(100)), 10, 10)
    listed = zip(page.messages, page.encoded, strict=True)
    return [
        *[EncodedMessage(one.instance, one.message_id, int(one.status), e) for one, e in listed],
        *reader.messages_by_id("M", ["acme"], 10),
        *reader.messages_by_id("M", [], 10),
        *reader.messages_by_id("M", ["acme", "b"], 10),
        *reader.messages_of_ids(["M"], [], 10)["M"],
        *reader.messages_of_ids(["M", "N"], ["acme"], 10)["M"],
        *reader.snapshot(MessageKey("", ""), Position(9), FeedFilter(), 10).messages,
    ]


def test_what_stands_there_is_handed_out(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """As it was put; and once it is put again, that."""
    for at, encoded in ((1, b"first"), (2, b"second")):
        _put(views_writer, at, message("M", report_count=at), encoded)

        told = EncodedMessage("acme", "M", int(message("M").status), encoded)
        assert [told] * 7 == _told(views_reader)


def test_what_does_not_stand_there_is_made(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Of a message that was put without, also over one that had it."""
    _put(views_writer, 1, message("M"), None)
    first = _told(views_reader)
    _put(views_writer, 2, message("M", report_count=2), b"encoded")
    later = message("M", report_count=3, status=Status.READ)
    _put(views_writer, 3, later, None)

    assert [as_told(message("M"))] * 7 == first
    assert [as_told(later)] * 7 == _told(views_reader)


def test_what_another_program_left_behind_is_not_handed_out(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """One that knows nothing of it writes the other columns: those are right."""
    _put(views_writer, 1, message("M", report_count=1), b"encoded")
    any_connection_of(views_writer).execute("UPDATE messages_a SET report_count = 2, phone = '77'")
    later = message("M", report_count=2, phone="77")

    assert [as_told(later)] * 7 == _told(views_reader)


@pytest.mark.parametrize(
    ("live", "rebuilt", "fault"),
    [
        (b"one", b"one", []),
        (None, b"one", []),
        (b"one", None, []),
        (b"one", b"other", ["differs in encoded"]),
    ],
)
def test_a_comparison_looks_at_both_where_there_are_two(
    views_writer: ViewsWriter, live: bytes | None, rebuilt: bytes | None, fault: list[str]
) -> None:
    """A row without it is no other state; two that say something else are."""
    spare = views_writer.spare()
    spare.begin(2, Position(1), "test")
    _put(views_writer, 1, message("M"), live)
    spare.apply(
        batch(
            spare.checkpoint(),
            1,
            messages=[message("M")],
            encoded={} if rebuilt is None else {KEY: rebuilt},
        )
    )

    pages = list(views_writer.compare(10))

    assert fault == [one.fault for page in pages for one in page.differences]
