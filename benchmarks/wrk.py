"""Load by `wrk`, in C as well, that is about many messages. Each slice is a run of its own."""

import itertools
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.h2load import TOKEN
from benchmarks.pairs import Slice

_SCRIPT = Path(__file__).with_name("varied.lua")
_MESSAGES = 200_000
_SLICE_S = 0.2
"""It looks up to 0.1 s later whether it is to end."""

_LONGEST_S = 600
_DONE = re.compile(r"^done (\d+) failed (\d+) in (\d+)$", re.MULTILINE)
_LATENCY = re.compile(r"^latency (\d+) (\d+)$", re.MULTILINE)

_seeds = itertools.count(1)


class Done(NamedTuple):
    requests: int
    seconds: float
    latencies_us: list[int]


class VariedLoad:
    """A callback at a time on each connection, each of any one of many messages."""

    def __init__(self, address: str, connections: int) -> None:
        self._url = f"http://{address}/instancia/bench/status?token={TOKEN}"
        self._connections = connections

    def slice(self) -> Slice:
        done = self.run(_SLICE_S)
        return Slice(done.requests / done.seconds, done.latencies_us)

    def run(self, seconds: float) -> Done:
        with self.running() as ended:
            time.sleep(seconds)
            return ended()

    @contextmanager
    def running(self) -> Iterator[Callable[[], Done]]:
        """It goes on meanwhile; what it gives ends it, and says what was done."""
        command = [
            "wrk",
            "--threads=1",
            f"--connections={self._connections}",
            f"--duration={_LONGEST_S}s",
            f"--script={_SCRIPT}",
            self._url,
            "--",
            str(next(_seeds)),
            str(_MESSAGES),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            try:
                yield lambda: _ended(process)
            finally:
                process.kill()


def _ended(process: "subprocess.Popen[str]") -> Done:
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    found = _DONE.search(told)
    assert found is not None, told
    assert found[2] == "0", told
    latencies_us = [
        int(taken) for taken, times in _LATENCY.findall(told) for _ in range(int(times))
    ]
    return Done(int(found[1]), int(found[3]) / 1e6, latencies_us)
