"""The baseline in every implementation of the log, and the removals that write it."""

import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import errors
from service.database.schema import Store, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import ORIGIN, EventKind, Mark, Position
from service.domain.instance import ConnectionState, Instance
from service.domain.message import Message, MessageKey, Recipient, RecipientKey
from service.eventlog import baseline as rows
from service.eventlog.baseline import BaselinePart
from service.eventlog.log import BaselineChange, LogReader, LogWriter
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from tests.domain_values import NOW_US, ids, message, messages, recipients, webhook_update
from tests.logs import LogUnderTest, appended, new_event
from tests.processes import child, lines
from tests.slot_rows import recipient

TIMES_S = (5, 1, 9, 3, 4, 6)
"""When the events of `six` were received: the clock stepped back."""


def _at(position: int) -> Mark:
    return Mark(Position(position), NOW_US + TIMES_S[position - 1])


@pytest.fixture
def six(log: LogUnderTest) -> Iterator[LogWriter]:
    """A writer of a log with six events."""
    appended(log, *(new_event(b"body", receive_time_us=NOW_US + time_us) for time_us in TIMES_S))
    with closing(log.open_writer()) as writer:
        yield writer


def _key(one: Message) -> MessageKey:
    return MessageKey(one.instance, one.message_id)


def _all(reader: LogReader, rows_max: int = 1_000) -> BaselinePart:
    """Every part put together."""
    whole = BaselinePart([], [], [], [])
    for part in reader.baseline().parts(rows_max):
        many = len(part.messages) + len(part.recipients)
        assert 0 < many + len(part.webhooks) + len(part.instances) <= rows_max
        whole.messages.extend(part.messages)
        whole.recipients.extend(part.recipients)
        whole.webhooks.extend(part.webhooks)
        whole.instances.extend(part.instances)
    return whole


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(messages(), st.lists(recipients, max_size=3)), max_size=4),
    st.lists(ids, unique=True, max_size=3),
    st.integers(1, 5),
)
def test_what_was_put_comes_back(
    log: LogUnderTest,
    said: list[tuple[Message, list[Recipient]]],
    names: list[str],
    rows_max: int,
) -> None:
    """Any state of messages, recipients, webhooks and instances: by key, and in parts of any
    size, each row once."""
    by_message = {_key(one): one for one, _ in said}
    by_recipient = {
        RecipientKey(*_key(one), who.participant): who for one, people in said for who in people
    }
    webhooks = {name: webhook_update(name, instance=name) for name in names}
    instances = {name: Instance(name, NOW_US, ConnectionState.CONNECTED, 7) for name in names}
    put = [
        *map(rows.message_row, by_message.values()),
        *(rows.recipient_row(MessageKey(*key[:2]), one) for key, one in by_recipient.items()),
        *map(rows.webhook_row, webhooks.values()),
        *map(rows.instance_row, instances.values()),
    ]
    with closing(log.open_writer()) as writer, closing(log.open_reader()) as reader:
        before = _all(reader)
        ended = [_key(one) for one in before.messages] + [key for key, _ in before.recipients]
        dropped = [rows.webhook_key(one) for one in before.webhooks]
        dropped += [rows.instance_row(one).key for one in before.instances]
        writer.erase([], new_event(kind=EventKind.ERASURE), BaselineChange(ended, dropped, put))
        found, baseline = _all(reader, rows_max), reader.baseline()

        assert {_key(one): one for one in found.messages} == by_message
        assert {RecipientKey(*key, one.participant): one for key, one in found.recipients} == (
            by_recipient
        )
        assert (len(found.messages), len(found.recipients)) == (len(by_message), len(by_recipient))
        assert {one.update_id: one for one in found.webhooks} == webhooks
        assert {one.instance: one for one in found.instances} == instances
        assert baseline.messages(by_message.keys()) == by_message
        assert baseline.recipients(by_recipient.keys()) == by_recipient
        assert {name: baseline.last_webhook(name) for name in names} == webhooks
        assert {name: baseline.webhook(name) for name in names} == webhooks
        assert {name: baseline.instance(name) for name in names} == instances
        for one, _ in said:
            theirs = {who.participant for who in baseline.recipients_of(_key(one))}
            assert theirs == {key.participant for key in by_recipient if key[:2] == _key(one)}


def test_what_nobody_put_is_not_there(reader: LogReader) -> None:
    """A new log's baseline is empty, whatever it is asked for."""
    baseline, key = reader.baseline(), MessageKey("acme", "M")

    assert list(baseline.parts(1)) == []
    assert baseline.messages([key]) == {}
    assert baseline.recipients([RecipientKey("acme", "M", "77")]) == {}
    assert baseline.recipients_of(key) == []
    assert baseline.webhooks() == []
    assert baseline.last_webhook("acme") is None
    assert baseline.webhook("u1") is None
    assert baseline.instance("acme") is None


