"""Events folded a second."""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from benchmarks.pairs import Row, Slice, measured
from benchmarks.prepared import A_TRANSACTION, opened, with_events
from benchmarks.sides.bare_loop import BareLoop
from service.clock import SystemClock
from service.projector.rebuild import Rebuild
from service.projector.task import Hands
from service.wire.cursor import CursorCodec

_BARE = "a bare loop with the same decoding, folding and SQL"
MIXED = "projector, a full log of mixed callbacks, SQLite"
A_SLICE = 4_000
"""Events: a quarter of a second of them."""

_TABLES = ("messages", "recipients", "feed", "quarantine", "instances")


def rows(pairs: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with_events(folder / "log", A_SLICE * (pairs + 2))
        yield _projector(folder, pairs)
        yield rebuild(folder, pairs)


def _projector(folder: Path, pairs: int) -> Row:
    shutil.copytree(folder / "log", folder / "projected")
    with opened(folder / "projected") as ours:
        row = _beside_bare(folder, MIXED, ours.projector(), ours.cursors, 0.85, pairs)
    check_same(folder / "projected" / "views.db", folder / "bare" / "views.db")
    return row


def rebuild(folder: Path, pairs: int, what: str = "rebuild, SQLite") -> Row:
    """`folder` holds `log`, with empty views, and `projected`: two data folders of one log."""
    with opened(folder / "projected") as ours:
        ours.fold_all()
        task = Rebuild(ours.cursors, SystemClock(), ours.limits, check=False)
        steps = task(Hands(ours.log, ours.views))
        next(steps)
        spare = ours.views.spare()

        def step() -> int:
            before = spare.checkpoint().mark.position
            next(steps)
            return spare.checkpoint().mark.position - before

        return _beside_bare(folder, what, step, ours.cursors, 0.80, pairs)


def _beside_bare(
    folder: Path,
    what: str,
    step: Callable[[], int],
    cursors: CursorCodec,
    floor: float,
    pairs: int,
) -> Row:
    bare = folder / "bare"
    shutil.rmtree(bare, ignore_errors=True)
    shutil.copytree(folder / "log", bare)
    with closing(BareLoop(bare / "events.db", bare / "views.db", cursors)) as loop:
        return measured(
            what,
            slices(step),
            _BARE,
            slices(lambda: loop.step(A_TRANSACTION)),
            floor=floor,
            pairs=pairs,
        )


def slices(step: Callable[[], int], events_min: int = A_SLICE) -> Callable[[], Slice]:
    """Steps until so many events are folded; `step` says how many it did."""

    def a_slice() -> Slice:
        events, began_s = 0, time.perf_counter()
        while events < events_min:
            events += step()
        return Slice(events / (time.perf_counter() - began_s), [])

    return a_slice


def check_same(ours: Path, theirs: Path) -> None:
    """Raises AssertionError unless both made the same of the same events, in the first slot."""
    with closing(sqlite3.connect(ours)) as one, closing(sqlite3.connect(theirs)) as other:
        for table in _TABLES:
            listed = f"SELECT * FROM {table}_a ORDER BY 1, 2, 3"  # noqa: S608
            assert one.execute(listed).fetchall() == other.execute(listed).fetchall(), table
