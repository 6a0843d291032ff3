"""Servers of both sides as processes of their own, and what CPU they use."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.server_process import clean_environment

_ROOT = Path(__file__).parents[1]


class Server:
    """A module of `benchmarks.sides`, which prints its address once it listens."""

    def __init__(self, process: "subprocess.Popen[str]", address: str) -> None:
        self.pid = process.pid
        self.address = address


@contextmanager
def serving(
    side: str, *arguments: str, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Ended on exit."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.sides.{side}", *arguments],
        cwd=_ROOT,
        env=clean_environment(settings or {}),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"{side} did not start: its own output says why")
        yield Server(process, address)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def cpu_s(pids: Sequence[int]) -> float:
    """What all their threads have used since they began, and those of the processes they began."""
    return sum(
        int((task / "schedstat").read_text().split()[0]) / 1e9
        + cpu_s([int(child) for child in (task / "children").read_text().split()])
        for pid in pids
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def resident_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


def cores() -> int:
    return len(os.sched_getaffinity(0))
