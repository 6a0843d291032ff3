"""A real `plugstatus serve` in a process of its own, on ports the system chose."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import prefork
from tests.stores import settings_of

START_S = 30.0
"""Far more than a start takes; a test that waits longer has found a hang."""

STOP_S = 12.0


def clean_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without any setting of the service, and then these."""
    kept = {name: value for name, value in os.environ.items() if "PLUGSTATUS" not in name}
    return kept | {f"PLUGSTATUS_{name}": value for name, value in settings.items()}


class ServerProcess:
    """Started on enter, once `ready` was logged; killed on exit if it still runs."""

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment`: further variables, as they are."""
        self._environment = dict(environment or {})
        self.data_dir = data_dir
        self._arguments = arguments
        self.settings = {
            **settings_of(data_dir),
            "HTTP_BIND": "127.0.0.1:0",
            "GRPC_BIND": "127.0.0.1:0",
            **(settings or {}),
        }
        self.log: list[str] = []
        """Every line of standard error so far."""
        self._ready: dict[str, Any] = {}
        self._changed = threading.Condition()

    @property
    def http(self) -> str:
        return f"http://{self._ready['http']}"

    @property
    def ops(self) -> str:
        return f"http://{self._ready['ops']}"

    @property
    def grpc(self) -> str:
        return str(self._ready["grpc"])

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        if error is not None:
            sys.stderr.write("\n".join([*self.log[-100:], ""]))

    def start(self) -> None:
        """Start it, and wait until it is ready. Raises AssertionError with its log if it ends."""
        self._ready = {}
        reading, writing = os.pipe()
        with open(writing, "wb") as told, Path(os.devnull).open("r+b") as nothing:  # noqa: PTH123
            arguments = ["serve", *self._arguments]
            self._process = prefork.started(
                arguments,
                clean_environment(self.settings) | self._environment,
                stdin=nothing,
                stdout=nothing,
                stderr=told,
            )
        self._reader = threading.Thread(target=self._read_log, args=(reading,), daemon=True)
        self._reader.start()
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._process.poll() is not None, START_S)
        assert self._ready, f"the server did not get ready: {self.log[-20:]}"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait_or_none(self, timeout_s: float) -> int | None:
        """Its exit code, or None if it still runs after that time."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired if it does not end."""
        code = self._process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def stop(self) -> int:
        """Drain it, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def _read_log(self, file: int) -> None:
        with open(file, errors="replace") as lines:
            for line in lines:
                with self._changed:
                    self.log.append(line.rstrip("\n"))
                    # Each of several workers says so too.
                    if '"ready"' in line and '"worker":' not in line:
                        self._ready = json.loads(line)
                    self._changed.notify_all()
        with self._changed:
            self._process.wait()
            self._changed.notify_all()
