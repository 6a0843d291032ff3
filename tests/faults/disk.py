"""A disk that forgets, fills up or is slow, and a clock that jumps: `disk.c`, for servers."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).with_name("disk.c")
_OFF = Path(__file__).with_name("synchronous_off")
_FIELDS = ("full", "fsync_us", "clock_us", "early_percent", "lies")
_FIELD = struct.Struct("q")


def built(folder: Path) -> Path:
    """The library, made with cc. Raises SystemExit with what to install if there is none."""
    if shutil.which("cc") is None:
        raise SystemExit("a C compiler is needed: install gcc or clang, so that cc is there")
    library = folder / "disk.so"
    subprocess.run(
        ["cc", "-Wall", "-Wextra", "-O2", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"],
        check=True,
    )
    return library


class Disk:
    """What servers with its environment write to, and how it behaves at this moment."""

    def __init__(self, library: Path, folder: Path, *, synchronous: bool = True) -> None:
        """Not `synchronous`: SQLite is told not to fsync, so that a power failure has to lose."""
        self._library = library
        self._path = folder / "disk.control"
        self._synchronous = synchronous
        self._path.write_bytes(bytes(_FIELD.size * len(_FIELDS)))

    def set(self, **fields: int) -> None:
        """Any of `full`, `fsync_us`, `clock_us`, `early_percent`, `lies`; the others stay."""
        with self._path.open("r+b") as file:
            for name, value in fields.items():
                file.seek(_FIELD.size * _FIELDS.index(name))
                file.write(_FIELD.pack(value))

    def environment(self) -> dict[str, str]:
        """With a PYTHONPATH in it, so that a program of its own is started."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAULTY_DISK": str(self._path),
            "PYTHONPATH": os.environ.get("PYTHONPATH", "") if self._synchronous else str(_OFF),
        }
