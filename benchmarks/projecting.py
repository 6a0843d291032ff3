"""Events folded a second."""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.bodies import mixed
from benchmarks.pairs import Row, Slice, measured
from benchmarks.sides.bare_loop import BareLoop
from service import config
from service.clock import SystemClock
from service.eventlog.log import LogReader
from service.projector.follower import Follower
from service.projector.rebuild import Rebuild
from service.projector.task import Hands
from service.stores import Stores
from service.views.store import ViewsWriter
from service.wire.cursor import CursorCodec

_BARE = "a bare loop with the same decoding, folding and SQL"
_MIXED = "projector, a full log of mixed callbacks, SQLite"
_A_TRANSACTION = 2_000
_A_SLICE = 4_000
"""Events: a quarter of a second of them."""

_TABLES = ("messages", "recipients", "feed", "quarantine", "instances")


def rows(pairs: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        filled(folder / "log", _A_SLICE * (pairs + 2))
        yield _projector(folder, pairs)
        yield _rebuild(folder, pairs)


def filled(data_dir: Path, events: int) -> None:
    """Stores whose log holds so many mixed callbacks, and whose views are empty."""
    stores = Stores(config.load({"DATA_DIR": str(data_dir)}))
    data_dir.mkdir(parents=True)
    stores.upgrade()
    with closing(stores.log_writer_opener(None, config.Limits())()) as log:
        callbacks = mixed(events)
        while batch := list(islice(callbacks, 4_096)):
            log.append(batch)


class _Ours(NamedTuple):
    """A data folder's stores, opened as the projector opens them."""

    log: LogReader
    views: ViewsWriter
    cursors: CursorCodec
    limits: config.Limits

    def follower(self) -> Follower:
        return Follower(self.log, self.views, self.cursors, self.limits, _A_TRANSACTION)


def _projector(folder: Path, pairs: int) -> Row:
    shutil.copytree(folder / "log", folder / "projected")
    with _opened(folder / "projected") as ours:
        follower = ours.follower()

        def step() -> int:
            events = follower.waiting()
            follower.advance(events)
            return len(events)

        row = _beside_bare(
            folder,
            "projector, a full log of mixed callbacks, SQLite",
            step,
            ours.cursors,
            0.85,
            pairs,
        )
    _check_same(folder / "projected" / "views.db", folder / "bare" / "views.db", "a")
    return row


def _rebuild(folder: Path, pairs: int) -> Row:
    with _opened(folder / "projected") as ours:
        follower = ours.follower()
        while events := follower.waiting():
            follower.advance(events)
        rebuild = Rebuild(ours.cursors, SystemClock(), ours.limits, check=False)
        steps = rebuild(Hands(ours.log, ours.views))
        next(steps)
        spare = ours.views.spare()

        def step() -> int:
            before = spare.checkpoint().mark.position
            next(steps)
            return spare.checkpoint().mark.position - before

        return _beside_bare(folder, "rebuild, SQLite", step, ours.cursors, 0.80, pairs)


@contextmanager
def _opened(data_dir: Path) -> Iterator[_Ours]:
    settings = config.load({"DATA_DIR": str(data_dir)})
    stores = Stores(settings)
    with closing(stores.open_log_reader()) as log:
        views = stores.open_views_writer(log.identity)
        with closing(views):
            yield _Ours(log, views, CursorCodec(log.identity), settings.limits)


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
            _slices(step),
            _BARE,
            _slices(lambda: loop.step(_A_TRANSACTION)),
            floor=floor,
            pairs=pairs,
        )


def _slices(step: Callable[[], int]) -> Callable[[], Slice]:
    def a_slice() -> Slice:
        events, began_s = 0, time.perf_counter()
        while events < _A_SLICE:
            events += step()
        return Slice(events / (time.perf_counter() - began_s), [])

    return a_slice


def _check_same(ours: Path, bare: Path, slot: str) -> None:
    """Raises AssertionError unless both made the same of the same events."""
    with closing(sqlite3.connect(ours)) as one, closing(sqlite3.connect(bare)) as other:
        for table in _TABLES:
            listed = f"SELECT * FROM {table}_{slot} ORDER BY 1, 2, 3"  # noqa: S608
            assert one.execute(listed).fetchall() == other.execute(listed).fetchall(), table
