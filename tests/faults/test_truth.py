"""The fast model of changes against the slow one, which answers each question from all there is."""

import random

import pytest

from service.wire.cursor import CursorCodec
from tests.faults.truth import Expected, Truth
from tests.fold_model import Known, Model, Teller

_CODEC = CursorCodec("0f" * 16)


@pytest.fixture
def models() -> tuple[Model, Truth]:
    """Both, of the same random history."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    teller, model = Teller(random.Random(seed), ids=5), Model()
    for _ in range(300):
        model.add(teller.told())
    return model, Truth(sorted(model.said, key=lambda one: one.place), _CODEC)


def test_the_same_reports_are_changes(models: tuple[Model, Truth]) -> None:
    """Of every report: its message, that one's phone and status then, and whether it changed it."""
    slow, fast = models

    assert slow.feed() == {
        report.place: (
            *report.key,
            report.change.message.phone,
            report.change.message.status,
            report.changed,
        )
        for report in fast.reports
    }


def test_messages_end_the_same(models: tuple[Model, Truth]) -> None:
    """All that is told of every message, its recipients' number included."""
    slow, fast = models

    assert {key: _told(known) for key, known in slow.messages().items()} == {
        key: _shown(fast.by_message[key][-1]) for key in fast.keys
    }


def _told(known: Known) -> object:
    state = known.state
    return (
        (state.rank, state.word, state.phone, state.group, state.code, state.reason),
        list(state.stages),
        (len(state.recipients), known.report_count, known.update_time_us),
        _cursor(known.changed_at, known.update_time_us),
    )


def _shown(report: Expected) -> object:
    message = report.change.message
    failure = message.failure
    return (
        (
            message.status,
            message.provider_status,
            message.phone,
            message.group,
            failure.code,
            failure.reason,
        ),
        [
            (stage.status, stage.occur_time.ToMicroseconds(), stage.receive_time.ToMicroseconds())
            for stage in message.stages
        ],
        (message.recipient_count, message.report_count, message.update_time.ToMicroseconds()),
        message.cursor,
    )


def _cursor(place: tuple[int, int], time_us: int) -> str:
    return Truth([], _CODEC).cursor(place, time_us)
