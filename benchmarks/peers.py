"""Beside what others would write or take: FastAPI with SQLAlchemy, and `eventsourcing`."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bodies import USUAL, mixed
from benchmarks.databases import durable_database_url
from benchmarks.h2load import TOKEN, Load
from benchmarks.pairs import Row, measured
from benchmarks.prepared import opened, with_events
from benchmarks.processes import serving
from benchmarks.projecting import A_SLICE, MIXED, check_same, slices
from benchmarks.sides.event_sourced import EventSourced

_COMMIT_A_REQUEST = "FastAPI and SQLAlchemy, a commit a request"
_CONNECTIONS = 64
_THEIR_SLICE = 500
"""Events of the library's, which takes a transaction for each."""


def rows(pairs: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = durable_database_url(folder / "spool")
        for store, settings, their_url, floor in (
            ("SQLite", {}, f"sqlite:///{folder}/theirs.db", 40.0),
            ("PostgreSQL", {"EVENTS_URL": url}, durable_database_url(folder / "theirs"), 20.0),
        ):
            data = {"DATA_DIR": f"{folder}/{store}"}
            yield _ingest(folder, store, data | settings, their_url, floor, pairs)
        yield _projector(folder, pairs)


def _ingest(
    folder: Path, store: str, settings: dict[str, str], their_url: str, floor: float, pairs: int
) -> Row:
    given = settings | {"HTTP_BIND": "127.0.0.1:0", "WEBHOOK_TOKEN": TOKEN}
    with (
        serving("ingest", settings=given) as ours,
        serving("commit_a_request", their_url) as other,
    ):
        mine = Load.of_callbacks(folder, ours.address, USUAL, _CONNECTIONS)
        theirs = Load.of_callbacks(folder, other.address, USUAL, _CONNECTIONS)
        return measured(
            f"ingest, {store}, {_CONNECTIONS} connections",
            mine.slice,
            _COMMIT_A_REQUEST,
            theirs.slice,
            floor=floor,
            pairs=pairs,
            cpu_us=mine.cpu_us([ours.pid]),
        )


def _projector(folder: Path, pairs: int) -> Row:
    turns = pairs + 1
    # One log's identity for all three: cursors name it.
    with_events(folder / "theirs", 0)
    shutil.copytree(folder / "theirs", folder / "again")
    shutil.copytree(folder / "theirs", folder / "log")
    with_events(folder / "log", A_SLICE * turns)
    with (
        opened(folder / "log") as ours,
        EventSourced(folder / "events.db", folder / "theirs/views.db", ours.cursors) as theirs,
    ):
        theirs.fill(mixed(_THEIR_SLICE * turns))
        row = measured(
            MIXED,
            slices(ours.projector()),
            "a projection of the library eventsourcing",
            slices(lambda: theirs.step(_THEIR_SLICE), _THEIR_SLICE),
            floor=10.0,
            pairs=pairs,
        )
    _check(folder, turns)
    return row


def _check(folder: Path, turns: int) -> None:
    """Ours, of the events that the library has folded, are the same tables."""
    with_events(folder / "again", _THEIR_SLICE * turns)
    with opened(folder / "again") as ours:
        ours.fold_all()
    check_same(folder / "again" / "views.db", folder / "theirs" / "views.db")
