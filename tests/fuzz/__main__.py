"""Bodies without end through the pipeline, each judged; ends at the first fault.

python -m tests.fuzz --inputs 1000000
python -m tests.fuzz --inputs 20000 --seed 7       the same ones again

More than half of them are objects of a known type, made of real bodies; the others have bytes
changed. Among every ten there is a plain callback, which has to come through unharmed.
"""

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from service.telemetry import configure_logging
from tests.calls import callback
from tests.fuzz.branches import unreached
from tests.fuzz.mutations import Mutations
from tests.fuzz.pipeline import Input, pipeline

_BATCH = 200
_STORE = 40_000
"""Inputs into one store."""

_STRUCTURED = 0.6
_DECODED = 30_000
"""Inputs after which every branch of the decoder has been taken."""


def main() -> int:
    """The exit code: 1 once something was wrong."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    configure_logging("critical")
    logging.disable(logging.ERROR)
    seed = arguments.seed or random.randrange(1, 2**32)
    print(f"seed {seed}", flush=True)
    begun_s = time.monotonic()
    counts, faults = asyncio.run(fuzzed(seed, arguments.inputs))
    faults += [f"never reached: {one}" for one in unreached(seed, min(arguments.inputs, _DECODED))]
    told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"{time.monotonic() - begun_s:.0f} s: {told}, {len(faults)} faults")
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


async def fuzzed(seed: int, inputs: int) -> tuple[Counter[str], list[str]]:
    """What became of so many, and what was wrong, up to the batch where the first was."""
    mutations, dice = Mutations(seed), random.Random(f"{seed}:kinds")
    counts: Counter[str] = Counter()
    begun = 0
    while begun < inputs:
        with tempfile.TemporaryDirectory(prefix="plugstatus-fuzz-") as folder:
            async with pipeline(Path(folder)) as way:
                until = min(inputs, begun + _STORE)
                while begun < until:
                    batch = [_input(mutations, dice, begun + n, counts) for n in range(_BATCH)]
                    faults = await way.judge(f"i{begun}", batch)
                    begun += _BATCH
                    if faults:
                        return counts + way.counts, faults
                counts += way.counts
    return counts, []


def _input(mutations: Mutations, dice: random.Random, number: int, counts: Counter[str]) -> Input:
    if number % 10 == 0:
        name = f"neighbour-{number}"
        return Input(json.dumps(callback(name, "READ")).encode(), name)
    if dice.random() < _STRUCTURED:
        counts["of a known type"] += 1
        return Input(mutations.structured(), "")
    return Input(mutations.torn(), "")


if __name__ == "__main__":
    sys.exit(main())
