"""Which branches of the decoder made-up bodies reach."""

import random
from pathlib import Path

import coverage

from service.domain.events import Event, EventKind, Position
from service.plugchat import decode, fields, moment, words
from tests.fuzz.mutations import Mutations

MODULES = (decode, fields, moment, words)
_RECEIVED_US = 1_800_000_000 * 1_000_000


def unreached(seed: int, inputs: int) -> list[str]:
    """Branches that none of so many bodies has taken, as `file: from line -> to line`."""
    measured = coverage.Coverage(
        branch=True,
        data_file=None,
        config_file=False,
        include=[str(module.__file__) for module in MODULES],
    )
    mutations, dice = Mutations(seed), random.Random(seed)
    measured.start()
    try:
        for number in range(1, inputs + 1):
            # What the ingress would refuse as well: decoding is total.
            content = mutations.structured() if dice.random() < 0.7 else mutations.torn()
            decode.decode(
                Event(Position(number), "acme", _RECEIVED_US, EventKind.CALLBACK, content)
            )
    finally:
        measured.stop()
    found = []
    for module in MODULES:
        path = Path(str(module.__file__))
        missing = measured._analyze(str(path)).missing_branch_arcs()
        found += [
            f"{path.name}: {start} -> {end}" for start, ends in missing.items() for end in ends
        ]
    return sorted(found)
