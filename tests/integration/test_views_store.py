"""What every implementation of the views promises to the projector, and what it reads back."""

import os
import signal
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import errors
from service.domain.events import BEFORE_FIRST, ORIGIN, Place, Position, QuarantineReason
from service.domain.instance import ConnectionState, Instance
from service.domain.message import Message, MessageKey, Recipient, RecipientKey
from service.domain.status import Status
from service.domain.webhook import WebhookState, WebhookUpdate
from service.views.feed import FeedFilter
from service.views.store import Checkpoint, QuarantineRow, ViewsBatch, ViewsReader, ViewsWriter
from tests import domain_values
from tests.domain_values import NOW_US, message, webhook_update
from tests.processes import child, lines
from tests.view_stores import LOG, VIEW_STORES, ViewsUnderTest, batch, feed_entry, mark

ANY = FeedFilter(unchanged=True)
END = Place(Position(2**62))


def _seen(views_reader: ViewsReader) -> object:
    """All that a reader finds, to compare one moment with another."""
    key = MessageKey("acme", "M")
    return (
        views_reader.checkpoint(),
        views_reader.message(key),
        views_reader.messages_by_id("M", (), 100),
        views_reader.recipients(key, "", 100),
        views_reader.feed(Place(BEFORE_FIRST), mark(1_000), ANY, 1_000, 1_000_000),
        views_reader.reports(key, Place(BEFORE_FIRST), 100),
        views_reader.quarantine((), Position(1_000), 100),
        views_reader.webhook_updates((), Position(1_000), 100),
        views_reader.instances("", 100),
    )


def test_new_views_stand_before_the_first_event(views: ViewsUnderTest) -> None:
    """New views belong to no log yet, hold nothing, and have a generation of their own."""
    with closing(views.open_reader()) as reader:
        checkpoint = reader.checkpoint()
        identity = reader.log_identity()

    assert ("", ORIGIN) == (identity, checkpoint.mark)
    assert checkpoint.generation > 0


def test_views_belong_to_the_log_of_their_first_writer(views: ViewsUnderTest) -> None:
    """A writer of another log is refused, and the views still take writers of their own."""
    views.open_writer().close()

    with pytest.raises(errors.StoreUnusable, match="another event log"):
        views.open_writer("fedcba9876543210" * 2)

    views.open_writer().close()
    with closing(views.open_reader()) as reader:
        assert LOG == reader.log_identity()


def test_a_batch_moves_the_checkpoint(views_writer: ViewsWriter, views_reader: ViewsReader) -> None:
    """After a batch, writers and readers stand at its last event, in the same generation."""
    start = views_writer.checkpoint()

    views_writer.apply(batch(start, 5))

    expected = Checkpoint(start.generation, mark(5))

    assert [expected, expected] == [views_writer.checkpoint(), views_reader.checkpoint()]


@settings(max_examples=20)
@given(
    messages=st.lists(
        domain_values.messages(),
        max_size=5,
        unique_by=lambda each: (each.instance, each.message_id),
    ),
    recipients=st.lists(
        domain_values.recipients, max_size=5, unique_by=lambda each: each.participant
    ),
)
@pytest.mark.parametrize("kind", VIEW_STORES)
def test_messages_and_recipients_read_as_written(
    kind: str, messages: list[Message], recipients: list[Recipient]
) -> None:
    """Every field of messages and recipients comes back, to the projector and to the API."""
    keys = [MessageKey(each.instance, each.message_id) for each in messages]
    key = MessageKey("acme", "M")
    recipient_keys = [RecipientKey(*key, each.participant) for each in recipients]

    with TemporaryDirectory() as folder:
        views = VIEW_STORES[kind](Path(folder))
        with closing(views.open_writer()) as writer, closing(views.open_reader()) as reader:
            pairs = [(key, each) for each in recipients]
            writer.apply(batch(writer.checkpoint(), 9, messages=messages, recipients=pairs))
            written = (writer.messages(keys), writer.recipients(recipient_keys))
            read = [reader.message(each) for each in keys]
            listed = reader.recipients(key, "", 100)

    by_code_point = sorted(recipients, key=lambda each: each.participant)

    assert dict(zip(keys, messages, strict=True)) == written[0]
    assert dict(zip(recipient_keys, recipients, strict=True)) == written[1]
    assert messages == read
    assert by_code_point == listed


