"""What holds for as long as it goes on: how far the views are behind callbacks that come without a
pause, and what 100 watchers get of 1,000 changes a second."""

import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import httpx

from benchmarks.bodies import number_of, of_many
from benchmarks.h2load import TOKEN
from benchmarks.pairs import percentiles
from benchmarks.watching import NOW, WATCH, Poster, idle_watchers, opened
from benchmarks.wrk import VariedLoad
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.server_process import ServerProcess

_LOADED_S = 30.0
_LOOK_S = 0.05
_WATCHERS = 100
_POSTS_PER_S = 100
_CHANGES_A_POST = 10
_WATCHED_S = 30.0


def run() -> list[str]:
    """The table's lines."""
    with tempfile.TemporaryDirectory() as name:
        return [*_behind(Path(name)), *_delivered(Path(name))]


def _behind(folder: Path) -> list[str]:
    with (
        ServerProcess(folder / "loaded", {"WEBHOOK_TOKEN": TOKEN}) as server,
        idle_watchers(server.grpc, WATCH, 1),
        grpc.insecure_channel(server.grpc) as channel,
        VariedLoad(server.http.removeprefix("http://"), 64).running() as ended,
    ):
        admin: Any = stubs.AdminServiceStub(channel)
        behind_s: list[float] = []
        until_s = time.monotonic() + _LOADED_S
        while time.monotonic() < until_s:
            status = admin.GetServiceStatus(pb.GetServiceStatusRequest(), timeout=10)
            behind_s.append(status.lag_duration.ToTimedelta().total_seconds())
            time.sleep(_LOOK_S)
        done = ended()
    return [
        f"{'callbacks without a pause, 64 connections':52}{done.requests / done.seconds:>8,.0f} /s",
        f"{'views behind them, median':52}{statistics.median(behind_s):>8.2f} s",
        f"{'views behind them, at most':52}{max(behind_s):>8.2f} s",
    ]


def _delivered(folder: Path) -> list[str]:
    with (
        ServerProcess(folder / "watched") as server,
        idle_watchers(server.grpc, WATCH, _WATCHERS - 1),
        grpc.insecure_channel(server.grpc) as channel,
    ):
        posted_s: list[float] = []
        stream = opened(channel, WATCH, NOW)
        next(stream)
        count = int(_WATCHED_S * _POSTS_PER_S)
        taken_us: list[int] = []
        reading = threading.Thread(
            target=_read, args=(stream, posted_s, taken_us, count * _CHANGES_A_POST)
        )
        reading.start()
        _post(server, count, posted_s)
        reading.join()
        stream.cancel()
        metrics = httpx.get(server.ops + "/metrics", trust_env=False).text
    name = "plugstatus_watchers_behind_total "
    behind = [line for line in metrics.splitlines() if line.startswith(name)]
    told = "/".join(f"{us / 1e3:.1f}" for us in percentiles(taken_us).values())
    what = f"{_POSTS_PER_S * _CHANGES_A_POST:,} changes/s to {_WATCHERS} watchers"
    return [
        f"{f'{what}, for {_WATCHED_S:g} s':52}{_WATCHERS * len(taken_us):>12,} delivered",
        f"{'callback to change, p50/p99/p99.9':52}{told:>12} ms",
        f"{'watchers that fell behind':52}{float(behind[0].split()[1]):>12.0f}",
    ]


def _post(server: ServerProcess, count: int, posted_s: list[float]) -> None:
    """At a steady rate, however long an answer takes."""
    with Poster(server.http.removeprefix("http://")) as poster:
        due_s = time.perf_counter()
        for number in range(count):
            due_s += 1 / _POSTS_PER_S
            time.sleep(max(0.0, due_s - time.perf_counter()))
            posted_s.append(time.perf_counter())
            poster.post(of_many(number * _CHANGES_A_POST, _CHANGES_A_POST))


def _read(stream: Any, posted_s: list[float], taken_us: list[int], changes: int) -> None:
    """Up to so many changes; of each the time since its callback was posted."""
    for frame in stream:
        now_s = time.perf_counter()
        for change in pb.WatchStatusesResponse.FromString(frame).changes.changes:
            number = number_of(change.message.message_id)
            taken_us.append(int((now_s - posted_s[number // _CHANGES_A_POST]) * 1e6))
        if len(taken_us) == changes:
            return
