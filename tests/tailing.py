"""A reader that follows a log while many append to it, and what it must never miss.

    python -m tests.tailing --events 500000 --seed 1

Writers commit, roll back, stall inside their transaction, are stopped, killed, and cut off by the
server, in processes of their own. Beside them a foreign transaction stays open for the whole run.
The same load goes onto a naive log, which loses events: so the load can show it.
"""

import argparse
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg

from service import errors
from tests.postgres import connected, database_url
from tests.tailed_logs import LOGS, Log

PROCESSES = 4
WRITERS = 6
"""Threads a process."""

_BATCH_MAX = 60
_FAULTS = 40
"""Made by the parent while so many equal parts of the events come."""

_DEADLINE_S = 60.0
"""For one part. A reader that waits longer has found a hang."""


class Finding(NamedTuple):
    """What the reader saw, held against what there is in the end."""

    events: int
    acknowledged: int
    missed: int
    repeated: int
    disordered: int
    unrecorded: int
    """Acknowledged, and not in the log exactly once."""
    holes: int
    faults: Counter[str]

    @property
    def flawless(self) -> bool:
        return not (
            self.missed or self.repeated or self.disordered or self.unrecorded or self.holes
        )


class _Following(threading.Thread):
    """The tailing reader."""

    def __init__(self, log: Log) -> None:
        super().__init__(name="tailing reader")
        self._log = log
        self.seen: list[tuple[int, bytes]] = []
        self._more = threading.Condition()
        self.until: int | None = None
        """Set once nobody writes any more: the last position there is."""

    def run(self) -> None:
        after = 0
        while self.until is None or after < self.until:
            if found := self._log.read(after):
                after = found[-1][0]
                with self._more:
                    self.seen += found
                    self._more.notify_all()

    def await_more(self, count: int) -> None:
        """Until so many events were seen."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.seen) >= count, _DEADLINE_S), (
                "it stands still"
            )


def followed(kind: str, url: str, events: int, seed: int) -> Finding:
    """Have so many events appended under faults, and follow them."""
    log = LOGS[kind](url)
    log.make()
    chance = random.Random(seed)
    reader = _Following(log)
    faults: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, _foreign_transaction(url):
        crew = _Crew(kind, url, Path(folder), chance)
        reader.start()
        try:
            while (reached := len(reader.seen)) < events:
                faults[crew.trouble()] += 1
                reader.await_more(reached + events // _FAULTS)
        finally:
            crew.stop()
        acknowledged = crew.acknowledged()
    there = log.everything()
    reader.until = there[-1][0]
    reader.join()
    log.close()
    return _held_against(reader.seen, there, acknowledged, faults)


def _held_against(
    seen: list[tuple[int, bytes]],
    there: list[tuple[int, bytes]],
    acknowledged: list[bytes],
    faults: Counter[str],
) -> Finding:
    times = Counter(seen)
    recorded = Counter(content for _, content in there)
    positions = [position for position, _ in seen]
    return Finding(
        events=len(there),
        acknowledged=len(acknowledged),
        missed=sum(1 for one in there if one not in times),
        repeated=sum(count - 1 for count in times.values()),
        disordered=sum(1 for one, other in itertools.pairwise(positions) if one >= other),
        unrecorded=sum(1 for one in acknowledged if recorded[one] != 1),
        holes=there[-1][0] - there[0][0] + 1 - len(there),
        faults=faults,
    )


@contextlib.contextmanager
def _foreign_transaction(url: str) -> Iterator[None]:
    """Somebody else's, that has written and does not end; and an old snapshot."""
    with connected(url) as connection, connected(url) as old:
        connection.execute("CREATE TABLE foreign_rows (id int)")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO foreign_rows VALUES (1)")
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM foreign_rows")
        yield


