"""A file that keeps how far a watch has been dealt with, across restarts of its consumer.

    {"cursor": "AYIQm…", "views_generation": 3}

Each new bookmark replaces the file by a rename, so that a reader, and whoever starts after a
SIGKILL, finds a whole one. It is forced to the disk at most once a second: after a loss of power,
and only then, what was dealt with in about the last second may come again.

The lock is the kernel's, on a file beside it that stays (`<name>.lock`): the file itself is another
one after every rename. It goes with the process however that ends.
"""

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

_MODE = 0o600
_CURSOR_CHARACTERS_MAX = 512
_BYTES_MAX = 4096
_SYNC_INTERVAL_S = 1.0


class Bookmark(NamedTuple):
    """Where to go on with a watch."""

    cursor: str
    views_generation: int
    """The generation of the views that was being watched; 0: not known."""


class CursorFileError(Exception):
    """The file can't be used; the text says what to do."""


class CursorFileInUse(CursorFileError):
    """Another watch keeps its bookmark in this file."""


class CursorFile:
    """Keeps the bookmark of one watch; hand it to `StatusClient.watch`.

    Only its owner may read or write it (0600). One watch has it at a time, on this machine.
    """

    def __init__(self, path: Path | str) -> None:
        """Nothing is read or written yet. The folder has to exist."""
        # A link stays one: what is replaced is the file that it names.
        self.path = Path(path).resolve()
        self._temporary = self.path.with_name(f".{self.path.name}.tmp")
        self._lock: IO[bytes] | None = None
        self._kept: Bookmark | None = None
        self._synced = True
        self._sync_due_s = 0.0

    def open(self) -> Bookmark | None:
        """Take the file; the bookmark in it, None if there is no file yet.

        Raises CursorFileInUse if another watch has it, CursorFileError if it is damaged or can't
        be read: what was seen before is then unknown, and nothing may be skipped or repeated
        without somebody deciding so.
        """
        with self._explained():
            self._take_lock()
        try:
            with self._explained():
                self._kept = self._read()
        except BaseException:
            self._release()
            raise
        return self._kept

    def store(self, bookmark: Bookmark) -> None:
        """Replace the bookmark. Raises CursorFileError if that fails, with the old one in place."""
        if bookmark == self._kept:
            return
        with self._explained():
            with open(self._temporary, "wb", opener=_opener(os.O_TRUNC | os.O_NOFOLLOW)) as file:
                os.fchmod(file.fileno(), _MODE)
                file.write(json.dumps(bookmark._asdict()).encode() + b"\n")
            self._temporary.replace(self.path)
        self._kept = bookmark
        self._synced = False

    async def keep(self, bookmark: Bookmark) -> None:
        """`store`, and force it to the disk if that was last done a second ago or earlier."""
        self.store(bookmark)
        with self._explained():
            if not self._synced and time.monotonic() >= self._sync_due_s:
                # Beside the loop: a disk may take long. Later renames may overtake it, unharmed.
                await asyncio.to_thread(self._sync)

    def close(self) -> None:
        """Force what was kept to the disk, and let the file go. Idempotent."""
        if self._lock is None:
            return
        try:
            with self._explained():
                self._sync()
        finally:
            self._release()

    def _take_lock(self) -> None:
        path = self.path.with_name(f"{self.path.name}.lock")
        lock = open(path, "ab", opener=_opener(os.O_NOFOLLOW))  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise CursorFileInUse(
                f"another watch keeps its place in {self.path}: give each one its own file"
            ) from None
        self._lock = lock

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _read(self) -> Bookmark | None:
        try:
            with self.path.open("rb") as file:
                content = file.read(_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        try:
            return _parsed(content)
        except ValueError:
            raise CursorFileError(
                f"{self.path} is damaged, or no cursor file: put back a copy to go on from there, "
                "or remove it to begin anew"
            ) from None

    def _sync(self) -> None:
        if self._synced:
            return
        self._synced = True
        self._sync_due_s = time.monotonic() + _SYNC_INTERVAL_S
        # The folder as well: it holds the name.
        for path in (self.path, self.path.parent):
            opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CursorFileError(
                f"the cursor file {self.path} cannot be used ({error.strerror}): name one in a "
                "folder that exists and that this user may write"
            ) from error


def _opener(flags: int) -> Callable[[str, int], int]:
    """For `open`: the same with these flags, and for the owner only."""
    return lambda path, given: os.open(path, given | flags | os.O_CLOEXEC, _MODE)


def _parsed(content: bytes) -> Bookmark:
    """Raises ValueError for anything that `store` does not write."""
    if len(content) > _BYTES_MAX:
        raise ValueError("too long for a bookmark")
    match json.loads(content):
        case {"cursor": str(cursor), "views_generation": int(generation)} if (
            0 < len(cursor) <= _CURSOR_CHARACTERS_MAX and generation >= 0
        ):
            return Bookmark(cursor, generation)
        case _:
            raise ValueError("not a bookmark")
