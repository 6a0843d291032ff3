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
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx

from service.database.sqlite import SqliteDatabase
from service.eventlog.reader import StoredLogReader
from tests.calls import callback
from tests.faults.apart import played_apart
from tests.faults.chores import chores
from tests.faults.disk import Disk, built
from tests.faults.history import History, load, save
from tests.faults.promises import Violation, judged
from tests.faults.round import SHORT, Shape, played, random_shape
from tests.server_process import ServerProcess


def main() -> int:
    """The exit code: 1 once a promise was broken."""
    arguments = _arguments()
    if arguments.judge:
        return _told(load(arguments.judge), judged(load(arguments.judge)))
    with tempfile.TemporaryDirectory(prefix="plugstatus-torture-") as folder:
        library = None if arguments.short else built(Path(folder))
        if library is not None:
            control(library, Path(folder))
        return _rounds(arguments, library)


def _rounds(arguments: argparse.Namespace, library: Path | None) -> int:
    until_s = time.monotonic() + 60 * arguments.minutes
    totals = Totals()
    while True:
        seed = arguments.seed or random.randrange(1, 2**32)
        code = _any_round(seed, arguments.short, library, totals)
        if code or arguments.seed or time.monotonic() >= until_s:
            print(totals, flush=True)
            return code


def _any_round(seed: int, short: bool, library: Path | None, totals: "Totals") -> int:
    """What kind it is, its seed decides."""
    if short or library is None:
        return _round(seed, SHORT, None, totals)
    dice = random.Random(f"{seed}:kind")
    if dice.random() < _APART:
        return _further(seed, "on PostgreSQL, roles apart", totals, played_apart)
    if dice.random() < _CHORES:
        return _further(
            seed,
            "chores",
            totals,
            lambda seed, folder, counts: chores(seed, library, folder, counts),
        )
    return _round(seed, random_shape(seed, disk=True), library, totals)


def _further(
    seed: int,
    what: str,
    totals: "Totals",
    play: Callable[[int, Path, Counter[str]], list[str]],
) -> int:
    """A round of another kind."""
    print(f"seed {seed}: {what}", flush=True)
    begun_s = time.monotonic()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="plugstatus-torture-") as folder:
        broken = play(seed, Path(folder), counts)
    totals.count(counts, len(broken))
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"  {told}, {time.monotonic() - begun_s:.0f} s", flush=True)
    for fault in broken:
        print(fault, file=sys.stderr)
    if broken:
        print(again(seed, short=False), file=sys.stderr)
    return 1 if broken else 0


def control(library: Path, folder: Path) -> None:
    """The negative control: without fsync a power failure has to lose what was acknowledged.

    Raises AssertionError if it does not, because then no round would show anything.
    """
    acknowledged, kept = forgotten(library, folder, synchronous=False)
    print(f"control, synchronous=OFF: {acknowledged} acknowledged, {acknowledged - kept} lost")
    assert kept < acknowledged


def forgotten(library: Path, folder: Path, *, synchronous: bool) -> tuple[int, int]:
    """Callbacks that were acknowledged before a power failure, and that the log has behind it."""
    place = folder / f"control-{synchronous}"
    place.mkdir()
    disk = Disk(library, place, synchronous=synchronous)
    acknowledged = 0
    with ServerProcess(place / "data", environment=disk.environment()) as server:
        with httpx.Client(base_url=server.http, trust_env=False, timeout=30) as http:
            for number in range(100):
                answer = http.post("/instancia/acme/status", json=callback(f"M{number}"))
                acknowledged += answer.status_code == httpx.codes.OK
        server.kill()
    with closing(StoredLogReader(SqliteDatabase(place / "data" / "events.db"))) as log:
        return acknowledged, log.head().position


_APART = 0.3
_CHORES = 0.25
"""Of all rounds those on PostgreSQL; of the others those with chores."""


class Totals:
    """What all rounds came to."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._begun_s = time.monotonic()

    def add(self, history: History, violations: list[Violation]) -> None:
        self._counts["rounds"] += 1
        self._counts["events"] += len(history.events)
        acknowledged = sum(post.answered_s is not None for post in history.posts)
        self._counts["acknowledged"] += acknowledged
        self._counts["streams"] += len(history.streams)
        self._counts["changes"] += sum(
            len(frame.response.changes.changes)
            for stream in history.streams
            for frame in stream.frames
        )
        self._counts["faults"] += len(violations)
        for outage in history.outages[:-1]:
            self._counts[outage.signal] += 1

    def count(self, counts: Counter[str], faults: int) -> None:
        """Of a round of another kind."""
        self._counts["rounds"] += 1
        self._counts["faults"] += faults
        self._counts += counts

    def __str__(self) -> str:
        told = ", ".join(f"{count} {name}" for name, count in self._counts.items())
        return f"all rounds, {(time.monotonic() - self._begun_s) / 60:.0f} min: {told}"


def _round(seed: int, shape: Shape, library: Path | None, totals: Totals) -> int:
    print(f"seed {seed}: {', '.join(shape.trouble)}", flush=True)
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="plugstatus-torture-") as folder:
        history = played(seed, shape, Path(folder), library)
    violations = judged(history)
    totals.add(history, violations)
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
