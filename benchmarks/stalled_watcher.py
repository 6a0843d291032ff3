"""What a watcher feels of another one that never reads.

One watcher reads everything, on one server under a steady load. In every second slice of time
another client opens streams and never reads from them. Measured is the time from a callback's
arrival to its change at the watcher that reads.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import grpc.aio

from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.server_process import ServerProcess

RATE = 200.0
"""Callbacks a second, with five messages each."""
SLICES = 12
SLICE_S = 3.0
STALLED = 20

_NOW = pb.WatchStatusesRequest(from_now=True)
# The smallest window a client can ask for: it is full after a hundred changes.
_SMALL = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))


class Slice(NamedTuple):
    stalled: bool
    median_s: float
    p99_s: float


def run() -> list[str]:
    """The table's lines."""
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder) / "data") as server:
        slices = asyncio.run(_measured(server))
    alone = [one for one in slices if not one.stalled]
    beside = [one for one in slices if one.stalled]
    lines = [f"{'callback to change':24}{'median':>10}{'p99':>10}"]
    for label, side in (("alone", alone), (f"beside {STALLED} stalled", beside)):
        median_s, p99_s = _medians(side)
        lines.append(f"{label:24}{median_s * 1e3:>7.1f} ms{p99_s * 1e3:>7.1f} ms")
    ratios = [
        after / before for before, after in zip(_medians(alone), _medians(beside), strict=True)
    ]
    lines.append(f"{'ratio':24}{ratios[0]:>10.2f}{ratios[1]:>10.2f}")
    return lines


def _medians(side: list[Slice]) -> tuple[float, float]:
    return (
        statistics.median(one.median_s for one in side),
        statistics.median(one.p99_s for one in side),
    )


async def _measured(server: ServerProcess) -> list[Slice]:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        reading = _status(channel).WatchStatuses(_NOW)
        await reading.read()
        seconds = (SLICES + 1) * SLICE_S
        load = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.load", server.http, str(RATE), str(seconds)
        )
        try:
            await _delays_s(reading, SLICE_S)
            return [await _slice(server, reading, stalled=bool(n % 2)) for n in range(SLICES)]
        finally:
            if load.returncode is None:
                load.terminate()
            await load.wait()


async def _slice(server: ServerProcess, reading: Any, *, stalled: bool) -> Slice:
    async with grpc.aio.insecure_channel(server.grpc, options=_SMALL) as other:
        streams = [_status(other).WatchStatuses(_NOW) for _ in range(STALLED if stalled else 0)]
        delays_s = sorted(await _delays_s(reading, SLICE_S))
        if stalled:
            await _check_stalled(server)
        for stream in streams:
            stream.cancel()
    return Slice(stalled, statistics.median(delays_s), delays_s[int(len(delays_s) * 0.99)])


async def _check_stalled(server: ServerProcess) -> None:
    """Raises AssertionError unless their frames wait at the server: else nothing was measured."""
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        admin: Any = stubs.AdminServiceStub(channel)
        status = await admin.GetServiceStatus(pb.GetServiceStatusRequest())
    waiting = [one for one in status.watchers if one.queued_bytes]
    assert len(waiting) >= STALLED, f"{len(waiting)} of {STALLED} clients are stalled"


async def _delays_s(reading: Any, seconds: float) -> list[float]:
    """Of every change that comes in that time: from its callback's arrival to here."""
    delays_s: list[float] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        response = await reading.read()
        now_s = time.time()
        for change in response.changes.changes:
            received = change.message.update_time
            delays_s.append(now_s - received.seconds - received.nanos / 1e9)
    return delays_s


def _status(channel: grpc.aio.Channel) -> Any:
    return stubs.MessageStatusServiceStub(channel)
