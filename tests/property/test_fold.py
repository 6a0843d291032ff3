"""The fold against a model written from what the API promises of a message."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.events import Place, Position
from service.domain.message import Folded, Message, Recipient, Report, fold
from service.domain.status import Status
from tests.domain_values import HEARD, NOW_US, report

# Few values each, so that repetition, equal ranks and equal times are the rule.
times_us = st.integers(0, 4).map(lambda second: NOW_US + second * 1_000_000)
texts = st.sampled_from(["", "", "a", "b"])
FACTS: dict[str, st.SearchStrategy[Any]] = {
    "status": st.sampled_from(HEARD),
    "provider_status": texts,
    "participant": st.sampled_from(["", "p", "q"]),
    "phone": texts,
    "group": st.booleans(),
    "occur_time_us": times_us,
    "receive_time_us": times_us,
    "failure_code": texts,
    "failure_reason": texts,
}


@st.composite
def _histories(draw: st.DrawFn) -> list[Report]:
    """Reports in log order, some of them an earlier one again with one fact or none changed."""
    bodies: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 12))):
        again = draw(st.booleans())
        if bodies and again:
            fact = draw(st.sampled_from(sorted(FACTS)))
            bodies.append(draw(st.sampled_from(bodies)) | {fact: draw(FACTS[fact])})
        else:
            bodies.append(draw(st.fixed_dictionaries(FACTS)))
    return [report(position, **body) for position, body in enumerate(bodies, start=1)]


histories = _histories()


class State(NamedTuple):
    """All that a client can see of a message and its recipients."""

    message: dict[str, Any]
    recipients: dict[str, Recipient]


def _folded(reports: Sequence[Report]) -> list[tuple[Folded, State]]:
    """Each report folded in turn, with the state right after it."""
    message: Message | None = None
    recipients: dict[str, Recipient] = {}
    steps = []
    for each in reports:
        folded = fold(message, recipients.get(each.participant), each)
        message = folded.message
        if folded.recipient is not None:
            recipients = recipients | {each.participant: folded.recipient}
        steps.append((folded, State(msgspec.structs.asdict(message), recipients)))
    return steps


def _first(values: Sequence[str]) -> str:
    return next((value for value in values if value), "")


def _times(reports: Sequence[Report], status: Status) -> tuple[int, int]:
    said = [each for each in reports if each.status is status]
    return min(each.occur_time_us for each in said), min(each.receive_time_us for each in said)


def _word(reports: Sequence[Report], status: Status) -> str:
    return _first([each.provider_status for each in reports if each.status is status])


def _model(reports: Sequence[Report]) -> State:
    """What the messages and recipients are after these reports, in log order."""
    status = max(each.status for each in reports)
    failed = [each for each in reports if each.status is Status.FAILED]
    by_participant = {
        name: [each for each in reports if each.participant == name]
        for name in {each.participant for each in reports} - {""}
    }
    recipients = {
        name: Recipient(name, best, _word(said, best), *_times(said, best))
        for name, said in by_participant.items()
        for best in [max(each.status for each in said)]
    }
    message = {
        "instance": "acme",
        "message_id": "M",
        "phone": _first([each.phone for each in reports]),
        "group": any(each.group for each in reports),
        "status": status,
        "provider_status": _word(reports, status),
        "stages": {each.status: _times(reports, each.status) for each in reports},
        "recipient_count": len(recipients),
        "failure_code": _first([each.failure_code for each in failed]),
        "failure_reason": _first([each.failure_reason for each in failed]),
    }
    return State(message, recipients)


def _without_counts(state: State) -> State:
    """The state in the model's spelling: without count and places, stages by status."""
    message = {
        name: value
        for name, value in state.message.items()
        if name not in ("report_count", "update_time_us", "changed_at", "first_at")
    }
    stages = state.message["stages"]
    message["stages"] = {
        stage.status: (stage.occur_time_us, stage.receive_time_us) for stage in stages
    }
    return State(message, state.recipients)


