"""Rebuilding while it serves: killed, drained, left, asked for twice, watched."""

import asyncio
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, error_info, fresh_id, post
from tests.command import plugstatus
from tests.histories import (
    listed,
    log_of,
    modelled,
    spare_rows,
    state_of,
)
from tests.prefork import INSTALLED
from tests.rebuilding import (
    DEADLINE_S,
    FOLDING,
    History,
    alone,
    ended,
    generation,
    made_history,
    opened,
    rebuilding,
)
from tests.server_process import STOP_S, ServerProcess, clean_environment

EVENTS = 12_000
"""Enough for a rebuild to last about a second."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> History:
    return made_history(tmp_path_factory.mktemp("made") / "data", EVENTS)


@pytest.fixture
def history(made: History, tmp_path: Path) -> History:
    """A copy of a long history."""
    folder, said = made
    shutil.copytree(folder, tmp_path / "data")
    return tmp_path / "data", list(said)


@pytest.fixture
def short(tmp_path: Path) -> History:
    """A history whose rebuild takes a few steps."""
    return made_history(tmp_path / "short", 2_500)


@pytest.fixture
def server(history: History) -> Iterator[ServerProcess]:
    with ServerProcess(history[0]) as process:
        yield process


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


async def _killed_in_a_rebuild(server: ServerProcess, chance: random.Random) -> None:
    """Kill the server behind a random sign of progress, or after a random time."""
    behind = chance.choice([1, 2, 3, None])
    after_s = chance.uniform(0, 1.2) if behind is None else None
    async with opened(server) as api:
        call = rebuilding(api)
        heard = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(after_s):
                while heard != behind and await call.read() != grpc.aio.EOF:
                    heard += 1
        await asyncio.to_thread(server.kill)


async def test_nothing_is_lost_by_kills_in_a_rebuild(
    server: ServerProcess, history: History, chance: random.Random
) -> None:
    """Killed at random points: the log is untouched, answers are the model's, the next is whole."""
    data_dir, said = history
    log, expected = log_of(data_dir), modelled(said)
    for _ in range(3):
        await _killed_in_a_rebuild(server, chance)
        assert log_of(data_dir) == log
        await asyncio.to_thread(server.start)
        async with opened(server) as api:
            assert await listed(api) == expected
    rebuilt = plugstatus("rebuild", API_TARGET=server.grpc)
    async with opened(server) as api:
        checked = await ended(rebuilding(api, check=True))
        after = await listed(api)

    assert rebuilt.returncode == 0, rebuilt.stderr
    assert rebuilt.stdout.startswith("rebuilt: generation ")
    assert rebuilt.stdout.endswith(f" is live, at position {EVENTS}\n")
    assert checked.note.startswith("no difference: ")
    assert after == expected
    assert log_of(data_dir) == log
    assert spare_rows(data_dir) == 0


class Watching:
    """A watcher that resumes where it was closed; the message ids it was told of."""

    def __init__(self, api: Api, start: pb.WatchStatusesRequest) -> None:
        self._api = api
        self._request = start
        self.opened = asyncio.Event()
        self.seen: list[str] = []
        self.closings = 0
        self.generations: list[int] = []

    async def until(self, message_id: str) -> None:
        while message_id not in self.seen:
            stream = self._api.watch(self._request)
            async for response in stream.rest():
                self._take(response)
                if message_id in self.seen:
                    break
            self._request = pb.WatchStatusesRequest(cursor=stream.responses[-1].cursor)
            stream.cancel()

    def _take(self, response: pb.WatchStatusesResponse) -> None:
        match response.WhichOneof("frame"):
            case "opened":
                self.generations.append(response.opened.views_generation)
                self.opened.set()
            case "closing":
                assert response.closing.reason == pb.CLOSING_REASON_VIEWS_REBUILT
                self.closings += 1
            case "changes":
                self.seen += [each.message.message_id for each in response.changes.changes]
            case _:
                pass