class _Crew:
    """The writers' processes, and what happens to them."""

    def __init__(self, kind: str, url: str, folder: Path, chance: random.Random) -> None:
        self._kind, self._url, self._folder, self._chance = kind, url, folder, chance
        self._started = 0
        self._stopped: subprocess.Popen[bytes] | None = None
        self._running = [self._start() for _ in range(PROCESSES)]

    def trouble(self) -> str:
        """Something happens to one of them; what was stopped before goes on."""
        if self._stopped is not None:
            self._stopped.send_signal(signal.SIGCONT)
            self._stopped = None
        number = self._chance.randrange(PROCESSES)
        process = self._running[number]
        match self._chance.choice(["killed", "stopped", "cut off", "left alone"]):
            case "killed":
                process.kill()
                process.wait()
                self._running[number] = self._start()
                return "killed"
            case "stopped":
                process.send_signal(signal.SIGSTOP)
                self._stopped = process
                return "stopped"
            case "cut off":
                with connected(self._url) as connection:
                    connection.execute(
                        "SELECT pg_terminate_backend((SELECT pid FROM pg_stat_activity WHERE"
                        " application_name IN ('plugstatus', 'crew')"
                        " AND datname = current_database() ORDER BY random() LIMIT 1))"
                    )
                return "cut off"
            case other:
                return other

    def stop(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self._running:
            process.wait()

    def acknowledged(self) -> list[bytes]:
        """By every process there was, up to the last whole line."""
        return [
            line for file in self._folder.iterdir() for line in file.read_bytes().split(b"\n")[:-1]
        ]

    def _start(self) -> "subprocess.Popen[bytes]":
        self._started += 1
        file = self._folder / str(self._started)
        seed = str(self._chance.randrange(2**32))
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.tailing",
                "--write",
                self._kind,
                self._url,
                str(file),
                seed,
            ]
        )


def write(kind: str, url: str, path: Path, seed: int) -> None:
    """A process of writers, until SIGTERM: each line of the file is an acknowledged event."""
    # Waited for and not handled: a handler runs on this thread, and one that was just continued may
    # be passed over for another when the system delivers the signal; then nothing wakes this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    log = LOGS[kind](url)
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    stopping = threading.Event()
    threads = [
        threading.Thread(
            target=_write, args=(log, file, f"{path.name}.{each}", seed + each, stopping)
        )
        for each in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    signal.sigwait({signal.SIGTERM})
    stopping.set()
    for thread in threads:
        thread.join()


def _write(log: Log, file: int, name: str, seed: int, stopping: threading.Event) -> None:
    chance = random.Random(seed)
    count = 0
    while not stopping.is_set():
        contents = [
            f"{name}.{count + each}".encode() for each in range(chance.randint(1, _BATCH_MAX))
        ]
        count += len(contents)
        try:
            if chance.random() < 0.8:
                log.append(contents)
            elif not _in_a_transaction(log, contents, chance):
                continue
        except (errors.PlugstatusError, psycopg.Error):
            continue
        os.write(file, b"".join(content + b"\n" for content in contents))


def _in_a_transaction(log: Log, contents: list[bytes], chance: random.Random) -> bool:
    """Append in a transaction that stalls, and may be rolled back; was it committed?"""
    committed = chance.random() < 0.5
    with connected(log.url) as connection:
        connection.execute("SET application_name = 'crew'")
        # As the service's own: one that is stopped inside a transaction keeps no lock for ever.
        connection.execute("SET idle_in_transaction_session_timeout = '500ms'")
        with connection.transaction(force_rollback=not committed):
            log.insert(connection, contents)
            connection.execute("SELECT pg_sleep($1)", (chance.random() * 0.01,))
    return committed


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tailing")
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--naive", action="store_true", help="show that the load loses events")
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        kind, url, path, seed = given.write
        write(kind, url, Path(path), int(seed))
        return 0
    print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory() as folder:
        url = database_url(Path(folder))
        finding = followed("naive" if given.naive else "ours", url, given.events, given.seed)
    print(finding)
    return 0 if finding.flawless else 1


if __name__ == "__main__":
    sys.exit(_main())
