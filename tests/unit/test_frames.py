"""Watch frames put together from encoded changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.message import Folded, Message, Recipient, Report
from service.domain.status import Status
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.wire import encode, frames
from service.wire.cursor import CursorCodec
from tests import domain_values

CODEC = CursorCodec("0123456789abcdef" * 2)


def _change(folded: Folded, report: Report) -> bytes:
    cursor = CODEC.encode(report.place, report.receive_time_us)
    return encode.status_change(encode.message(folded.message, CODEC), folded, cursor)


changes = st.builds(
    lambda message, recipient, previous, report: pb.StatusChange.FromString(
        _change(Folded(message, recipient, previous, changed=True), report)
    ),
    domain_values.messages(),
    st.none() | domain_values.recipients,
    st.sampled_from(Status),
    domain_values.reports,
)
cursors = st.builds(CODEC.encode, domain_values.places, domain_values.times_us)


@given(st.lists(changes, min_size=1, max_size=5), cursors)
def test_a_frame_is_what_serialising_it_whole_gives(
    wanted: list[pb.StatusChange], cursor: str
) -> None:
    """A frame put together from encoded changes has the bytes of the same message built whole."""
    whole = pb.WatchStatusesResponse(cursor=cursor, changes=pb.Changes(changes=wanted))

    frame = frames.changes([change.SerializeToString() for change in wanted], cursor)

    assert whole == pb.WatchStatusesResponse.FromString(frame)
    assert whole.SerializeToString() == frame


@given(domain_values.messages(), cursors)
def test_what_holds_a_message_is_what_serialising_it_whole_gives(
    message: Message, cursor: str
) -> None:
    """Responses and changes put together around an encoded message have the bytes of the same
    built whole."""
    encoded = encode.message(message, CODEC)
    status = pb.MessageStatus.FromString(encoded)

    held = frames.of_message(encoded)

    assert pb.GetMessageStatusResponse(message=status).SerializeToString() == held
    assert pb.WaitForStatusResponse(message=status).SerializeToString() == held
    several = pb.BatchGetMessageStatusesResponse(messages=[status, status])
    assert several.SerializeToString() == held + held
    change = pb.StatusChange(message=status, cursor=cursor)
    assert change.SerializeToString() == frames.in_snapshot(encoded, cursor.encode())


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=4), cursors)
def test_lengths_of_any_size_are_encoded(sizes: list[int], cursor: str) -> None:
    """Changes from nothing to tens of kilobytes, around every size of a length, come out whole."""
    wanted = [pb.StatusChange(cursor="c" * size) for size in sizes]

    frame = frames.changes([change.SerializeToString() for change in wanted], cursor)

    assert wanted == list(pb.WatchStatusesResponse.FromString(frame).changes.changes)


@pytest.mark.parametrize("around", [2**7, 2**14, 2**21])
def test_lengths_where_their_encoding_grows(around: int) -> None:
    """Changes and frames around each length that takes one byte more are encoded whole."""
    for size in range(around - 20, around + 4):
        change = pb.StatusChange(cursor="c" * size)
        whole = pb.WatchStatusesResponse(cursor="c", changes=pb.Changes(changes=[change]))

        assert whole.SerializeToString() == frames.changes([change.SerializeToString()], "c")


@given(
    st.lists(st.integers(0, 40), max_size=12),
    st.integers(1, 5),
    st.integers(1, 60),
)
def test_groups_fit_a_frame(sizes: list[int], changes_max: int, bytes_max: int) -> None:
    """Together all, in order; each within both bounds with the heads, or a single change."""
    encoded = [bytes([place]) * size for place, size in enumerate(sizes)]

    groups = list(frames.grouped(encoded, sizes, frames.Bounds(changes_max, bytes_max)))

    assert encoded == [change for group in groups for change in group]
    for group in groups:
        assert 1 <= len(group) <= changes_max
        assert len(group) == 1 or len(frames.joined(group)) <= bytes_max


def test_the_other_frames_say_what_they_are() -> None:
    """Each other frame carries its cursor and its own content."""
    reason = pb.CLOSING_REASON_SHUTTING_DOWN
    expected = [
        pb.WatchStatusesResponse(cursor="c", opened=pb.Opened(views_generation=7)),
        pb.WatchStatusesResponse(cursor="c", caught_up=pb.CaughtUp()),
        pb.WatchStatusesResponse(cursor="c", fell_behind=pb.FellBehind()),
        pb.WatchStatusesResponse(cursor="c", progress=pb.Progress()),
        pb.WatchStatusesResponse(cursor="c", closing=pb.Closing(reason=reason)),
    ]

    encoded = [
        frames.opened("c", 7),
        frames.caught_up("c"),
        frames.fell_behind("c"),
        frames.progress("c"),
        frames.closing("c", reason),
    ]

    assert expected == [pb.WatchStatusesResponse.FromString(frame) for frame in encoded]


@given(domain_values.messages(), domain_values.recipients, domain_values.reports)
def test_a_change_carries_the_state_right_after_its_report(
    message: Message, recipient: Recipient, report: Report
) -> None:
    """A change says the message, the recipient and the report's cursor; whole."""
    folded = Folded(message, recipient, Status.SENT, changed=True)
    times = {stage.status: stage for stage in message.stages}
    current, failed = times[message.status], times.get(Status.FAILED)

    change = pb.StatusChange.FromString(_change(folded, report))
    said = change.message

    assert (message.instance, message.message_id, message.phone, message.group) == (
        said.instance,
        said.message_id,
        said.phone,
        said.group,
    )
    assert (int(message.status), message.provider_status, int(Status.SENT)) == (
        said.status,
        said.provider_status,
        change.previous_status,
    )
    assert [
        (int(stage.status), stage.occur_time_us, stage.receive_time_us) for stage in message.stages
    ] == [
        (
            stage.status,
            stage.occur_time.ToMicroseconds(),
            stage.receive_time.ToMicroseconds(),
        )
        for stage in said.stages
    ]
    assert (current.occur_time_us, current.receive_time_us, message.update_time_us) == (
        said.occur_time.ToMicroseconds(),
        said.receive_time.ToMicroseconds(),
        said.update_time.ToMicroseconds(),
    )
    assert (failed is not None) == said.HasField("failure")
    if failed is not None:
        assert (message.failure_code, message.failure_reason, failed.occur_time_us) == (
            said.failure.code,
            said.failure.reason,
            said.failure.occur_time.ToMicroseconds(),
        )
    assert (recipient.participant, int(recipient.status), recipient.occur_time_us) == (
        change.recipient.participant,
        change.recipient.status,
        change.recipient.occur_time.ToMicroseconds(),
    )
    assert (message.changed_at, report.place) == (
        CODEC.decode(said.cursor).place,
        CODEC.decode(change.cursor).place,
    )
