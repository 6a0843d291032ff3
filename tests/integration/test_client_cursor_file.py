"""The file that keeps a watch's place: whole at every moment, its owner's, one watch's."""

import json
import random
import stat
from pathlib import Path

import grpc
import pytest

from service.client import (
    Bookmark,
    CallFailed,
    CursorFile,
    CursorFileError,
    CursorFileInUse,
)
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.client_site import SILENT, Fails, Step, changes, kinds, opened, scripted
from tests.processes import child, lines

NOW = pb.WatchStatusesRequest(from_now=True)
LOST = Fails(grpc.StatusCode.UNAVAILABLE)


def _kept(path: Path) -> Bookmark | None:
    """What a new watch would find."""
    file = CursorFile(path)
    try:
        return file.open()
    finally:
        file.close()


def _names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


async def test_keeps_the_last_bookmark(tmp_path: Path) -> None:
    """A new one each time, for its owner only, and no file is left beside it but the lock."""
    path = tmp_path / "place"
    file = CursorFile(path)
    first = file.open()
    for number in range(3):
        await file.keep(Bookmark(f"c{number}", 7))
    file.close()

    assert first is None
    assert _kept(path) == Bookmark("c2", 7)
    assert json.loads(path.read_text()) == {"cursor": "c2", "views_generation": 7}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _names(tmp_path) == {"place", "place.lock"}


def test_a_link_stays_one(tmp_path: Path) -> None:
    """The file that it names is replaced."""
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text('{"cursor": "c1", "views_generation": 1}')
    link.symlink_to(target)
    file = CursorFile(link)
    file.open()
    file.store(Bookmark("c2", 1))
    file.close()

    assert link.is_symlink()
    assert _kept(target) == Bookmark("c2", 1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"cursor": "c1"}',
        b'{"cursor": "", "views_generation": 1}',
        b'{"cursor": 1, "views_generation": 1}',
        b'{"cursor": "c1", "views_generation": -1}',
        json.dumps({"cursor": "c" * 513, "views_generation": 1}).encode(),
        b'{"cursor": "c1", "views_generation": 1}' + b" " * 5_000 + b"x",
    ],
)
async def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """It is never taken for a new one: the watch does not begin, the file stays, and is free."""
    path = tmp_path / "place"
    path.write_bytes(content)
    async with scripted([opened("c0")]) as (server, client):
        with pytest.raises(CursorFileError, match="remove it to begin anew"):
            await anext(client.watch(NOW, cursor_file=CursorFile(path)))
        path.unlink()
        async with client.watch(NOW, cursor_file=CursorFile(path)) as watch:
            await anext(watch.updates())

    assert len(server.requests) == 1


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    """The error says what to do."""
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "nowhere" / "place", tmp_path / "folder"):
        with pytest.raises(CursorFileError, match="name one in a folder that exists"):
            CursorFile(path).open()


async def test_one_watch_has_it(tmp_path: Path) -> None:
    """Another one is refused, until the first is closed."""
    path = tmp_path / "place"
    async with scripted([opened("c0"), SILENT], [opened("c0"), SILENT]) as (_, client):
        async with client.watch(NOW, cursor_file=CursorFile(path)) as watch:
            await anext(watch.updates())
            with pytest.raises(CursorFileInUse, match="give each one its own file"):
                await anext(client.watch(NOW, cursor_file=CursorFile(path)))
        again = await anext(client.watch(NOW, cursor_file=CursorFile(path)).updates())

    assert again.cursor == "c0"


_STORES_FOR_EVER = """
import itertools, sys
from pathlib import Path
from service.client import Bookmark, CursorFile

file = CursorFile(Path(sys.argv[1]))
kept = file.open()
first = int(kept.cursor) if kept else 1
print(first, flush=True)
for number in itertools.count(first):
    file.store(Bookmark(str(number), number))
    if not number % 50:
        print(number, flush=True)
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """The file is whole, no older than what was stored last, and free for the next process."""
    path = tmp_path / "place"
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    last = 0
    for _ in range(3):
        with child(_STORES_FOR_EVER, str(path)) as process:
            told = lines(process)
            stored = int(next(told))
            for _ in range(chance.randint(1, 20)):
                stored = int(next(told))
            with pytest.raises(CursorFileInUse):
                CursorFile(path).open()
            process.kill()
        kept = _kept(path)

        assert kept is not None
        assert int(kept.cursor) == kept.views_generation >= stored >= last
        last = stored


async def test_what_was_dealt_with_is_kept(tmp_path: Path) -> None:
    """A frame once more is asked for behind it; in its middle, what came before the last change."""
    path = tmp_path / "place"
    frames: list[Step] = [opened("c0", 3), changes("c1", "c2"), changes("c3", "c4"), SILENT]
    kept = []
    async with (
        scripted(frames) as (_, client),
        client.watch(NOW, cursor_file=CursorFile(path)) as watch,
    ):
        async for change in watch:
            kept.append((change.cursor, json.loads(path.read_text())["cursor"]))
            if change.cursor == "c4":
                break

    assert kept == [("c1", "c0"), ("c2", "c0"), ("c3", "c2"), ("c4", "c2")]
    assert _kept(path) == Bookmark("c3", 3)


async def test_the_place_counts_instead_of_the_start(tmp_path: Path) -> None:
    """A watch that is made anew goes on where the last one was, its generation known."""
    path = tmp_path / "place"
    start = pb.WatchStatusesRequest(snapshot=True)
    async with scripted(
        [opened("s0", 1), changes("s1"), LOST],
        [opened("s1", 1), LOST],
        [opened("s1", 2)],
        [opened("s9", 2), LOST],
    ) as (server, client):
        told = []
        for count in (3, 2, 3):
            async with client.watch(start, cursor_file=CursorFile(path), resync=True) as watch:
                updates = watch.updates()
                told.append(kinds([await anext(updates) for _ in range(count)]))

    assert told == [
        ["SnapshotBegin", "Changes", "Interrupted"],
        ["Opened", "Interrupted"],
        ["Interrupted", "SnapshotBegin", "Interrupted"],
    ]
    assert [request.cursor for request in server.requests] == ["", "s1", "s1", ""]
    assert [request.snapshot for request in server.requests] == [True, False, False, True]
    assert _kept(path) == Bookmark("s9", 2)


async def test_a_failure_leaves_the_place(tmp_path: Path) -> None:
    """A cursor that was refused stays in the file for somebody to look at."""
    path = tmp_path / "place"
    path.write_text('{"cursor": "old", "views_generation": 1}')
    expired = Fails(grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
    async with scripted([expired]) as (_, client):
        with pytest.raises(CallFailed):
            await anext(client.watch(NOW, cursor_file=CursorFile(path)))

    assert json.loads(path.read_text())["cursor"] == "old"
