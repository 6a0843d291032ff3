"""Callbacks recorded a second."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bodies import USUAL
from benchmarks.databases import durable_database_url
from benchmarks.h2load import TOKEN, Load
from benchmarks.pairs import Row, measured
from benchmarks.processes import serving
from benchmarks.watching import WATCH, idle_watchers
from benchmarks.wrk import VariedLoad
from tests.server_process import ServerProcess

_NO_OP = "the same app, a handler that stores nothing"


def rows(pairs: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        on_sqlite = {"DATA_DIR": f"{folder}/alone"}
        on_postgres = {
            "DATA_DIR": f"{folder}/spool",
            "EVENTS_URL": durable_database_url(folder / "spool"),
        }
        for store, settings, floors in (
            ("SQLite", on_sqlite, {64: 0.75, 256: 0.85}),
            ("PostgreSQL", on_postgres, {64: 0.50, 256: 0.65}),
        ):
            for connections, floor in floors.items():
                yield _against_no_op(folder, store, settings, connections, floor, pairs)
        yield _whole(folder, pairs)


def _against_no_op(
    folder: Path,
    store: str,
    settings: dict[str, str],
    connections: int,
    floor: float,
    pairs: int,
) -> Row:
    given = settings | {"HTTP_BIND": "127.0.0.1:0", "WEBHOOK_TOKEN": TOKEN}
    with serving("ingest", settings=given) as ours, serving("no_op") as other:
        mine = Load.of_callbacks(folder, ours.address, USUAL, connections)
        theirs = Load.of_callbacks(folder, other.address, USUAL, connections)
        return measured(
            f"ingest, {store}, {connections} connections",
            mine.slice,
            _NO_OP,
            theirs.slice,
            floor=floor,
            pairs=pairs,
            cpu_us=mine.cpu_us([ours.pid]),
        )


def _whole(folder: Path, pairs: int) -> Row:
    token = {"WEBHOOK_TOKEN": TOKEN}
    alone = {"DATA_DIR": f"{folder}/half", "HTTP_BIND": "127.0.0.1:0"} | token
    with (
        ServerProcess(folder / "whole", token) as ours,
        serving("ingest", settings=alone) as other,
        idle_watchers(ours.grpc, WATCH, 1),
    ):
        return measured(
            "whole service with a watcher, SQLite, many messages",
            VariedLoad(ours.http.removeprefix("http://"), 64).slice,
            "its ingest alone",
            VariedLoad(other.address, 64).slice,
            floor=0.50,
            pairs=pairs,
        )