@given(histories)
def test_the_state_after_every_report_is_the_models(reports: list[Report]) -> None:
    """After each report, message and recipients are what the promises make of those so far."""
    expected = [_model(reports[:count]) for count in range(1, len(reports) + 1)]

    assert expected == [_without_counts(state) for _, state in _folded(reports)]


@given(histories)
def test_a_change_is_what_a_client_can_see(reports: list[Report]) -> None:
    """A report is a change if message or recipient differ after it, and only it moves the rest."""
    states = [None, *(_model(reports[:count]) for count in range(1, len(reports) + 1))]
    expected = []
    last = reports[0]
    for count, each in enumerate(reports, start=1):
        changed = states[count] != states[count - 1]
        last = each if changed else last
        expected.append((changed, last.receive_time_us, last.place, reports[0].place, count))

    actual = [
        (
            folded.changed,
            folded.message.update_time_us,
            folded.message.changed_at,
            folded.message.first_at,
            folded.message.report_count,
        )
        for folded, _ in _folded(reports)
    ]

    assert expected == actual


@given(histories)
def test_previous_status_and_advance(reports: list[Report]) -> None:
    """previous_status is the status before the report, advanced says that it rose: never down."""
    ranks = [Status.UNSPECIFIED]
    ranks += [max(each.status for each in reports[:count]) for count in range(1, len(reports) + 1)]
    expected = [(before, after, after > before) for before, after in pairwise(ranks)]

    actual = [
        (folded.previous_status, folded.message.status, folded.advanced)
        for folded, _ in _folded(reports)
    ]

    assert sorted(ranks) == ranks
    assert expected == actual


@given(histories)
def test_stages_are_in_order_and_once_each(reports: list[Report]) -> None:
    """Stages come in order of rank, one a status that was heard, the current one last."""
    expected = sorted({each.status for each in reports})

    message = _folded(reports)[-1][0].message

    assert expected == [stage.status for stage in message.stages]
    assert message.stages[-1].status is message.status


def _order_free(reports: Sequence[Report]) -> object:
    """What order and repetition of the reports must not touch."""
    state = _folded(reports)[-1][1]
    message = state.message
    failures = [stage for stage in message["stages"] if stage.status is Status.FAILED]
    recipients = {
        name: (recipient.status, recipient.occur_time_us, recipient.receive_time_us)
        for name, recipient in state.recipients.items()
    }
    return (
        message["status"],
        message["stages"],
        message["group"],
        message["recipient_count"],
        failures,
        recipients,
    )


@given(histories, st.data())
def test_order_and_repetition_do_not_matter(reports: list[Report], data: st.DataObject) -> None:
    """In any order and however often repeated, the same reports make the same state."""
    expected = _order_free(reports)
    repeated = reports + data.draw(st.lists(st.sampled_from(reports), max_size=8))

    shuffled = data.draw(st.permutations(repeated))

    assert expected == _order_free(shuffled)


@given(histories)
def test_hearing_all_of_it_again_changes_nothing(reports: list[Report]) -> None:
    """Reports that were all heard before are no changes, and only count."""
    again = [
        msgspec.structs.replace(each, place=Place(Position(each.place.position + 100)))
        for each in reports
    ]

    steps = _folded([*reports, *again])
    before, after = steps[len(reports) - 1], steps[-1]

    assert [False] * len(again) == [folded.changed for folded, _ in steps[len(reports) :]]
    assert before[1].recipients == after[1].recipients
    assert before[1].message | {"report_count": 2 * len(reports)} == after[1].message