def test_an_ended_message_goes_with_its_recipients(six: LogWriter, reader: LogReader) -> None:
    """Those of messages whose ids or instances only begin alike stay."""
    keys = [MessageKey("acme", "M"), MessageKey("acme", "M1"), MessageKey("acm", "eM")]
    put = [rows.message_row(message(key.message_id, instance=key.instance)) for key in keys]
    put += [rows.recipient_row(key, recipient(who)) for key in keys for who in ("77", "78")]
    six.cut(_at(1), BaselineChange(put=put))
    six.cut(_at(2), BaselineChange(ended=keys[:1]))
    found = _all(reader)

    assert {_key(one) for one in found.messages} == set(keys[1:])
    assert [key for key, _ in found.recipients].count(keys[0]) == 0
    assert len(found.recipients) == 4


def test_rows_are_put_behind_what_goes(six: LogWriter, reader: LogReader) -> None:
    """A message may end and begin anew, or a row be dropped and put, in one change: it is there."""
    old, new = message(report_count=7), message(report_count=1)
    webhook = webhook_update()
    six.cut(_at(1), BaselineChange(put=[rows.message_row(old), rows.webhook_row(webhook)]))
    six.cut(
        _at(2),
        BaselineChange(
            [_key(old)],
            [rows.webhook_key(webhook)],
            [rows.message_row(new), rows.webhook_row(webhook)],
        ),
    )

    assert _all(reader) == BaselinePart([new], [], [webhook], [])


def test_the_last_webhook_is_the_last_attempt(six: LogWriter, reader: LogReader) -> None:
    """Of the instance, whatever the order of names."""
    put = [
        rows.webhook_row(webhook_update(name, instance=instance, attempt_position=position))
        for name, instance, position in (("z", "acme", 1), ("a", "acme", 12), ("m", "b", 20))
    ]
    six.cut(_at(1), BaselineChange(put=put))
    last = reader.baseline().last_webhook("acme")

    assert last is not None
    assert last.update_id == "a"


def test_a_cut_removes_a_prefix_and_says_so(six: LogWriter, reader: LogReader) -> None:
    """Events, first position, last mark, counts and times, after each of several cuts."""
    told = []
    for until in (1, 3, 5):
        six.cut(_at(until), BaselineChange())
        removals = reader.removals()
        told.append(
            (
                [event.position for event in reader.read(Position(0), 99, 999)],
                reader.kept_from(),
                reader.last_removed(),
                removals.expired_event_count,
                removals.oldest_event_time_us - NOW_US,
                removals.last_expired_time_us - NOW_US,
            )
        )

    assert told == [
        ([2, 3, 4, 5, 6], 2, _at(1), 1, 1, 5),
        ([4, 5, 6], 4, _at(3), 3, 3, 9),
        ([6], 6, _at(5), 5, 6, 9),
    ]
    assert reader.head() == _at(6)
    assert reader.removals().erased_event_count == 0


def test_a_log_without_removals_says_so(six: LogWriter, reader: LogReader) -> None:
    """Counts are 0, nothing was the last, and the oldest is the first."""
    six.append([new_event(receive_time_us=NOW_US)])
    removals = reader.removals()

    assert reader.last_removed() == ORIGIN
    assert reader.kept_from() == 1
    assert removals == (0, 0, 0, NOW_US + TIMES_S[0], 0)


def _everything(reader: LogReader) -> tuple[object, ...]:
    return (
        reader.read(Position(0), 99, 999),
        reader.last_removed(),
        reader.removals(),
        _all(reader),
    )


CHANGE = BaselineChange(
    [MessageKey("acme", "old")],
    [rows.webhook_key(webhook_update("old"))],
    [rows.message_row(message("new"))],
)


def test_a_cut_that_fails_removes_nothing(six: LogWriter, reader: LogReader) -> None:
    """The last event cannot go: then neither event nor baseline nor count is another, and the
    next cut is as good as any."""
    six.cut(_at(1), BaselineChange(put=[rows.message_row(message("old"))]))
    before = _everything(reader)
    for until in (6, 7):
        with pytest.raises(errors.LogUnavailable):
            six.cut(Mark(Position(until), NOW_US), CHANGE)
    after = _everything(reader)
    six.cut(_at(2), CHANGE)

    assert before == after
    assert [one.message_id for one in _all(reader).messages] == ["new"]
    assert reader.kept_from() == 3


def _tombstones(*positions: int) -> Sequence[tuple[Position, bytes]]:
    return [(Position(one), b"{}") for one in positions]


