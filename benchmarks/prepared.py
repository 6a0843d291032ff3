"""Stores that are filled before anything is measured."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from benchmarks.bodies import mixed
from service import config
from service.database import schema
from service.database.schema import Store
from service.eventlog.log import LogReader
from service.projector.follower import Follower
from service.stores import Stores
from service.views.store import ViewsWriter
from service.wire.cursor import CursorCodec

A_TRANSACTION = 2_000
"""Events the projector folds in one."""

_APPENDED = 4_096
_MADE_BY = 1
"""Of what is kept: to be raised with any change of what is put in."""


def with_events(data_dir: Path, events: int) -> None:
    """Stores whose log holds so many mixed callbacks, and whose views are empty.

    `data_dir`: a new folder, or one with stores that hold nothing yet.
    """
    stores = Stores(config.load({"DATA_DIR": str(data_dir)}))
    data_dir.mkdir(parents=True, exist_ok=True)
    stores.upgrade()
    with closing(stores.log_writer_opener(None, config.Limits())()) as log:
        callbacks = mixed(events)
        while batch := list(islice(callbacks, _APPENDED)):
            log.append(batch)


class Opened(NamedTuple):
    """A data folder's stores, opened as the projector opens them."""

    log: LogReader
    views: ViewsWriter
    cursors: CursorCodec
    limits: config.Limits

    def projector(self) -> Callable[[], int]:
        """Folds the next events; says how many, and 0 at the head."""
        follower = Follower(self.log, self.views, self.cursors, self.limits, A_TRANSACTION)

        def step() -> int:
            events = follower.waiting()
            if events:
                # As the projector has it while so many wait.
                follower.advance(events, ahead=True)
            return len(events)

        return step

    def fold_all(self) -> None:
        step = self.projector()
        while step():
            pass


@contextmanager
def opened(data_dir: Path) -> Iterator[Opened]:
    settings = config.load({"DATA_DIR": str(data_dir)})
    stores = Stores(settings)
    with closing(stores.open_log_reader()) as log:
        views = stores.open_views_writer(log.identity)
        with closing(views):
            yield Opened(log, views, CursorCodec(log.identity), settings.limits)


def kept(events: int) -> Path:
    """A data folder with so many mixed callbacks, folded: made once, in this user's cache folder.

    Named by what made it, so that another schema or another mix makes another one.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    revisions = "-".join(schema.known_revision(store) for store in Store)
    folder = cache / "plugstatus-benchmarks" / f"{events}-{_MADE_BY}-{revisions}"
    if not folder.exists():
        begun = folder.with_suffix(".begun")
        shutil.rmtree(begun, ignore_errors=True)
        print(f"filling {folder}, which is kept", flush=True)
        with_events(begun, events)
        with opened(begun) as stores:
            stores.fold_all()
        begun.rename(folder)
    return folder
