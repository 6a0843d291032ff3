"""What the service takes: to start, for watchers that wait, and for each event it keeps."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.prepared import opened, with_events
from benchmarks.processes import resident_kb
from benchmarks.watching import WATCH, idle_watchers
from tests.server_process import ServerProcess, clean_environment

_STARTS = 5
_EVENTS = 50_000
_WATCHERS = (1_000, 5_000)
_OPEN_S = 60.0


def run() -> list[str]:
    """The table's lines."""
    with tempfile.TemporaryDirectory() as name:
        return [*_starts(Path(name)), *_watchers(Path(name)), *_sizes(Path(name))]


def _starts(folder: Path) -> list[str]:
    """With byte code and stores that are there."""
    environment = clean_environment(
        {
            "DATA_DIR": str(folder / "started"),
            "HTTP_BIND": "127.0.0.1:0",
            "GRPC_BIND": "127.0.0.1:0",
        }
    )
    command = [str(Path(sys.executable).parent / "plugstatus"), "serve"]
    taken = []
    for _ in range(1 + _STARTS):
        began_s = time.monotonic()
        with subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            ready = next(line for line in process.stderr if '"ready"' in line)
            taken.append(time.monotonic() - began_s)
            assert json.loads(ready)["event"] == "ready"
            process.terminate()
    return [f"{'start to ready':44}{statistics.median(taken[1:]):>8.2f} s"]


def _watchers(folder: Path) -> list[str]:
    lines = []
    with ServerProcess(folder / "watched") as server:
        before_kb = resident_kb(server.pid)
        lines.append(f"{'resident, no watcher':44}{before_kb / 1024:>8.1f} MiB")
        for count in _WATCHERS:
            with idle_watchers(server.grpc, WATCH, count):
                _wait_for(server, count)
                now_kb = resident_kb(server.pid)
            each_kb = (now_kb - before_kb) / count
            what = f"resident, {count:,} idle watchers"
            lines.append(f"{what:44}{now_kb / 1024:>8.1f} MiB, {each_kb:.1f} KiB each")
            _wait_for(server, 0)
    return lines


def _wait_for(server: ServerProcess, watchers: int) -> None:
    until_s = time.monotonic() + _OPEN_S
    wanted = f"plugstatus_watchers {float(watchers)}"
    while wanted not in httpx.get(server.ops + "/metrics", trust_env=False).text:
        assert time.monotonic() < until_s, f"not {watchers} watchers within {_OPEN_S:g} s"


def _sizes(folder: Path) -> list[str]:
    """Of mixed callbacks, log and views apart."""
    data_dir = folder / "sized"
    with_events(data_dir, _EVENTS)
    with opened(data_dir) as stores:
        stores.fold_all()
    return [
        f"{f'{what}, an event on disk':44}{(data_dir / file).stat().st_size / _EVENTS:>8.0f} bytes"
        for what, file in (("event log", "events.db"), ("views", "views.db"))
    ]