def test_an_erasure_changes_contents_and_baseline_and_says_so(
    six: LogWriter, reader: LogReader
) -> None:
    """Tombstones stand where bodies stood, the rest stays; a second erasure counts what is new."""
    six.cut(_at(1), BaselineChange(put=[rows.message_row(message("old"))]))
    said = new_event(b"[]", instance="", receive_time_us=NOW_US + 20, kind=EventKind.ERASURE)
    first = six.erase(_tombstones(2, 4), said, CHANGE)
    second = six.erase(_tombstones(4, 5), said, BaselineChange())
    events = {event.position: event for event in reader.read(Position(0), 99, 999)}

    assert (first, second) == (7, 8)
    assert {at for at, one in events.items() if one.kind is EventKind.TOMBSTONE} == {2, 4, 5}
    assert {at: one.content for at, one in events.items()} == {
        **dict.fromkeys((2, 4, 5), b"{}"),
        **dict.fromkeys((3, 6), b"body"),
        **dict.fromkeys((7, 8), b"[]"),
    }
    assert [event.receive_time_us - NOW_US for event in events.values()][:5] == list(TIMES_S[1:])
    assert [one.message_id for one in _all(reader).messages] == ["new"]
    assert reader.removals() == (3, 1, NOW_US + 20, NOW_US + 1, NOW_US + 5)


def test_an_erasure_that_fails_erases_nothing(
    log: LogUnderTest, six: LogWriter, reader: LogReader
) -> None:
    """Its own event cannot be appended: then every body is still there."""
    six.cut(_at(1), BaselineChange(put=[rows.message_row(message("old"))]))
    before = _everything(reader)
    log.refuse("")
    with pytest.raises(errors.LogUnavailable):
        six.erase(_tombstones(2, 3), new_event(instance="", kind=EventKind.ERASURE), CHANGE)

    assert before == _everything(reader)


def test_receive_times_are_found_whatever_was_cut(log: LogUnderTest, reader: LogReader) -> None:
    """The first kept event received at a time or later, by a look at all of them."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    times = [NOW_US + dice.randrange(60) for _ in range(40)]
    appended(log, *(new_event(receive_time_us=one) for one in times))
    for keep_from in (1, *sorted(dice.sample(range(2, len(times) + 1), 5))):
        if keep_from > 1:
            until = Position(keep_from - 1)
            with closing(log.open_writer()) as writer:
                writer.cut(Mark(until, times[until - 1]), BaselineChange())
        for asked in range(NOW_US - 1, NOW_US + 61):
            first = next((at for at, one in enumerate(times, start=1) if one >= asked), None)
            expected = None if first is None else max(first, keep_from)
            assert reader.received_from(asked) == expected, (asked, keep_from)


KILLED = """
import itertools, os, shutil, signal, sys
from pathlib import Path
from service.domain.events import EventKind, Mark, NewEvent, Position
from service.domain.message import MessageKey
from service.eventlog import baseline as rows
from service.eventlog.log import BaselineChange
from service.database.sqlite import SqliteDatabase
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from tests.domain_values import NOW_US, message, webhook_update

what, original, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
change = BaselineChange(
    [MessageKey("acme", "old")],
    [rows.webhook_key(webhook_update("old"))],
    [rows.message_row(message("new"))],
)

def killed_at(moment, path):
    writer, seen = SqliteLogWriter(SqliteDatabase(path)), itertools.count(1)
    def count(_):
        if next(seen) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    writer._connection.set_trace_callback(count)
    if what == "cut":
        writer.cut(Mark(Position(3), NOW_US), change)
    else:
        erasure = NewEvent("", NOW_US, EventKind.ERASURE, b"{}")
        writer.erase([(Position(3), b"{}"), (Position(4), b"{}")], erasure, change)
    os._exit(0)

for moment in itertools.count(1):
    path = folder / f"{moment}.db"
    shutil.copy(original, path)
    child = os.fork()
    if child == 0:
        killed_at(moment, path)
    _, status = os.waitpid(child, 0)
    print("killed" if os.WIFSIGNALED(status) else "finished", moment, flush=True)
    if not os.WIFSIGNALED(status):
        break
"""


@pytest.mark.parametrize("what", ["cut", "erase"])
def test_a_removal_that_is_killed_has_not_happened(what: str, tmp_path: Path) -> None:
    """Killed before any of its statements, the log and its baseline are as they were; in the end
    all of it has happened."""
    original, folder = tmp_path / "original.db", tmp_path / "killed"
    folder.mkdir()
    upgrade(Store.EVENT_LOG, SqliteDatabase(original))
    with closing(SqliteLogWriter(SqliteDatabase(original))) as writer:
        writer.append([new_event(b"body") for _ in range(6)])
        writer.cut(
            Mark(Position(1), NOW_US), BaselineChange(put=[rows.message_row(message("old"))])
        )
    with child(KILLED, what, str(original), str(folder)) as process:
        told = list(lines(process))
    found = []
    for path in (original, *(folder / f"{line.split()[1]}.db" for line in told)):
        with closing(StoredLogReader(SqliteDatabase(path))) as reader:
            found.append(_everything(reader))

    assert [line.split()[0] for line in told] == ["killed"] * (len(told) - 1) + ["finished"]
    assert len(told) > 8
    assert found[:-1] == [found[0]] * (len(found) - 1)
    assert found[-1] != found[0]
