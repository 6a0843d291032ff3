"""`plugstatus` as a process of its own, without loading it anew each time.

Loading Python and the libraries is most of what a short command costs, and a suite starts hundreds.
So one process loads everything and does nothing but fork: each child gets its own arguments,
environment and standard streams, and then is what the installed command would be.
"""

import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

INSTALLED = str(Path(sys.executable).parent / "plugstatus")
"""The command itself."""

_ROOT = Path(__file__).parents[1]
_MESSAGE_BYTES_MAX = 1 << 17
_START_S = 30.0


class Process:
    """As subprocess.Popen has it, as far as it goes."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None
        self._ended = threading.Event()

    def end(self, code: int) -> None:
        self._code = code
        self._ended.set()

    def poll(self) -> int | None:
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the signal. Raises subprocess.TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("plugstatus", timeout or 0.0)
        assert self._code is not None
        return self._code

    def send_signal(self, number: int) -> None:
        """Nothing if it has ended."""
        if self._code is None:
            os.kill(self.pid, number)


def started(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    stdin: IO[Any],
    stdout: IO[Any],
    stderr: IO[Any],
) -> "Process | subprocess.Popen[bytes]":
    """Begin `plugstatus` with these arguments; the streams stay the caller's to close.

    With a PYTHONPATH it is another program than the one that is loaded.
    """
    if "PYTHONPATH" in environment:
        return subprocess.Popen(
            [INSTALLED, *arguments], env=environment, stdin=stdin, stdout=stdout, stderr=stderr
        )
    return _parent().start(arguments, environment, [stdin, stdout, stderr])


class _Parent:
    """The process that forks, seen from the tests; it ends with this one."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking = threading.Lock()
        self._started: queue.Queue[Process] = queue.Queue()
        self._running: dict[int, Process] = {}
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-c", "from tests import prefork; prefork.main()"],
            stdin=theirs,  # type: ignore[call-overload]
            cwd=_ROOT,
        )
        theirs.close()
        threading.Thread(target=self._hear, daemon=True).start()

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], streams: Sequence[IO[Any]]
    ) -> Process:
        asked = {"arguments": arguments, "environment": environment, "folder": str(Path.cwd())}
        with self._asking:
            files = [stream.fileno() for stream in streams]
            socket.send_fds(self._control, [json.dumps(asked).encode()], files)
            return self._started.get(timeout=_START_S)

    def _hear(self) -> None:
        while message := self._control.recv(_MESSAGE_BYTES_MAX):
            told = json.loads(message)
            if "code" in told:
                self._running.pop(told["pid"]).end(told["code"])
            else:
                process = self._running[told["pid"]] = Process(told["pid"])
                self._started.put(process)


@cache
def _parent() -> _Parent:
    return _Parent()


def _asked_to_be() -> list[str]:
    """In the process that forks: never returns. In each child: its arguments."""
    control = socket.socket(fileno=os.dup(0))
    waking, woken = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(4_096)
            _tell_of_ended(control)
        if control in ready:
            message, files, _, _ = socket.recv_fds(control, _MESSAGE_BYTES_MAX, 3)
            if not message:
                sys.exit()
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for end in (control, waking, woken):
                    end.close()
                return _become(json.loads(message), files)
            for file in files:
                os.close(file)
            control.send(json.dumps({"pid": pid}).encode())


def _tell_of_ended(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        control.send(json.dumps({"pid": pid, "code": code}).encode())


def _become(asked: dict[str, Any], files: Sequence[int]) -> list[str]:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    return list(asked["arguments"])


def _load() -> None:
    """What any command may need. Nothing of it starts a thread."""
    from service.cli import cli

    for name in cli.list_commands(None):  # type: ignore[arg-type]
        cli.get_command(None, name)  # type: ignore[arg-type]
    for module in ("service.database.postgres", "service.eventlog.spooling", "psycopg_binary"):
        import_module(module)


def main() -> None:
    """The process that forks, and what becomes of each child."""
    _load()
    sys.argv = ["plugstatus", *_asked_to_be()]
    import_module("service.cli").main()
