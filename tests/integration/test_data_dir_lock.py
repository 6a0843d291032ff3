"""The data folder belongs to one process at a time."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import errors
from service.database.lock import LOCK_FILE, DataDirLock, holder_of
from tests.processes import child, lines

HOLDER = """
import sys
from pathlib import Path
from service.database.lock import DataDirLock
lock = DataDirLock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of tmp_path."""
    with child(HOLDER, str(tmp_path)) as process:
        assert "locked" == next(lines(process))
        yield process


def test_a_second_process_is_refused_with_the_first_named(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    """Whoever finds the folder in use is told by whom, and what to do."""
    expected = (
        f"the data folder {tmp_path} is in use by process {holder.pid}: stop that one first, or "
        "give this one another PLUGSTATUS_DATA_DIR"
    )

    with pytest.raises(errors.DataDirInUse) as raised:
        DataDirLock(tmp_path)

    assert expected == str(raised.value)
    assert f"process {holder.pid}" == holder_of(tmp_path)


def test_being_refused_disturbs_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """Attempts that are refused, and asking who holds it, leave the lock with its holder."""
    for _ in range(3):
        with pytest.raises(errors.DataDirInUse):
            DataDirLock(tmp_path)
        assert f"process {holder.pid}" == holder_of(tmp_path)


def test_the_lock_goes_with_a_killed_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    """After SIGKILL the folder is free at once, whatever the file still says."""
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    text = (tmp_path / LOCK_FILE).read_text()

    free = holder_of(tmp_path)
    DataDirLock(tmp_path).release()

    assert f"process {holder.pid}\n" == text
    assert "" == free


def test_a_process_locks_itself_out(tmp_path: Path) -> None:
    """The same process cannot hold the folder twice."""
    lock = DataDirLock(tmp_path)

    with pytest.raises(errors.DataDirInUse, match=f"process {os.getpid()}:"):
        DataDirLock(tmp_path)

    lock.release()


def test_release_lets_go_and_does_no_harm_twice(tmp_path: Path) -> None:
    """A released folder is free, and releasing again takes it from nobody."""
    first = DataDirLock(tmp_path)
    first.release()
    second = DataDirLock(tmp_path)
    first.release()

    with pytest.raises(errors.DataDirInUse):
        DataDirLock(tmp_path)

    second.release()


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    """A child process that outlives its parent's hold does not keep the folder locked."""
    lock = DataDirLock(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        close_fds=False,
    ) as process:
        assert "up" == next(lines(process))
        lock.release()

        DataDirLock(tmp_path).release()

        process.kill()


def test_nobody_holds_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A folder that is missing, or has no lock file, is held by nobody, and asking makes none."""

    assert ["", ""] == [holder_of(tmp_path / "missing"), holder_of(tmp_path)]
    assert [] == list(tmp_path.iterdir())


def test_the_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    """A missing folder is made, with its parents, and nobody else may look into it."""
    folder = tmp_path / "a" / "b"

    lock = DataDirLock(folder)
    modes = [folder.stat().st_mode & 0o777, (folder / LOCK_FILE).stat().st_mode & 0o777]
    lock.release()

    assert [0o700, 0o600] == modes


def test_a_place_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    """A path that cannot be a folder is refused with its name and the variable to change."""
    (tmp_path / "file").touch()

    with pytest.raises(errors.ConfigInvalid) as raised:
        DataDirLock(tmp_path / "file")

    assert str(tmp_path / "file") in str(raised.value)
    assert "PLUGSTATUS_DATA_DIR" in str(raised.value)
