"""Two histories of a message merged: the fold is a join, whatever way they come together."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from service.domain.message import Message, Recipient, Report, Stage, fold
from service.domain.status import Status
from tests.domain_values import HEARD, NOW_US, report

times_us = st.integers(0, 4).map(lambda second: NOW_US + second * 1_000_000)
histories = st.lists(
    st.fixed_dictionaries(
        {
            "status": st.sampled_from(HEARD),
            "participant": st.sampled_from(["", "p", "q", "r"]),
            "group": st.booleans(),
            "occur_time_us": times_us,
            "receive_time_us": times_us,
        }
    ).map(lambda facts: report(1, **facts)),
    max_size=6,
)
State = tuple[Status, tuple[Stage, ...], bool, bool, int, dict[str, tuple[Status, int, int]]]


def _merged(*parts: Sequence[Report]) -> State | None:
    """What the reports of all parts, one part after the other, come to."""
    message: Message | None = None
    recipients: dict[str, Recipient] = {}
    for part in parts:
        for each in part:
            folded = fold(message, recipients.get(each.participant), each)
            message = folded.message
            if folded.recipient is not None:
                recipients[each.participant] = folded.recipient
    if message is None:
        return None
    return (
        message.status,
        message.stages,
        message.group,
        message.stage(Status.FAILED) is not None,
        message.recipient_count,
        {
            name: (one.status, one.occur_time_us, one.receive_time_us)
            for name, one in recipients.items()
        },
    )


def _told_by(state: State | None) -> list[Report]:
    """Reports that say no more than a state does: it as a history of its own."""
    if state is None:
        return []
    _, stages, group, _, _, recipients = state
    own = [
        report(1, status=one.status, group=group, **_times(one.occur_time_us, one.receive_time_us))
        for one in stages
    ]
    theirs = [
        report(1, status=status, participant=name, group=group, **_times(occurred, received))
        for name, (status, occurred, received) in recipients.items()
    ]
    return own + theirs


def _times(occur_time_us: int, receive_time_us: int) -> dict[str, int]:
    return {"occur_time_us": occur_time_us, "receive_time_us": receive_time_us}


@given(histories, histories)
def test_merging_is_commutative(one: list[Report], other: list[Report]) -> None:
    """Whichever history comes first, the same state comes out."""

    assert _merged(one, other) == _merged(other, one)


@given(histories, histories, histories)
def test_merging_is_associative(
    one: list[Report], other: list[Report], third: list[Report]
) -> None:
    """A history may come as the state it had come to: merging states is merging histories."""
    left = _merged(_told_by(_merged(one, other)), third)
    right = _merged(one, _told_by(_merged(other, third)))

    assert left == right == _merged(one, other, third)


@given(histories)
def test_merging_is_idempotent(one: list[Report]) -> None:
    """A history merged with itself, or with what it had come to, is what it was."""

    assert _merged(one) == _merged(one, one) == _merged(one, _told_by(_merged(one)))


@given(histories, histories)
def test_merging_never_takes_away(one: list[Report], other: list[Report]) -> None:
    """What was heard stays: rank, stages and recipients only grow, times only fall."""
    before, after = _merged(one), _merged(one, other)
    if before is None or after is None:
        assert before is None
        return
    stages = {stage.status: stage for stage in after[1]}

    assert after[0] >= before[0]
    assert all(stages[one.status].occur_time_us <= one.occur_time_us for one in before[1])
    assert before[5].keys() <= after[5].keys()
    assert all(after[5][name][0] >= status for name, (status, _, _) in before[5].items())
