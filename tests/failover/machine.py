"""A machine of the cluster: a folder, and every process that works in it."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.failover.account import Account
from tests.failover.waiting import until

_SIGNALLED_S = 20.0
"""Far more than a process takes to stop or to end, even one that waits for a disk."""


class Machine:
    """Nothing else works below its folder, so that its processes are known by where they work.

    That finds PostgreSQL's, each of which has a process group of its own, and whatever Patroni has
    started at the moment.
    """

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        environment: Mapping[str, str],
        account: Account,
    ) -> None:
        self.name = folder.name
        self.folder = folder
        self._command = [*account.prefix, *command]
        self._environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment}
        self._log = folder / "log"
        self._started: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def pid(self) -> int | None:
        """Of the process that was started; None while the machine is off."""
        return self._started.pid if self._started else None

    @property
    def answers(self) -> bool:
        """Whether it is on, and not paused; what it runs may have ended all the same."""
        return self._started is not None and not self._paused

    def start(self) -> None:
        """Switch it on; comes back at once."""
        assert self._started is None, f"{self.name} is on"
        with self._log.open("ab") as log:
            self._started = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def pause(self) -> None:
        """Nothing on it moves, and its connections stay. Raises TimeoutError."""
        self._paused = True
        self._stop_all()

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        self._paused = False

    def kill(self) -> None:
        """Pull its plug: what is on disk stays, what is in memory does not. Raises TimeoutError.

        All is stopped before the first process dies, so that none acts on the death of another.
        """
        if self._started is None:
            return
        try:
            self._stop_all()
            memory = {part for pid in self.processes() for part in _shared_memory(pid)}
        finally:
            self._signal(signal.SIGKILL)
        self._started.wait(_SIGNALLED_S)
        until(lambda: not [*self.processes()], _SIGNALLED_S, f"{self.name} is off")
        self._started, self._paused = None, False
        for part in memory:
            part.free()

    def processes(self, below: Path | None = None) -> Iterator[int]:
        """All, or those that work below a folder of it. A zombie works nowhere, so it is none."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (below or self.folder) in _works_in(entry).parents:
                yield int(entry.name)

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of all that it has said, through every start."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def save_log(self, folder: Path) -> None:
        shutil.copyfile(self._log, folder / f"{self.name}.log")

    def _stop_all(self) -> None:
        def none_runs() -> bool:
            running = [pid for pid in self.processes() if _state(pid) != "T"]
            for pid in running:
                _send(pid, signal.SIGSTOP)
            return not running

        until_s = time.monotonic() + _SIGNALLED_S
        # Without a pause between: what is stopped late may start others.
        while not none_runs():
            if time.monotonic() > until_s:
                raise TimeoutError(f"{self.name} does not stop")

    def _signal(self, number: signal.Signals) -> None:
        for pid in [*self.processes()]:
            _send(pid, number)


class SharedMemory(NamedTuple):
    """What PostgreSQL keeps beyond its processes; it would clear it in a start on the same disk."""

    file: Path
    number: int
    """System V's number of a part that is no file."""

    def free(self) -> None:
        if self.file.name.startswith("SYSV"):
            # A server that was about to end may have removed it.
            subprocess.run(["ipcrm", "-m", str(self.number)], capture_output=True, check=False)
        else:
            self.file.unlink(missing_ok=True)


def _shared_memory(pid: int) -> Iterator[SharedMemory]:
    for line in _read(Path(f"/proc/{pid}/maps")).splitlines():
        # Addresses, rights, offset, device, inode, path; the inode of System V's is its number.
        _, _, _, _, inode, *path = line.split(maxsplit=5)
        if path and re.match(r"/SYSV|/dev/shm/PostgreSQL\.", path[0]):
            yield SharedMemory(Path(path[0].removesuffix(" (deleted)")), int(inode))


def _works_in(process: Path) -> Path:
    try:
        folder = str((process / "cwd").readlink())
    except OSError:
        return Path()
    return Path(folder.removesuffix(" (deleted)")) / "here"


def _state(pid: int) -> str:
    """One letter, as in proc(5): T is stopped; Z if it is gone."""
    # The name before it may hold anything, even parentheses.
    return _read(Path(f"/proc/{pid}/stat")).rpartition(") ")[2][:1] or "Z"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
