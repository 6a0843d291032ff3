"""Rounds of faults for as long as told, each with a new seed; ends at the first broken promise.

python -m tests.faults.torture --minutes 10
python -m tests.faults.torture --seed 7            one round again, with the same decisions
python -m tests.faults.torture --seed 7 --short    the round that the test suite plays
python -m tests.faults.torture --judge FILE        a recorded history once more
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.history import History, load, save
from tests.faults.promises import Violation, judged
from tests.faults.round import SHORT, Shape, played, random_shape


def main() -> int:
    """The exit code: 1 once a promise was broken."""
    arguments = _arguments()
    if arguments.judge:
        return _told(load(arguments.judge), judged(load(arguments.judge)))
    until_s = time.monotonic() + 60 * arguments.minutes
    while True:
        seed = arguments.seed or random.randrange(1, 2**32)
        shape = SHORT if arguments.short else random_shape(seed)
        code = _round(seed, shape)
        if code or arguments.seed or time.monotonic() >= until_s:
            return code


def _round(seed: int, shape: Shape) -> int:
    print(f"seed {seed}: {', '.join(shape.trouble)}", flush=True)
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="plugstatus-torture-") as folder:
        history = played(seed, shape, Path(folder))
    violations = judged(history)
    print(f"  {summary(history)}, {time.monotonic() - begun_s:.0f} s", flush=True)
    if not violations:
        return 0
    path = Path(tempfile.mkdtemp(prefix="plugstatus-torture-")) / f"history-{seed}.json"
    save(history, path)
    code = _told(history, violations)
    print(f"history: {path}\n{again(seed, short=shape == SHORT)}", file=sys.stderr)
    return code


def summary(history: History) -> str:
    """What a round came to, in a line."""
    frames = [frame for stream in history.streams for frame in stream.frames]
    changes = sum(len(frame.response.changes.changes) for frame in frames)
    resumes = sum(stream.resumed is not None and bool(stream.frames) for stream in history.streams)
    behind = sum(frame.kind == "fell_behind" for frame in frames)
    answered = sum(wait.message is not None for wait in history.waits)
    lost = sum(bool(stream.end and stream.end.how == "lost") for stream in history.streams)
    # The last one ends the round.
    restarts = len(history.outages) - 1
    return (
        f"{len(history.events)} events, {len(history.streams)} streams, {changes} changes, "
        f"{resumes} resumes, {behind} fell behind, {answered} waits answered, "
        f"{restarts} restarts, {len(history.rebuilds)} rebuilds"
        f"{f', {lost} calls lost' if lost else ''}"
    )


def again(seed: int, *, short: bool) -> str:
    """How to play a round once more."""
    return f"again: make torture SEED={seed}{' SHORT=1' if short else ''}"


def _told(history: History, violations: list[Violation]) -> int:
    for violation in violations:
        print(violation, file=sys.stderr)
    print(f"seed {history.seed}: {len(violations)} faults", file=sys.stderr)
    return 1 if violations else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.faults.torture", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--minutes", type=float, default=10, help="how long new rounds begin")
    parser.add_argument("--seed", type=int, default=0, help="play this round, and no other")
    parser.add_argument("--short", action="store_true", help="of the size the test suite plays")
    parser.add_argument("--judge", type=Path, help="judge a history that was saved")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