def test_unknown_keys_are_left_out(views_writer: ViewsWriter, views_reader: ViewsReader) -> None:
    """Keys that are not known are missing from the answers, and None by themselves."""
    views_writer.apply(batch(views_writer.checkpoint(), 1, messages=[message("M")]))
    known, unknown = MessageKey("acme", "M"), MessageKey("acme", "m")

    assert {known: message("M")} == views_writer.messages([known, unknown])
    assert {} == views_writer.recipients([RecipientKey("acme", "M", "p")])
    assert (None, None, None, None) == (
        views_reader.message(unknown),
        views_writer.webhook("u1"),
        views_writer.last_webhook("acme"),
        views_writer.instance("acme"),
    )


def test_a_later_batch_replaces_what_it_names(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Messages, recipients, webhooks and instances have the state of the last batch."""
    key = MessageKey("acme", "M")
    states = [
        (
            message("M", status=status, report_count=count),
            Recipient("p", status, "w", NOW_US, NOW_US + count),
            webhook_update(state=WebhookState(count)),
            Instance("acme", NOW_US + count, ConnectionState.CONNECTED, NOW_US),
        )
        for count, status in enumerate((Status.SENT, Status.READ), start=1)
    ]

    for position, (state, recipient, update, instance) in enumerate(states, start=1):
        views_writer.apply(
            batch(
                views_writer.checkpoint(),
                position,
                messages=[state],
                recipients=[(key, recipient)],
                webhooks=[update],
                instances=[instance],
            )
        )

    assert states[-1] == (
        views_reader.message(key),
        *views_reader.recipients(key, "", 9),
        views_writer.webhook("u1"),
        views_writer.instance("acme"),
    )


def _full_batch(since: Checkpoint, until: int) -> ViewsBatch:
    return batch(
        since,
        until,
        messages=[message("M", report_count=until)],
        recipients=[(MessageKey("acme", "M"), Recipient("p", Status.READ, "", NOW_US, NOW_US))],
        feed=[feed_entry(until)],
        quarantine=[QuarantineRow(Position(until), "acme", QuarantineReason.TYPE_MISSING, NOW_US)],
        webhooks=[webhook_update(f"u{until}")],
        instances=[Instance("acme", NOW_US + until, ConnectionState.UNSPECIFIED, 0)],
    )


@pytest.mark.parametrize("moved", ["position behind", "position ahead", "generation"])
def test_a_batch_from_elsewhere_leaves_nothing(
    views_writer: ViewsWriter, views_reader: ViewsReader, moved: str
) -> None:
    """A batch that does not begin where the views stand is refused, and nothing of it is there."""
    views_writer.apply(_full_batch(views_writer.checkpoint(), 5))
    before = _seen(views_reader)
    stands = views_writer.checkpoint()
    since = {
        "position behind": Checkpoint(stands.generation, ORIGIN),
        "position ahead": Checkpoint(stands.generation, mark(6)),
        "generation": Checkpoint(stands.generation + 1, stands.mark),
    }[moved]

    with pytest.raises(errors.CheckpointMoved):
        views_writer.apply(_full_batch(since, 7))

    assert before == _seen(views_reader)


def test_of_two_projectors_one_goes_on(views: ViewsUnderTest, views_writer: ViewsWriter) -> None:
    """Of two writers with the same checkpoint, the second one's batch is refused."""
    with closing(views.open_writer()) as other:
        since = views_writer.checkpoint()
        other.apply(batch(since, 3))

        with pytest.raises(errors.CheckpointMoved):
            views_writer.apply(batch(since, 4))

        assert mark(3) == views_writer.checkpoint().mark


def test_a_batch_that_fails_leaves_nothing(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """A batch the database refuses in the middle is undone whole, and the writer works on."""
    views_writer.apply(_full_batch(views_writer.checkpoint(), 5))
    before = _seen(views_reader)
    twice = [feed_entry(6), feed_entry(6)]

    with pytest.raises(errors.ViewsUnavailable):
        views_writer.apply(batch(views_writer.checkpoint(), 6, messages=[message("N")], feed=twice))

    assert before == _seen(views_reader)
    views_writer.apply(batch(views_writer.checkpoint(), 6, feed=twice[:1]))
    assert mark(6) == views_reader.checkpoint().mark


def test_messages_of_all_instances_by_id(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """Messages that share an id come in order of instance, no more than asked."""
    names = ["b", "acme", "B", "a.b", "Z"]
    messages = [message("M", instance=name) for name in names] + [message("N"), message("m")]
    views_writer.apply(batch(views_writer.checkpoint(), 1, messages=messages))
    expected = ["B", "Z", "a.b", "acme", "b"]

    assert [expected, expected[:2], [], ["Z", "b"], ["B"], []] == [
        [each.instance for each in found]
        for found in (
            views_reader.messages_by_id("M", (), 100),
            views_reader.messages_by_id("M", (), 2),
            views_reader.messages_by_id("unknown", (), 100),
            views_reader.messages_by_id("M", {"b", "Z", "none"}, 100),
            views_reader.messages_by_id("M", {"b", "Z", "B"}, 1),
            views_reader.messages_by_id("M", {"c"}, 100),
        )
    ]


def test_messages_of_several_ids(views_writer: ViewsWriter, views_reader: ViewsReader) -> None:
    """Each id with its messages, those without any too; also where many instances share one."""
    names = [f"i{number:02d}" for number in range(30)]
    messages = [message("M", instance=name) for name in names]
    messages += [message("N", instance="i03"), message("P", instance="i05")]
    views_writer.apply(batch(views_writer.checkpoint(), 1, messages=messages))

    def found(ids: list[str], *instances: str) -> dict[str, list[str]]:
        read = views_reader.messages_of_ids(ids, instances, 10)
        return {one: sorted(each.instance for each in these) for one, these in read.items()}

    assert found(["P", "none", "N"]) == {"P": ["i05"], "none": [], "N": ["i03"]}
    assert found(["N", "M"]) == {"N": ["i03"], "M": names[:10]}
    assert found(["M", "N", "P"], "i03") == {"M": ["i03"], "N": ["i03"], "P": []}
    assert found(["M", "N"], "i04", "i03") == {"M": ["i03", "i04"], "N": ["i03"]}
    assert found(["'", '"', "\\"]) == {"'": [], '"': [], "\\": []}


def _webhooks() -> list[WebhookUpdate]:
    """Six attempts: two instances, one request made twice, in positions 1 to 6."""
    given = [("a1", "acme", "r1"), ("a2", "acme", "r2"), ("b1", "b", "r3")]
    given += [("a3", "acme", "r1"), ("b2", "b", "r4"), ("a4", "acme", "r5")]
    states = [3, 1, 1, 2, 4, 5]
    return [
        webhook_update(
            update_id,
            instance=instance,
            request_id=request_id,
            state=WebhookState(state),
            attempt_position=Position(position),
            update_time_us=NOW_US - position,
            error="no",
            error_reason="PLUGCHAT_REJECTED",
            url_in_force="https://hooks.example/",
        )
        for position, ((update_id, instance, request_id), state) in enumerate(
            zip(given, states, strict=True), start=1
        )
    ]


def test_webhooks_are_found_by_what_they_are_asked_for(
    views_writer: ViewsWriter, views_reader: ViewsReader
) -> None:
    """The last attempt of an instance or request, an update by id, and those without an outcome."""
    updates = _webhooks()
    by_id = {update.update_id: update for update in updates}
    views_writer.apply(batch(views_writer.checkpoint(), 6, webhooks=reversed(updates)))

    assert [by_id["a4"], by_id["b2"], None] == [
        views_reader.last_webhook(instance) for instance in ("acme", "b", "unknown")
    ]
    assert by_id["a4"] == views_writer.last_webhook("acme")
    assert [by_id["a3"], by_id["a2"], None] == [
        views_reader.webhook_by_request(request_id) for request_id in ("r1", "r2", "unknown")
    ]
    assert [by_id["a1"], None] == [views_writer.webhook(name) for name in ("a1", "unknown")]
    assert [by_id["a2"], by_id["b1"]] == views_reader.webhooks_in(WebhookState.PENDING)


PROJECTOR = """
import sys
from pathlib import Path
from tests.domain_values import message
from tests.view_stores import VIEW_STORES, batch, feed_entry
writer = VIEW_STORES[sys.argv[1]](Path(sys.argv[2])).open_writer()
while True:
    since = writer.checkpoint()
    until = since.mark.position + 3
    writer.apply(batch(
        since, until, messages=[message("M", report_count=until)],
        feed=[feed_entry(since.mark.position + step) for step in (1, 2, 3)]))
    print(until, flush=True)
"""


def test_batches_survive_a_kill_whole(views_kind: str, tmp_path: Path) -> None:
    """After SIGKILL the views stand at the last batch that was told or later, never in between."""
    with child(PROJECTOR, views_kind, str(tmp_path)) as process:
        told = 0
        for line in lines(process):
            told = int(line)
            if told >= 300:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.wait()

    with closing(VIEW_STORES[views_kind](tmp_path).open_reader()) as reader:
        stands = reader.checkpoint().mark
        page = reader.feed(Place(BEFORE_FIRST), stands, ANY, 100_000, 100_000_000)
        state = reader.message(MessageKey("acme", "M"))

    assert stands.position >= told
    assert list(range(1, stands.position + 1)) == [row.place.position for row in page.rows]
    assert state is not None
    assert stands.position == state.report_count
