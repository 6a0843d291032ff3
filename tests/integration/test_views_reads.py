"""Pages of the views, against linear models; and that every read finds its rows by an index."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.events import Place, Position, QuarantineReason, end_of
from service.domain.instance import ConnectionState, Instance
from service.domain.message import Message, MessageKey, Recipient, RecipientKey
from service.domain.status import Status
from service.domain.webhook import WebhookState
from service.views.feed import FeedFilter
from service.views.store import ListedReport, MessageFilter, QuarantineRow, ViewsReader, ViewsWriter
from service.wire.frames import Bounds
from tests.domain_values import NOW_US, message, webhook_update
from tests.view_stores import VIEW_STORES, ViewsUnderTest, batch, feed_entry, mark

START = Place(Position(0))
END = Place(Position(2**62))
PLENTY = 1_000_000_000
HEAD = 8

names = st.sampled_from(["a", "b"])
few_statuses = st.sampled_from([Status.SENT, Status.READ])
message_filters = st.builds(
    MessageFilter,
    instances=st.sampled_from(["", "a", "b", "ab", "ac"]).map(frozenset),
    phone=st.sampled_from(["", "a", "b"]),
    statuses=st.sets(few_statuses, max_size=2).map(frozenset),
    updated_from_us=st.sampled_from([0, NOW_US, NOW_US + 2]),
    updated_until_us=st.sampled_from([0, NOW_US + 1, NOW_US + 4]),
)


def test_a_page_of_the_feed_says_how_far_it_looked(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """A page ends no further than it looked, or at the end it was given once nothing is left."""
    entries = [feed_entry(1), feed_entry(2, changed=False), feed_entry(3), feed_entry(4, 7)]
    views_writer.apply(batch(views_writer.checkpoint(), HEAD, feed=entries))

    ends = [
        views_reader.feed(after, mark(until), FeedFilter(), rows_max, bytes_max).end
        for after, until, rows_max, bytes_max in [
            (START, HEAD, 2, PLENTY),
            (START, HEAD, 100, 1),
            (START, HEAD, 100, PLENTY),
            (START, 3, 100, PLENTY),
            (Place(Position(4), 7), HEAD, 100, PLENTY),
        ]
    ]

    assert START < ends[0].place < entries[2].row.place
    assert START < ends[1].place < entries[1].row.place
    assert [end_of(mark(HEAD)), end_of(mark(3)), end_of(mark(HEAD))] == ends[2:]


@settings(max_examples=20)
@given(
    drawn=st.lists(st.tuples(names, names, few_statuses, st.integers(0, 5)), max_size=12),
    wanted=message_filters,
    messages_max=st.integers(1, 4),
    looked_max=st.integers(1, 6),
)
@pytest.mark.parametrize("kind", VIEW_STORES)
def test_pages_of_messages_hold_every_wanted_one_once(
    kind: str,
    drawn: list[tuple[str, str, Status, int]],
    wanted: MessageFilter,
    messages_max: int,
    looked_max: int,
) -> None:
    """Page by page, last changed first, a listing gives every wanted message once."""
    messages = [
        message(
            f"M{number}",
            instance=instance,
            phone=phone,
            status=status,
            update_time_us=NOW_US + second,
            changed_at=Place(Position(number // 3 + 1), number % 3),
        )
        for number, (instance, phone, status, second) in enumerate(drawn)
    ]
    found: list[Message] = []
    with TemporaryDirectory() as folder:
        views = VIEW_STORES[kind](Path(folder))
        with closing(views.open_writer()) as writer, closing(views.open_reader()) as reader:
            writer.apply(batch(writer.checkpoint(), HEAD, messages=messages))
            before: Place | None = END
            while before is not None:
                page = reader.last_changed(wanted, before, messages_max, looked_max)
                assert len(page.messages) <= messages_max
                assert page.end is None or page.end < before
                found += page.messages
                before = page.end

    until_us = wanted.updated_until_us or NOW_US * 2
    expected = [
        each
        for each in reversed(messages)
        if (each.instance in wanted.instances or not wanted.instances)
        and wanted.phone in ("", each.phone)
        and (each.status in wanted.statuses or not wanted.statuses)
        and wanted.updated_from_us <= each.update_time_us < until_us
    ]

    assert expected == found


def test_recipients_are_listed_by_code_point(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Recipients of a message alone come by code point of their names, page by page."""
    ordered = ["1", "10", "9", "A", "a", "é", "\uffff", "\U0001f600"]
    key, other = MessageKey("acme", "M"), MessageKey("acme", "N")
    recipients = [Recipient(name, Status.READ, "READ", NOW_US, NOW_US) for name in ordered]
    pairs = [(key, each) for each in reversed(recipients)] + [(other, recipients[0])]
    views_writer.apply(batch(views_writer.checkpoint(), 1, recipients=pairs))

    assert recipients == views_reader.recipients(key, "", 100)
    assert recipients[3:6] == views_reader.recipients(key, "9", 3)
    assert [] == views_reader.recipients(key, ordered[-1], 100)