async def test_watchers_resume_across_rebuilds(short: History) -> None:
    """While callbacks come and views are switched, resumed watchers miss and repeat nothing, and
    every answer is whole."""
    expected = modelled(short[1])
    done = asyncio.Event()
    posted: list[str] = []
    reads = 0

    async def keep_posting(http: httpx.AsyncClient) -> None:
        while not done.is_set():
            posted.append(fresh_id())
            await post(http, callback(posted[-1]))

    async def keep_reading(api: Api) -> None:
        nonlocal reads
        keys = list(expected)
        while not done.is_set():
            for instance, one in random.sample(keys, 20):
                message = await api.get(one, instance=instance)
                assert state_of(message) == expected[instance, one]
            wanted = sorted({one for _, one in keys})[:500]
            batch: Any = await api.status.BatchGetMessageStatuses(
                pb.BatchGetMessageStatusesRequest(message_ids=wanted, instance="acme"), timeout=30
            )
            assert {each.message_id: state_of(each) for each in batch.messages} == {
                one: expected["acme", one] for one in wanted if ("acme", one) in expected
            }
            reads += 1

    with ServerProcess(short[0]) as server:
        async with (
            opened(server) as api,
            httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=60) as http,
            asyncio.TaskGroup() as group,
        ):
            watchers = [Watching(api, pb.WatchStatusesRequest(from_now=True)) for _ in range(3)]
            last = fresh_id()
            watching = [group.create_task(each.until(last)) for each in watchers]
            for each in watchers:
                await each.opened.wait()
            busy = [group.create_task(keep_posting(http)), group.create_task(keep_reading(api))]
            generations = [await generation(api)]
            for _ in range(2):
                await ended(rebuilding(api))
                generations.append(await generation(api))
            done.set()
            await asyncio.gather(*busy)
            posted.append(last)
            await post(http, callback(last))
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.gather(*watching)
            checked = await ended(rebuilding(api, check=True))

    assert generations == sorted(set(generations))
    assert [each.seen for each in watchers] == [posted] * 3
    assert [each.generations for each in watchers] == [generations] * 3
    assert [each.closings for each in watchers] == [2] * 3
    assert checked.note.startswith("no difference: ")
    assert reads
    assert spare_rows(short[0]) == 0


async def test_two_rebuilds_at_once(server: ServerProcess) -> None:
    """The second says that it waits, has its turn, and makes a generation of its own."""
    async with opened(server) as api:
        before = await generation(api)
        first, second = rebuilding(api), rebuilding(api)
        heard = await asyncio.gather(_notes(first), _notes(second))
        after = await generation(api)
    ends = [int(notes[-1].split()[2]) for notes in heard]
    waiting = ["waiting for another task to end" in notes for notes in heard]

    assert sorted(waiting) == [False, True]
    assert before < min(ends) < max(ends) == after
    assert ends[waiting.index(True)] == max(ends)


async def _notes(call: Any) -> list[str]:
    return [each.progress.note async for each in call]


async def _first_folding(call: Any, done: int = 1) -> pb.TaskProgress:
    """The first sign that so much is folded."""
    async with asyncio.timeout(DEADLINE_S):
        async for response in call:
            progress: pb.TaskProgress = response.progress
            if progress.note == FOLDING and progress.done >= done:
                return progress
    raise AssertionError("it ended before")


async def test_a_caller_that_leaves_ends_its_rebuild(server: ServerProcess) -> None:
    """Left, a rebuild does not switch; the next one, a restart later, goes on where it was."""
    async with opened(server) as api:
        before = await generation(api)
        call = rebuilding(api)
        left_at = await _first_folding(call)
        call.cancel()
        after = await generation(api)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    async with opened(server) as api:
        call = rebuilding(api)
        again = await _first_folding(call)
        await ended(call)
        rebuilt = await generation(api)

    assert 0 < left_at.done < left_at.total == EVENTS
    assert after == before
    assert again.done > left_at.done
    assert rebuilt > before


async def test_a_drain_ends_a_rebuild(server: ServerProcess, history: History) -> None:
    """SIGTERM in the middle: the caller hears SHUTTING_DOWN, the drain is quick, nothing lost."""
    async with opened(server) as api:
        folding = asyncio.Event()

        async def rebuilt() -> str:
            call = aiter(rebuilding(api))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await _told_and_ended(call, folding)
            return str(error_info(caught.value).reason)

        # One folds, the other one waits for it.
        both = [asyncio.ensure_future(rebuilt()) for _ in range(2)]
        async with asyncio.timeout(DEADLINE_S):
            await folding.wait()
        begun_s = time.monotonic()
        server.signal(signal.SIGTERM)
        failures = await asyncio.gather(*both)
    code = await asyncio.to_thread(server.wait)
    lasted_s = time.monotonic() - begun_s
    checked = await asyncio.to_thread(alone, history[0], "--check")

    assert failures == ["SHUTTING_DOWN"] * 2
    assert code == 0
    assert lasted_s < STOP_S / 2
    assert checked.returncode == 0, checked.stderr


async def _told_and_ended(call: Any, folding: asyncio.Event) -> None:
    await _first_folding(call)
    folding.set()
    await ended(call)


def test_a_command_whose_server_ends(server: ServerProcess, history: History) -> None:
    """The command says so and ends with 1, and leaves the stores to the server that comes back."""
    process = subprocess.Popen(
        [INSTALLED, "rebuild"],
        env=clean_environment({"DATA_DIR": str(history[0]), "API_TARGET": server.grpc}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    server.kill()
    out, err = process.communicate(timeout=DEADLINE_S)

    assert first == f"{FOLDING}\n"
    assert (process.returncode, out) == (1, "")
    assert f"plugstatus: the plugstatus at {server.grpc} ended meanwhile: " in err
    assert "working on the stores" not in err
    server.start()
