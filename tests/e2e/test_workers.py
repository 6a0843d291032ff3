"""`serve --workers`: several processes behind the same addresses."""

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.calls import callback, fresh_id
from tests.command import plugstatus
from tests.failover.waiting import until
from tests.postgres import bring_back, database_url, take_away
from tests.server_process import ServerProcess

WORKERS = 3
DEADLINE_S = 30.0


def _served(folder: Path, **settings: str) -> ServerProcess:
    own = {"EVENTS_URL": database_url(folder), "OPS_BIND": "127.0.0.1:0", **settings}
    return ServerProcess(folder / "data", own, arguments=["--workers", str(WORKERS)])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with _served(tmp_path_factory.mktemp("workers")) as running:
        yield running


def _pids(served: ServerProcess) -> dict[int, int]:
    """Of the workers, by number, the last one that became ready of each."""
    lines = [json.loads(line) for line in list(served.log) if '"ready"' in line]
    folders = {line["worker"]: Path(line["data_dir"]) for line in lines if "worker" in line}
    return {
        number: int((folder / "lock").read_text().removeprefix("process "))
        for number, folder in folders.items()
    }


def _samples(served: ServerProcess, name: str) -> dict[str, float]:
    """A metric's values by what stands in its braces."""
    page = httpx.get(f"{served.ops}/metrics", trust_env=False).text
    lines = [line for line in page.splitlines() if line.startswith((name + "{", name + " "))]
    return {line[len(name) :].rpartition(" ")[0]: float(line.split()[-1]) for line in lines}


def _post(served: ServerProcess, body: dict[str, Any]) -> httpx.Response:
    """On a connection of its own, which the system gives to any of them."""
    return httpx.post(
        f"{served.http}/instancia/acme/status",
        json=body,
        trust_env=False,
    )


def _recorded(served: ServerProcess) -> dict[str, float]:
    found = _samples(served, "plugstatus_callbacks_total")
    return {labels: count for labels, count in found.items() if 'outcome="recorded"' in labels}


async def _status(served: ServerProcess, message_id: str) -> int:
    async with grpc.aio.insecure_channel(served.grpc) as channel:
        answer = await stubs.MessageStatusServiceStub(channel).WaitForStatus(
            pb.WaitForStatusRequest(message_id=message_id, at_least=pb.STATUS_SENT),
            timeout=DEADLINE_S,
        )
        return int(answer.message.status)


async def test_each_takes_a_share(served: ServerProcess) -> None:
    """Callbacks reach every worker, any answers for all, and one of them projects."""
    bodies = {fresh_id(): 0 for _ in range(60)}
    answers = [await asyncio.to_thread(_post, served, callback(one)) for one in bodies]
    statuses = [await _status(served, one) for one in list(bodies)[-6:]]
    recorded = _recorded(served)

    assert {answer.status_code for answer in answers} == {200}
    assert statuses == [pb.STATUS_SENT] * 6
    assert len(recorded) == WORKERS
    assert sum(recorded.values()) >= len(bodies)
    assert all(recorded.values())
    assert sum(_samples(served, "plugstatus_leading").values()) == 1
    assert _samples(served, "plugstatus_workers") == {"": WORKERS}


def test_a_killed_worker_comes_back(served: ServerProcess) -> None:
    """Meanwhile the others answer, and the parent says that it is ready."""
    before = _pids(served)
    os.kill(before[2], signal.SIGKILL)
    until(
        lambda: _samples(served, "plugstatus_worker_restarts_total") == {"": 1},
        DEADLINE_S,
        "it was noticed",
    )
    meanwhile = [_post(served, callback(fresh_id())).status_code for _ in range(20)]
    ready = httpx.get(f"{served.ops}/readyz", trust_env=False)
    until(lambda: _samples(served, "plugstatus_workers") == {"": WORKERS}, DEADLINE_S, "it is back")
    after = _pids(served)

    assert set(meanwhile) == {200}
    assert ready.status_code == 200
    assert after[2] != before[2]
    assert (after[1], after[3]) == (before[1], before[3])


