"""The data folder belongs to one process at a time.

The lock is the kernel's, on an open file, so it goes with the process however that ends. The
file's text names the holder for people; it decides nothing.
"""

import fcntl
import os
from pathlib import Path

from service import errors

LOCK_FILE = "lock"


class DataDirLock:
    """Held from construction until `release`.

    Creates the folder if it is missing, for its owner only. Raises DataDirInUse if another
    process holds it, ConfigInvalid if the folder cannot be written.
    """

    def __init__(self, data_dir: Path) -> None:
        try:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise errors.ConfigInvalid(
                "PLUGSTATUS_DATA_DIR",
                f"the folder {data_dir} cannot be written ({error.strerror}): name one that this "
                "user may write",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 100, 0).decode(errors="replace").strip()
            os.close(self._file)
            raise errors.DataDirInUse(str(data_dir), holder or "another process") from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"process {os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1


def holder_of(data_dir: Path) -> str:
    """Who holds the folder, for people; empty if nobody does."""
    try:
        file = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(file, 100, 0).decode(errors="replace").strip() or "another process"
    else:
        return ""
    finally:
        os.close(file)
