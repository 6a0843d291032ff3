"""Backups of embedded stores: taken while they are served, verified, and put back.

    backup    views, then log ─▶ folder ─ verified ─ described by `backup.json`, which comes last
    restore   described files, compared ─▶ beside the stores ─ the old ones aside ─ in their place

The views are copied first, so they never stand beyond the log they come with. A folder without a
whole `backup.json` is no backup. Nothing is deleted: what stood there before a restore is kept.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from service import __version__, errors
from service.clock import US_PER_S, Clock
from service.database.soundness import require_sound
from service.database.sqlite import SqliteDatabase
from service.domain.progress import Progress
from service.eventlog.reader import StoredLogReader

DESCRIPTION = "backup.json"
EVENTS, VIEWS = "events.db", "views.db"
_PAGES = 1_000
_CHUNK_BYTES = 4 * 1024 * 1024


Tell = Callable[[Progress], None]


class BackedUpFile(msgspec.Struct, frozen=True):
    name: str
    size: int
    sha256: str


class Description(msgspec.Struct, frozen=True):
    """What a backup holds."""

    program: str
    """The version that took it."""
    log_id: str
    head_position: int
    taken: str
    """RFC 3339."""
    files: tuple[BackedUpFile, ...]


def described(folder: Path) -> Description:
    """Raises StoreUnusable if the folder holds no whole backup."""
    try:
        return msgspec.json.decode((folder / DESCRIPTION).read_bytes(), type=Description)
    except OSError as error:
        raise errors.StoreUnusable(
            f"{folder} holds no backup that was finished: {DESCRIPTION} cannot be read "
            f"({error.strerror})"
        ) from None
    except msgspec.DecodeError:
        raise errors.StoreUnusable(f"{folder / DESCRIPTION} is not what `backup` writes") from None


def backup(
    events: SqliteDatabase, views: SqliteDatabase | None, folder: Path, clock: Clock, tell: Tell
) -> str:
    """Copy the stores into the folder, which is made, and has to be empty; what came of it.

    Each copy is one state of its store, however long it takes; what is written meanwhile stays in
    the log beside the store's file. Raises StoreUnusable.
    """
    make(folder)
    try:
        if views is not None and views.exists():
            _copy(views, folder / VIEWS, tell)
        _copy(events, folder / EVENTS, tell)
        return describe(folder, clock, tell)
    except (OSError, sqlite3.Error) as error:
        raise errors.StoreUnusable(f"the backup failed: {error}") from error


def describe(folder: Path, clock: Clock, tell: Tell) -> str:
    """Verify what was copied into the folder, and make a backup of it; what came of it.

    Raises StoreUnusable, OSError.
    """
    tell(Progress(0, 0, "", "verifying"))
    with closing(StoredLogReader(SqliteDatabase(folder / EVENTS))) as log:
        identity, head = log.identity, log.head()
    files = []
    for name in (EVENTS, VIEWS):
        if (folder / name).exists():
            require_sound(SqliteDatabase(folder / name), "take another backup", None)
            files.append(_fingerprint(folder / name))
    description = Description(
        program=__version__,
        log_id=identity,
        head_position=head.position,
        taken=f"{datetime.fromtimestamp(clock.now_us() // US_PER_S, UTC):%Y-%m-%dT%H:%M:%SZ}",
        files=tuple(files),
    )
    _write(folder / DESCRIPTION, msgspec.json.format(msgspec.json.encode(description)))
    _persist(folder)
    return f"backed up to {folder}, up to position {head.position}"


def restore(
    folder: Path, events: SqliteDatabase, views: SqliteDatabase, clock: Clock, tell: Tell
) -> str:
    """Put a backup in place of both stores; what came of it. Nobody may serve them meanwhile.

    What is there is kept beside, with the time in its name. Killed in the middle it is to be run
    again: until then the stores are not served (`require_restored`). Raises StoreUnusable, and then
    what was there is in place.
    """
    description = described(folder)
    places = {EVENTS: events.path, VIEWS: views.path}
    news = {name: _new(place) for name, place in places.items()}
    held = {file.name for file in description.files}
    if EVENTS not in held or not held <= set(places):
        raise errors.StoreUnusable(f"{folder / DESCRIPTION} is not what `backup` writes")
    # Then what they stand for may have been moved aside already, and only they tell.
    was_begun = any(new.exists() for new in news.values())
    try:
        for file in description.files:
            places[file.name].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _bring(folder, file, news[file.name], tell)
    except BaseException as error:
        for new in () if was_begun else news.values():
            new.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise errors.StoreUnusable(f"the restore failed: {error}") from error
        raise
    try:
        for name in set(news) - held:
            news[name].unlink(missing_ok=True)
        kept = _aside(places, clock)
        # The log before the views: without views it is whole, they are nothing without it.
        for name in (EVENTS, VIEWS):
            if news[name].exists():
                news[name].rename(places[name])
            _persist(places[name].parent)
    except OSError as error:
        raise errors.StoreUnusable(f"the restore failed, run it again: {error}") from error
    told = f"; what was there is kept as {kept}" if kept else ""
    return f"restored, up to position {description.head_position}{told}"


def require_restored(*databases: SqliteDatabase) -> None:
    """Raises StoreUnusable while a restore of one of them was begun and not finished."""
    for database in databases:
        if _new(database.path).exists():
            raise errors.StoreUnusable(
                f"a restore of {database.path} was not finished: run `plugstatus restore` again; "
                f"or, if that file is still there, delete {_new(database.path)} to go on with it"
            )


def _new(place: Path) -> Path:
    return place.with_name(place.name + ".restoring")


def _copy(database: SqliteDatabase, copy: Path, tell: Tell) -> None:
    with (
        closing(database.connect_reader()) as source,
        closing(sqlite3.connect(copy, isolation_level=None)) as target,
    ):
        copy.chmod(0o600)
        # Within one read transaction nothing that is written makes the copy begin anew.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(
            target,
            pages=_PAGES,
            progress=lambda _, left, total: tell(
                Progress(total - left, total, "pages", f"copying {copy.name}")
            ),
            sleep=0,
        )
        # So that it is whole in its one file; who opens it next makes a log beside it again.
        target.execute("PRAGMA journal_mode=DELETE").fetchall()
    _persist(copy)


def _bring(folder: Path, file: BackedUpFile, new: Path, tell: Tell) -> None:
    """Copied and compared with what the backup says."""
    digest, done = hashlib.sha256(), 0
    with (folder / file.name).open("rb") as source, new.open("wb") as target:
        new.chmod(0o600)
        while chunk := source.read(_CHUNK_BYTES):
            digest.update(chunk)
            target.write(chunk)
            done += len(chunk)
            tell(Progress(done, file.size, "bytes", f"restoring {file.name}"))
        target.flush()
        os.fsync(target.fileno())
    if (done, digest.hexdigest()) != (file.size, file.sha256):
        raise errors.StoreUnusable(
            f"{folder / file.name} is not what was backed up: it was damaged or changed since"
        )


def _aside(places: dict[str, Path], clock: Clock) -> str:
    """Rename what is there; under what name, empty if there was nothing."""
    time = datetime.fromtimestamp(clock.now_us() / US_PER_S, UTC)
    suffix = f".before-{time:%Y%m%dT%H%M%S%fZ}"
    kept = ""
    for name in (VIEWS, EVENTS):
        place = places[name]
        for beside in ("", "-wal", "-shm"):
            old = place.with_name(place.name + beside)
            if old.exists():
                # As SQLite looks for them, should somebody open the old store.
                old.rename(place.with_name(f"{place.name}{suffix}{beside}"))
                kept = f"*{suffix}"
    return kept


def make(folder: Path) -> None:
    """A folder for a backup. Raises StoreUnusable unless it is empty."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise errors.StoreUnusable(f"{folder} cannot be written: {error.strerror}") from None
    if not is_empty:
        raise errors.StoreUnusable(f"{folder} is not empty: name a folder of its own")


def _fingerprint(path: Path) -> BackedUpFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return BackedUpFile(path.name, path.stat().st_size, digest.hexdigest())


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    _persist(new)
    new.rename(path)


def _persist(path: Path) -> None:
    """A file or a folder, on the disk for good."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