def test_reports_of_a_message_are_listed_in_log_order(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Every report of the message, changes or not, comes in log order, page by page."""
    places = [(1, 0), (1, 5), (2, 0), (10, 1)]
    entries = [feed_entry(*place, changed=place[1] == 0) for place in places]
    others = [feed_entry(2, 1, message_id="N"), feed_entry(2, 2, instance="other")]
    views_writer.apply(batch(views_writer.checkpoint(), 10, feed=[*others, *entries]))
    key = MessageKey("acme", "M")
    expected = [ListedReport(entry.row.place, entry.report) for entry in entries]

    assert expected == views_reader.reports(key, START, 100)
    assert expected[1:3] == views_reader.reports(key, expected[0].place, 2)
    assert [] == views_reader.reports(key, expected[-1].place, 100)


def test_newest_first_of_one_instance_or_of_all(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Quarantine and webhook updates are listed newest first, of some instances or of all."""
    reason = QuarantineReason.TYPE_UNKNOWN
    rows = [
        QuarantineRow(Position(position), "ab"[position % 2], reason, NOW_US)
        for position in range(1, 6)
    ]
    updates = [
        webhook_update(f"u{row.position}", instance=row.instance, attempt_position=row.position)
        for row in rows
    ]
    views_writer.apply(batch(views_writer.checkpoint(), 5, quarantine=rows, webhooks=updates))

    asked = [("", 9, 100), ("", 5, 2), ("b", 9, 100), ("a", 4, 1), ("c", 9, 100), ("abc", 9, 3)]
    expected = [[5, 4, 3, 2, 1], [4, 3], [5, 3, 1], [2], [], [5, 4, 3]]

    quarantined = [
        views_reader.quarantine(instances, Position(before), most)
        for instances, before, most in asked
    ]
    attempted = [
        views_reader.webhook_updates(instances, Position(before), most)
        for instances, before, most in asked
    ]

    assert expected == [[row.position for row in page] for page in quarantined]
    assert expected == [[update.attempt_position for update in page] for page in attempted]
    assert rows[::-1] == quarantined[0]
    assert updates[::-1] == attempted[0]


def test_instances_are_listed_by_code_point(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Instances come by code point of their names, page by page."""
    instances = [
        Instance(name, NOW_US, ConnectionState.DISCONNECTED, NOW_US - 1)
        for name in ("-", "A", "_", "a", "a.b")
    ]
    views_writer.apply(batch(views_writer.checkpoint(), 1, instances=instances[::-1]))

    assert instances == views_reader.instances("", 100)
    assert instances[2:4] == views_reader.instances("A", 2)
    assert instances[2:5:2] == views_reader.instances("A", 2, among=["a.b", "none", "A", "_"])


KEY = MessageKey("acme", "M")
BY_ID = FeedFilter(message_ids=frozenset({"M", "N"}))
BY_PHONE = FeedFilter(phones=frozenset({"5544999999999"}))
READS: dict[str, Callable[[ViewsReader], object]] = {
    "log_identity": lambda reader: reader.log_identity(),
    "checkpoint": lambda reader: reader.checkpoint(),
    "message": lambda reader: reader.message(KEY),
    "messages_by_id": lambda reader: [
        reader.messages_by_id("M", names, 2) for names in ([], ["acme"], ["acme", "b"])
    ],
    "messages_of_ids": lambda reader: [
        reader.messages_of_ids(["M", "N", "O"], names, 2) for names in ([], ["acme"], ["acme", "b"])
    ],
    "feed": lambda reader: [
        reader.feed(START, mark(HEAD), wanted, rows_max, 5)
        for wanted in (FeedFilter(), BY_ID, BY_PHONE)
        for rows_max in (5, 20)
    ],
    "changes": lambda reader: [
        reader.changes(START, mark(HEAD), wanted, rows_max, Bounds(3, 5))
        for wanted in (FeedFilter(), BY_ID, BY_PHONE)
        for rows_max in (5, 20)
    ],
    "snapshot": lambda reader: [
        reader.snapshot(MessageKey("a", "b"), Position(HEAD), wanted, 5)
        for wanted in (FeedFilter(), BY_ID, BY_PHONE, FeedFilter(instances=frozenset({"acme"})))
    ],
    "recipients": lambda reader: reader.recipients(KEY, "", 5),
    "reports": lambda reader: reader.reports(KEY, START, 5),
    "last_changed": lambda reader: [
        reader.last_changed(wanted, END, 5, 5)
        for wanted in (
            MessageFilter(),
            MessageFilter(instances=frozenset({"acme"})),
            MessageFilter(instances=frozenset({"acme", "b"})),
            MessageFilter(phone="5"),
            MessageFilter(statuses=frozenset({Status.SENT})),
            MessageFilter(statuses=frozenset({Status.SENT, Status.READ})),
        )
    ],
    "quarantine": lambda reader: [
        reader.quarantine(names, Position(HEAD), 5) for names in ([], ["acme"], ["acme", "b"])
    ],
    "webhook_updates": lambda reader: [
        reader.webhook_updates(names, Position(HEAD), 5) for names in ([], ["acme"], ["acme", "b"])
    ],
    "instances": lambda reader: [
        reader.instances("", 5, names) for names in ([], ["acme"], ["acme", "b"])
    ],
    "last_webhook": lambda reader: reader.last_webhook("acme"),
    "webhook_by_request": lambda reader: reader.webhook_by_request("r1"),
    "webhooks_in": lambda reader: reader.webhooks_in(WebhookState.PENDING),
    "count_of_status": lambda reader: reader.count_of_status(
        Status.SENT, Position(1), Position(9), 5
    ),
}
WRITER_READS: dict[str, Callable[[ViewsWriter], object]] = {
    "checkpoint": lambda writer: writer.checkpoint(),
    "messages": lambda writer: writer.messages([KEY]),
    "recipients": lambda writer: writer.recipients([RecipientKey(*KEY, "p")]),
    "last_webhook": lambda writer: writer.last_webhook("acme"),
    "webhook": lambda writer: writer.webhook("u1"),
    "instance": lambda writer: writer.instance("acme"),
    "kept_from": lambda writer: writer.kept_from(),
    "keys_at": lambda writer: writer.keys_at([Position(1)]),
    "positions_of": lambda writer: writer.positions_of([KEY]),
    "ended_before": lambda writer: writer.ended_before(Position(2)),
}
WRITER_WRITES = {"apply", "spare", "switch", "compare", "prune", "rewrite", "wipe", "close"}


def _public(protocol: type) -> set[str]:
    return {name for name in dir(protocol) if not name.startswith("_")}


def test_every_read_is_in_the_tables_above() -> None:
    """No read of the protocols is left out of the plans looked at below."""

    assert _public(ViewsReader) == {*READS, "holds_trace", "usable", "close"}
    assert _public(ViewsWriter) == {*WRITER_READS, *WRITER_WRITES}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_read_finds_its_rows_by_an_index(
    views: ViewsUnderTest, read: Callable[[ViewsReader], object]
) -> None:
    """No statement of the API looks through a table or sorts: its cost is that of its answer."""
    plans = views.plans(read)

    assert plans
    assert {} == {sql: plan for sql, plan in plans.items() if not views.finds_by_index(plan)}


@pytest.mark.parametrize("read", WRITER_READS.values(), ids=WRITER_READS)
def test_a_read_of_the_projector_finds_its_rows_by_an_index(
    views: ViewsUnderTest, read: Callable[[ViewsWriter], object]
) -> None:
    """No statement of the projector looks through a table or sorts."""
    plans = views.write_plans(read)

    assert plans
    assert {} == {sql: plan for sql, plan in plans.items() if not views.finds_by_index(plan)}
