"""A folder as a reader has it, and a shell there."""

import codecs
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.server_process import clean_environment

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
"""Far more than anything takes that a page shows."""

_VENV = Path(sys.prefix)
_CHECKOUT = ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock", "protos")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[a-zA-Z]")


class Terminal:
    """Commands run as typed, but for places, which are others here (`places`: shown, real)."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str], places: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self._places = places
        self._running: list[Running] = []
        path = f"{_VENV / 'bin'}{os.pathsep}{os.environ['PATH']}{os.pathsep}{folder / 'fallback'}"
        inherited = clean_environment(settings)
        # A reader's make is not one that another make has started.
        self._environment = {
            name: value
            for name, value in inherited.items()
            if not name.startswith(("MAKE", "MFLAGS"))
        } | {"PATH": path, "HOME": str(folder)}
        for name in _CHECKOUT:
            (folder / name).symlink_to(ROOT / name)
        venv = folder / ".venv"
        venv.mkdir()
        for part in _VENV.iterdir():
            (venv / part.name).symlink_to(part)
        # What is installed is what is tried: make is not to install anything from this folder.
        (venv / "run.stamp").unlink(missing_ok=True)
        (venv / "run.stamp").touch()
        # At a terminal it shows no progress of what is this short.
        (folder / ".curlrc").write_text("silent\nshow-error\n")
        (folder / "node_modules").symlink_to(_VENV / "node_modules")
        (folder / "fallback").mkdir()
        (folder / "fallback" / "curl").symlink_to(Path(__file__).with_name("curl.py"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for running in reversed(self._running):
            running.end()

    def save(self, name: str, content: str) -> None:
        (self.folder / name).write_text(self._real(content))

    def run(self, command: str) -> list[str]:
        """To its end; what it printed on both its streams."""
        done = subprocess.run(
            ["sh", "-c", self._real(command)],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return self.shown(done.stdout).splitlines()

    def start(self, command: str) -> "Running":
        """And leave it running until the page's end, on a terminal of its own."""
        running = Running(self, ["sh", "-c", self._real(command)], self._environment)
        self._running.append(running)
        return running

    def shown(self, printed: str) -> str:
        """As the page would show it."""
        for name, place in self._places.items():
            printed = printed.replace(place, name)
        return _COLOURS.sub("", printed).replace("\r\n", "\n")

    def _real(self, text: str) -> str:
        for name, place in self._places.items():
            text = text.replace(name, place)
        return text


class Running:
    """A command that was left running, and what it prints."""

    def __init__(
        self, terminal: Terminal, command: list[str], environment: Mapping[str, str]
    ) -> None:
        self._terminal = terminal
        self._printed = ""
        self._taken = 0
        self._ended = False
        self._changed = threading.Condition()
        screen, line = pty.openpty()
        self._process = subprocess.Popen(
            command,
            cwd=terminal.folder,
            env=environment,
            stdin=line,
            stdout=line,
            stderr=line,
            start_new_session=True,
        )
        os.close(line)
        threading.Thread(target=self._read, args=(screen,), daemon=True).start()

    def take(self, count: int) -> list[str]:
        """The next lines; fewer if it ended before. Raises AssertionError if nothing comes."""
        with self._changed:
            came = self._changed.wait_for(
                lambda: self._ended or len(self._lines()) >= self._taken + count, PATIENCE_S
            )
            lines = self._lines()[self._taken :][:count]
            assert came, f"only this was printed: {lines}"
        self._taken += len(lines)
        return lines

    def send(self, number: signal.Signals) -> None:
        """To it and all it started, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def untaken(self) -> list[str]:
        """What it has printed so far beyond that."""
        with self._changed:
            return self._lines()[self._taken :]

    def rest(self) -> list[str]:
        """What it prints until it ends by itself."""
        self._process.wait(PATIENCE_S)
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended, PATIENCE_S)
            lines = self._lines()[self._taken :]
        self._taken += len(lines)
        return lines

    def end(self) -> None:
        """In order, or else by force."""
        self.send(signal.SIGINT)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            self._process.wait()
            raise

    def _lines(self) -> list[str]:
        """Whole ones until nothing comes any more, without signs of life, which depend on time."""
        lines = self._terminal.shown(self._printed).splitlines(keepends=True)
        return [
            line.rstrip("\n")
            for line in lines
            if (self._ended or line.endswith("\n")) and not line.startswith("# progress")
        ]

    def _read(self, screen: int) -> None:
        decode = codecs.getincrementaldecoder("utf-8")().decode
        while True:
            try:
                chunk = os.read(screen, 65_536)
            except OSError:  # Linux says so when the last process has let go of the terminal.
                chunk = b""
            with self._changed:
                self._printed += decode(chunk)
                self._ended = not chunk
                self._changed.notify_all()
            if not chunk:
                os.close(screen)
                return
