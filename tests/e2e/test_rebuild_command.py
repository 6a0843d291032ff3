"""`plugstatus rebuild` as a user types it while no server answers."""

import random
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest

from service.database.schema import Store, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import EventKind, NewEvent
from service.eventlog.sqlite import SqliteLogWriter
from tests.command import plugstatus
from tests.histories import (
    BEGIN_US,
    log_of,
    modelled,
    spare_rows,
)
from tests.prefork import INSTALLED
from tests.processes import child, lines
from tests.rebuild_site import told_of
from tests.rebuilding import (
    History,
    alone,
    made_history,
    unused_target,
)
from tests.server_process import clean_environment


@pytest.fixture
def short(tmp_path: Path) -> History:
    """A history whose rebuild takes a few steps."""
    return made_history(tmp_path / "short", 2_500)


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


def test_nothing_is_lost_by_kills_without_a_server(short: History, chance: random.Random) -> None:
    """The command itself killed at random points: run again it ends, and nothing differs."""
    data_dir, said = short
    log = log_of(data_dir)
    for _ in range(3):
        process = subprocess.Popen(
            [INSTALLED, "rebuild"],
            env=clean_environment({"DATA_DIR": str(data_dir), "API_TARGET": unused_target()}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        told = process.stderr.readline()
        if chance.random() < 0.5:
            # The first stage begins a while behind it.
            process.stderr.readline()
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, 0.5))
        process.kill()
        process.wait()
        process.stderr.close()
        assert told.startswith("no plugstatus answers at ")
        assert log_of(data_dir) == log
    rebuilt, checked = alone(data_dir), alone(data_dir, "--check")

    assert (rebuilt.returncode, checked.returncode) == (0, 0), rebuilt.stderr + checked.stderr
    assert checked.stdout.startswith("no difference: ")
    assert told_of(data_dir) == modelled(said)
    assert spare_rows(data_dir) == 0


HOLDER = """
import sys
from pathlib import Path
from service.database.lock import DataDirLock
lock = DataDirLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_data_folder_in_use_is_left_alone(short: History) -> None:
    """Where a process has the folder and nothing answers: exit code 1, and a sentence why."""
    data_dir, _ = short
    before = {path.name: path.read_bytes() for path in data_dir.glob("*.db*")}
    with child(HOLDER, str(data_dir)) as holder:
        assert next(lines(holder)) == "held"
        refused = alone(data_dir)
    after = {path.name: path.read_bytes() for path in data_dir.glob("*.db*")}

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.splitlines()[-1].startswith("plugstatus: ")
    assert f"process {holder.pid}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert before == after


def test_without_stores_there_is_nothing_to_rebuild(tmp_path: Path) -> None:
    """No server and no stores: exit code 1 with what to do, and nothing is created."""
    refused = alone(tmp_path / "data")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert "start one with `plugstatus serve`" in refused.stderr
    assert list(tmp_path.iterdir()) == []


TAMPER = """
import sqlite3, sys
views = sqlite3.connect(sys.argv[1])
views.execute("UPDATE messages_a SET message_id = ? WHERE rowid = 1", (sys.argv[2],))
views.commit()
"""


def test_a_check_ends_with_1_where_something_differs(short: History) -> None:
    """What differs is told without what would move a terminal, and a rebuild cures it."""
    data_dir, _ = short
    subprocess.run(
        [sys.executable, "-c", TAMPER, str(data_dir / "views.db"), "\x1b[2Jhostile"], check=True
    )
    differs, cured, same = alone(data_dir, "--check"), alone(data_dir), alone(data_dir, "--check")

    assert [run.returncode for run in (differs, cured, same)] == [1, 0, 0]
    assert differs.stdout.startswith("2 of ")
    assert "\\x1b[2Jhostile only live" in differs.stdout
    assert differs.stdout.rstrip("\n").isprintable()
    assert same.stdout.startswith("no difference: ")


def test_a_server_elsewhere_has_its_stores_there(tmp_path: Path) -> None:
    """With a target on another machine that is away, stores that happen to be here stay alone."""
    migrated = plugstatus("migrate", DATA_DIR=str(tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    runs = [
        plugstatus(*command, DATA_DIR=str(tmp_path), API_TARGET="plugstatus.invalid:50051")
        for command in (("rebuild",), ("forget", "--phone", "5511900000001"))
    ]

    assert migrated.returncode == 0
    assert [run.returncode for run in runs] == [1, 1]
    assert all("no plugstatus answers" in run.stderr for run in runs)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_deep_bodies_are_folded_without_a_server_too(tmp_path: Path) -> None:
    """A body nested as deep as the ingress allows means the same, whoever folds it."""
    deep = b'{"type":"MessageStatusCallback","status":"READ","ids":["deep"],"x":%b"\\ud800"%b}' % (
        b"[" * 990,
        b"]" * 990,
    )
    upgrade(Store.EVENT_LOG, SqliteDatabase(tmp_path / "events.db"))
    with closing(SqliteLogWriter(SqliteDatabase(tmp_path / "events.db"))) as writer:
        writer.append([NewEvent("acme", BEGIN_US, EventKind.CALLBACK, deep)])
    rebuilt = alone(tmp_path)

    assert rebuilt.returncode == 0, rebuilt.stderr
    assert [key[1] for key in told_of(tmp_path)] == ["deep"]