@given(histories)
def test_our_own_reading_and_unknown_words_say_nothing_of_delivery(reports: list[Report]) -> None:
    """With or without them, whatever tells of the delivery comes to the same statuses."""
    silent = (Status.READ_BY_ME, Status.UNRECOGNIZED)
    telling = [each for each in reports if each.status not in silent]
    all_steps, steps = _folded(reports), _folded(telling)
    everything = all_steps[-1][1]
    if not steps:
        assert everything.message["status"] in silent
        return
    told = steps[-1][1]
    names = ("status", "provider_status", "failure_code", "failure_reason")
    advances = [step.message.status for step, _ in all_steps if step.advanced]

    assert [told.message[name] for name in names] == [everything.message[name] for name in names]
    assert told.recipients == {name: everything.recipients[name] for name in told.recipients}
    assert [status for status in advances if status not in silent] == [
        step.message.status for step, _ in steps if step.advanced
    ]


def test_a_failures_text_outlives_its_rank() -> None:
    """Once delivered a failure is outranked, and its code, reason and time still stand."""
    steps = _folded(
        [
            report(1, status=Status.SENT, failure_reason="not of a failure"),
            report(2, status=Status.FAILED, failure_code="463", failure_reason="no route"),
            report(3, status=Status.SENT),
            report(4, status=Status.FAILED, failure_code="500", failure_reason="another"),
            report(5, status=Status.READ),
        ]
    )
    seen = [
        (folded.message.status.name, folded.message.failure_code, folded.message.failure_reason)
        for folded, _ in steps
    ]

    expected = [
        ("SENT", "", ""),
        ("FAILED", "463", "no route"),
        ("FAILED", "463", "no route"),
        ("FAILED", "463", "no route"),
        ("READ", "463", "no route"),
    ]

    assert expected == seen


def test_an_earlier_time_is_a_change_of_the_same_status() -> None:
    """A late report with an earlier time changes the message, and previous_status equals status."""
    first, second = report(2, occur_time_us=NOW_US + 9), report(3, occur_time_us=NOW_US + 5)

    folded = _folded([first, second])[-1][0]

    expected = (True, False, Status.SENT, Status.SENT, NOW_US + 5)

    assert expected == (
        folded.changed,
        folded.advanced,
        folded.previous_status,
        folded.message.status,
        folded.message.stages[-1].occur_time_us,
    )


@pytest.mark.parametrize(
    "fact",
    [
        {"status": Status.PENDING},
        {"status": Status.READ},
        {"provider_status": "sent"},
        {"phone": "5544"},
        {"group": True},
        {"occur_time_us": NOW_US - 1},
        {"receive_time_us": NOW_US - 1},
        {"failure_code": "463"},
        {"failure_reason": "no route"},
        {"participant": "p"},
    ],
    ids=str,
)
def test_each_fact_alone_is_a_change(fact: dict[str, Any]) -> None:
    """A report is a change if it brings one new fact of any kind, and none if it comes again."""
    known: dict[str, Any] = {
        "occur_time_us": NOW_US,
        "receive_time_us": NOW_US,
        "status": Status.FAILED,
    }
    known |= {"provider_status": "", "phone": ""}
    first, second, third = (
        report(position, **(known | more)) for position, more in enumerate(({}, fact, fact), 1)
    )

    changes = [folded.changed for folded, _ in _folded([first, second, third])]

    assert [True, True, False] == changes


def test_a_recipients_change_is_a_change_of_its_message() -> None:
    """A second participant's READ changes nothing of the status, and is a change all the same."""
    first = report(1, status=Status.READ, participant="p", occur_time_us=NOW_US)
    second = report(2, status=Status.READ, participant="q", occur_time_us=NOW_US)
    third = report(3, status=Status.RECEIVED, participant="q", occur_time_us=NOW_US)

    steps = [folded for folded, _ in _folded([first, second, third, third])]

    expected = [(True, 1, "p"), (True, 2, "q"), (True, 2, "q"), (False, 2, "q")]

    assert expected == [
        (folded.changed, folded.message.recipient_count, folded.recipient.participant)
        for folded in steps
        if folded.recipient is not None
    ]
