"""Load by `h2load`, which is C and never the slower one. Each slice is a run of its own."""

import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from benchmarks.pairs import Slice
from benchmarks.processes import cpu_s

TOKEN = "bench0token"  # noqa: S105
"""Of the webhook, where one is asked for."""

_SLICE_MS = 250
_CPU_OPERATIONS = 5_000
_FINISHED = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
_ANSWERS = re.compile(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx")


def require() -> None:
    """Ends the program, and says how to go on, where there are no load clients."""
    if not all(map(shutil.which, ("h2load", "wrk"))):
        sys.exit("the benchmarks need h2load and wrk: apt-get install nghttp2-client wrk")


class Load:
    """The same request again and again, over connections that stay for a slice."""

    def __init__(
        self, folder: Path, url: str, body: bytes, connections: int, options: Sequence[str]
    ) -> None:
        self._log = folder / f"latencies-{id(self)}"
        sent = folder / f"body-{id(self)}"
        sent.write_bytes(body)
        self._command = ["h2load", f"--clients={connections}", f"--data={sent}", *options, url]
        # Until all are connected, which is not counted.
        self._connect_ms = 50 + connections

    @classmethod
    def of_callbacks(cls, folder: Path, address: str, body: bytes, connections: int) -> Self:
        """One request at a time on each connection, as PlugChat posts them."""
        url = f"http://{address}/instancia/bench/status?token={TOKEN}"
        options = ["--h1", "--header=content-type: application/json"]
        return cls(folder, url, body, connections, options)

    @classmethod
    def of_calls(
        cls, folder: Path, target: str, method: str, message: bytes, *, in_flight: int
    ) -> Self:
        """Unary calls, over four connections."""
        connections = 4
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        options = [
            f"--max-concurrent-streams={in_flight // connections}",
            "--header=content-type: application/grpc",
            "--header=te: trailers",
        ]
        return cls(folder, f"http://{target}{method}", framed, connections, options)

    def slice(self) -> Slice:
        self._log.unlink(missing_ok=True)
        told = self._run(
            f"--duration={_SLICE_MS}ms",
            f"--warm-up-time={self._connect_ms}ms",
            f"--log-file={self._log}",
        )
        found = _FINISHED.search(told)
        assert found is not None, told
        taken = [int(line.split("\t")[2]) for line in self._log.read_text().splitlines()]
        return Slice(float(found[1]), taken)

    def cpu_us(self, pids: Sequence[int]) -> Callable[[], float]:
        """What an operation costs these processes; the median of a few runs."""

        def measured() -> float:
            found = []
            for _ in range(3):
                before = cpu_s(pids)
                self._run(f"--requests={_CPU_OPERATIONS}")
                found.append((cpu_s(pids) - before) / _CPU_OPERATIONS * 1e6)
            return statistics.median(found)

        return measured

    def _run(self, *options: str) -> str:
        told = subprocess.run(
            [*self._command[:-1], *options, self._command[-1]],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        answers = _ANSWERS.search(told)
        assert answers is not None, told
        assert answers.groups()[1:] == ("0", "0", "0"), told
        return told
