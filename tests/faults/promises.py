"""Each promise as a validator, by name: it yields what breaks the promise, in words.

name                    in
Recorded                delivery
Ordered                 delivery
Unique                  delivery
Complete                delivery
FilteredExactly         delivery
Faithful                delivery
NeverBackwards          delivery
Resumable               starts
StartsWhereAsked        starts
SnapshotConsistent      snapshots
MirrorsAgree            snapshots
FramesInOrder           frames
EndsWell                frames
ProgressNeverOvertakes  frames
ProgressInTime          frames
Bounded                 load
Isolated                load
WaitsAnswered           waits
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from tests.faults import delivery, frames, load, snapshots, starts, waits
from tests.faults.case import Case
from tests.faults.history import History

_TOLD_MAX = 5
"""Of each promise; the first ones say enough."""

Validator = Callable[[Case], Iterator[str]]

VALIDATORS: Mapping[str, Validator] = {
    "Recorded": delivery.recorded,
    "Ordered": delivery.ordered,
    "Unique": delivery.unique,
    "Complete": delivery.complete,
    "FilteredExactly": delivery.filtered_exactly,
    "Faithful": delivery.faithful,
    "NeverBackwards": delivery.never_backwards,
    "Resumable": starts.resumable,
    "StartsWhereAsked": starts.starts_where_asked,
    "SnapshotConsistent": snapshots.snapshot_consistent,
    "MirrorsAgree": snapshots.mirrors_agree,
    "FramesInOrder": frames.frames_in_order,
    "EndsWell": frames.ends_well,
    "ProgressNeverOvertakes": frames.progress_never_overtakes,
    "ProgressInTime": frames.progress_in_time,
    "Bounded": load.bounded,
    "Isolated": load.isolated,
    "WaitsAnswered": waits.waits_answered,
}


class Violation(NamedTuple):
    promise: str
    text: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.text}"


def judged(history: History) -> list[Violation]:
    """What breaks a promise; empty if all were kept."""
    case = Case(history)
    return [
        Violation(name, text)
        for name, validate in VALIDATORS.items()
        for text in islice(validate(case), _TOLD_MAX)
    ]