def test_a_worker_that_hangs_is_told(served: ServerProcess) -> None:
    """It still gets its share of the connections: somebody has to know."""
    pid = _pids(served)[3]
    os.kill(pid, signal.SIGSTOP)
    try:
        hanging = httpx.get(f"{served.ops}/readyz", trust_env=False, timeout=DEADLINE_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    until(
        lambda: httpx.get(f"{served.ops}/readyz", trust_env=False).status_code == 200,
        DEADLINE_S,
        "it answers again",
    )

    assert (hanging.status_code, hanging.json()["reasons"]) == (
        503,
        ["worker 3: it does not answer"],
    )


def test_the_data_folder_is_taken(served: ServerProcess) -> None:
    """By the first worker: a second server on it is told, workers or not."""
    for arguments in ((), ("--workers", "2")):
        second = plugstatus(
            *("serve", *arguments),
            DATA_DIR=str(served.data_dir),
            EVENTS_URL=served.settings["EVENTS_URL"],
            OPS_BIND="127.0.0.1:0",
            HTTP_BIND="127.0.0.1:0",
            GRPC_BIND="127.0.0.1:0",
        )

        assert second.returncode == 1
        assert "is in use by process" in second.stderr.splitlines()[-1]


def test_the_ports_are_taken(served: ServerProcess, tmp_path: Path) -> None:
    """A second server with the same address is told, though the workers share theirs."""
    for name, address in (
        ("HTTP_BIND", served.http.removeprefix("http://")),
        ("GRPC_BIND", served.grpc),
    ):
        others = {"HTTP_BIND": "127.0.0.1:0", "GRPC_BIND": "127.0.0.1:0", name: address}
        for arguments in ((), ("--workers", "2")):
            own = {"OPS_BIND": "127.0.0.1:0", "EVENTS_URL": database_url(tmp_path)}
            second = plugstatus("serve", *arguments, DATA_DIR=str(tmp_path), **own, **others)

            assert second.returncode == 1
            assert f"PLUGSTATUS_{name}: cannot listen on {address}" in second.stderr


def test_a_drain_ends_all(tmp_path: Path) -> None:
    """SIGTERM: every worker drains and ends, and the exit code is 0."""
    with _served(tmp_path) as served:
        pids = _pids(served)
        code = served.stop()
        drained = [line for line in served.log if '"draining"' in line and '"worker":' in line]

    assert code == 0
    assert len(drained) == WORKERS == len(pids)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


def test_workers_end_without_their_parent(tmp_path: Path) -> None:
    """The parent killed, they drain: nobody else would ever end them."""
    with _served(tmp_path) as served:
        pids = _pids(served)
        served.kill()
        until(lambda: not any(_runs(pid) for pid in pids.values()), DEADLINE_S, "they have ended")

    assert len(pids) == WORKERS


def _runs(pid: int) -> bool:
    """A zombie, whoever should look after it, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_one_that_cannot_start_ends_all(tmp_path: Path) -> None:
    """The parent says why, in one line, and exits as one process would."""
    (tmp_path / "worker-2").write_text("no folder")
    run = plugstatus(
        *("serve", "--workers", "2"),
        DATA_DIR=str(tmp_path),
        EVENTS_URL=database_url(tmp_path),
        OPS_BIND="127.0.0.1:0",
        HTTP_BIND="127.0.0.1:0",
        GRPC_BIND="127.0.0.1:0",
    )

    assert run.returncode == 2
    assert "PLUGSTATUS_DATA_DIR: the folder" in run.stderr.splitlines()[-1]


async def test_spools_are_not_left_behind(tmp_path: Path) -> None:
    """Each worker spools; with fewer of them, a spool that holds callbacks is asked for."""
    bodies = [callback(fresh_id()) for _ in range(60)]
    url = database_url(tmp_path)
    with _served(tmp_path) as served:
        take_away(url)
        try:
            answers = [await asyncio.to_thread(_post, served, body) for body in bodies]
            served.stop()
        finally:
            bring_back(url)
    left = [path for path in (tmp_path / "data").rglob("spool.db") if _spooled(path)]
    fewer = plugstatus(
        *("serve", "--workers", "2"),
        DATA_DIR=str(tmp_path / "data"),
        EVENTS_URL=url,
        OPS_BIND="127.0.0.1:0",
    )
    told = plugstatus("check", DATA_DIR=str(tmp_path / "data"), EVENTS_URL=url).stdout
    with _served(tmp_path) as served:
        until(
            lambda: not any(_samples(served, "plugstatus_spool_callbacks").values()),
            DEADLINE_S,
            "all are recorded",
        )
        served.stop()

    assert {answer.status_code for answer in answers} == {200}
    assert len(left) == WORKERS
    assert fewer.returncode == 2
    assert f"{tmp_path}/data/worker-3/spool.db: run 3 until they went" in fewer.stderr
    assert told.count("wait in") == WORKERS
    assert not any(map(_spooled, left))


def _spooled(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        return int(
            database.execute("SELECT coalesce(sum(event_count), 0) FROM batches").fetchone()[0]
        )


def test_workers_need_an_operations_address(tmp_path: Path) -> None:
    """Whichever worker answered at the callbacks' address could only tell of itself."""
    run = plugstatus(
        *("serve", "--workers", "2"),
        DATA_DIR=str(tmp_path),
        EVENTS_URL="postgresql://nobody@127.0.0.1:1/none",
        HTTP_BIND="127.0.0.1:8080",
        OPS_BIND="127.0.0.1:8080",
    )

    assert run.returncode == 2
    assert "PLUGSTATUS_OPS_BIND" in run.stderr
