"""Where callbacks wait on this machine's disk: a spool a worker, below one data folder."""

import re
from pathlib import Path

from service import errors
from service.config import Config
from service.eventlog.spool import filling_of

SPOOL_FILE = "spool.db"
"""In the folder of the worker it is of."""

_FOLDER = re.compile(r"worker-([1-9][0-9]*)")


def spools(config: Config) -> dict[int, Path]:
    """Every spool below the data folder by its worker's number, however many run now."""
    found = {1: config.data_dir / SPOOL_FILE}
    if config.data_dir.is_dir():
        for folder in config.data_dir.iterdir():
            if named := _FOLDER.fullmatch(folder.name):
                found[int(named[1])] = folder / SPOOL_FILE
    return {number: path for number, path in sorted(found.items()) if path.exists()}


def leave_none_behind(config: Config) -> None:
    """Raises ConfigInvalid if callbacks wait in the spool of a worker that would not run."""
    for number, path in spools(config).items():
        left = filling_of(path).event_count if number > config.workers else 0
        if left:
            raise errors.ConfigInvalid(
                "--workers", f"{left} callbacks wait in {path}: run {number} until they went"
            )
