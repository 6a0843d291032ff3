"""The process as a whole: killed, drained, started twice."""

import asyncio
import json
import random
import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import SEED_BODY, Api, callback, error_info, fresh_id, post
from tests.command import plugstatus
from tests.server_process import STOP_S, ServerProcess


async def test_nothing_acknowledged_is_lost_by_sigkill(server: ServerProcess) -> None:
    """Killed in the middle of posting: every acknowledged body is found by id and by watching."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    kill_after = random.Random(seed).randint(30, 150)
    acknowledged: dict[str, str] = {}
    killed = asyncio.Event()

    async def post_until_killed(http: httpx.AsyncClient) -> None:
        while not killed.is_set():
            message_id = fresh_id()
            try:
                acknowledged[message_id] = await post(http, callback(message_id))
            except httpx.HTTPError:
                return
            if len(acknowledged) >= kill_after and not killed.is_set():
                killed.set()
                await asyncio.to_thread(server.kill)

    async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=20) as http:
        await asyncio.gather(*(post_until_killed(http) for _ in range(8)))
    server.start()
    api = Api(server.grpc)
    found = [
        (await api.get(message_id, min_cursor=cursor)).message_id
        for message_id, cursor in acknowledged.items()
    ]
    stream = api.watch(pb.WatchStatusesRequest(from_time=Timestamp(seconds=1)))
    await stream.until("caught_up")
    watched = [c.message.message_id for r in stream.responses for c in r.changes.changes]
    stream.cancel()
    await api.channel.close()

    assert len(acknowledged) >= kill_after
    assert found == list(acknowledged)
    assert len(set(watched)) == len(watched)
    assert set(acknowledged) <= set(watched)


def test_half_closed_peer_is_answered(server: ServerProcess) -> None:
    """A client that sends its whole request and then closes its side still gets the answer."""
    host, port = server.http.removeprefix("http://").split(":")
    body = json.dumps(SEED_BODY).encode()
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /instancia/acme/status HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(STOP_S)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"outcome":"recorded"' in answer


def test_stopped_log_is_one_whole_file(server: ServerProcess, tmp_path: Path) -> None:
    """After a clean stop a copy of events.db alone holds every event."""
    for _ in range(5):
        httpx.post(f"{server.http}/instancia/acme/status", json=SEED_BODY, trust_env=False)
    assert server.stop() == 0
    copy = tmp_path / "copy.db"
    copy.write_bytes((server.data_dir / "events.db").read_bytes())
    with closing(sqlite3.connect(copy)) as log:
        (count,) = log.execute("SELECT count(*) FROM events").fetchone()

    assert count == 5


async def test_cursors_survive_a_restart(server: ServerProcess) -> None:
    """A cursor from before a restart resumes exactly behind itself."""
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
        cursors = [await post(http, callback(fresh_id())) for _ in range(3)]
    assert server.stop() == 0
    server.start()
    message_id = fresh_id()
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
        await post(http, callback(message_id))
    api = Api(server.grpc)
    stream = api.watch(pb.WatchStatusesRequest(cursor=cursors[1]))
    changes = await stream.changes(2)
    await api.channel.close()

    assert changes[1].message.message_id == message_id


async def test_drain_closes_idle_watchers(server: ServerProcess) -> None:
    """SIGTERM sends every watcher Closing, ends the streams well, and exits 0 in time."""
    api = Api(server.grpc)
    streams = [api.watch(pb.WatchStatusesRequest(from_now=True)) for _ in range(5)]
    for stream in streams:
        await stream.until("caught_up")
    begun_s = time.monotonic()
    server.signal(signal.SIGTERM)
    closings = [await stream.until("closing") for stream in streams]
    codes = [await stream.call.code() for stream in streams]
    code = await asyncio.to_thread(server.wait)
    await api.channel.close()

    assert code == 0
    assert time.monotonic() - begun_s < 10
    assert codes == [grpc.StatusCode.OK] * 5
    assert {closing.closing.reason for closing in closings} == {pb.CLOSING_REASON_SHUTTING_DOWN}


async def test_drain_finishes_what_is_posted(server: ServerProcess) -> None:
    """Callbacks that keep coming during a drain are answered 200 and kept, or not answered 200."""
    acknowledged: list[str] = []
    draining = asyncio.Event()

    async def keep_posting(http: httpx.AsyncClient) -> None:
        while True:
            message_id = fresh_id()
            try:
                await post(http, callback(message_id))
            except (httpx.HTTPError, AssertionError):
                return
            acknowledged.append(message_id)
            if len(acknowledged) > 50 and not draining.is_set():
                draining.set()
                server.signal(signal.SIGTERM)

    async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=20) as http:
        await asyncio.gather(*(keep_posting(http) for _ in range(4)))
    code = await asyncio.to_thread(server.wait)
    server.start()
    api = Api(server.grpc)
    response = await api.status.BatchGetMessageStatuses(
        pb.BatchGetMessageStatusesRequest(message_ids=acknowledged[-500:]), wait_for_ready=True
    )
    await api.channel.close()

    assert code == 0
    assert list(response.not_found) == []


def test_second_sigterm_ends_at_once(server: ServerProcess) -> None:
    """While a drain waits for an unfinished body, a second SIGTERM ends the process."""
    host, port = server.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /instancia/acme/status HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        server.signal(signal.SIGTERM)
        _wait_for_log(server, "draining")
        signalled = 1
        while server.wait_or_none(0.1) is None:
            server.signal(signal.SIGTERM)
            signalled += 1
        code = server.wait()

    assert code == -signal.SIGTERM
    assert signalled > 1
    assert not any('"stopped"' in line for line in server.log)


def test_one_sigterm_delivered_twice_is_one(server: ServerProcess) -> None:
    """A parent and a process group that both pass a SIGTERM on do not cut the drain short."""
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGTERM)
    code = server.wait()

    assert code == 0


async def test_health_and_readiness(server: ServerProcess) -> None:
    """Health says SERVING for the server and both services; readyz and healthz say yes."""
    names = ["", "plugchat.status.v1.MessageStatusService", "plugchat.status.v1.AdminService"]
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        statuses = [
            (await check(health_pb2.HealthCheckRequest(service=name))).status for name in names
        ]
    async with httpx.AsyncClient(base_url=server.ops, trust_env=False) as ops:
        answers = [(await ops.get(path)).status_code for path in ("/healthz", "/readyz")]

    assert statuses == [health_pb2.HealthCheckResponse.SERVING] * 3
    assert answers == [200, 200]


async def test_health_turns_in_a_drain(server: ServerProcess) -> None:
    """A health watcher hears NOT_SERVING when the drain begins, and does not hold it up."""
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        first = await watch.read()
        server.signal(signal.SIGTERM)
        second = await watch.read()
    code = await asyncio.to_thread(server.wait)

    assert first.status == health_pb2.HealthCheckResponse.SERVING
    assert second.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert code == 0


async def test_changed_tokens_are_taken_and_never_logged(tmp_path: Path) -> None:
    """A changed token file counts, SIGHUP ends nothing, and no token ever reaches the log."""
    tokens = tmp_path / "tokens"
    tokens.write_text("first0secret\n")
    settings = {"WEBHOOK_TOKEN_FILE": str(tokens), "LOG_LEVEL": "debug"}
    with ServerProcess(tmp_path / "data", settings) as server:
        async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:

            async def posted(token: str) -> int:
                path = f"/instancia/acme/status?token={token}"
                return (await http.post(path, json=SEED_BODY)).status_code

            before = [await posted("first0secret"), await posted("wrong0secret")]
            tokens.write_text("second0secret\n")
            server.signal(signal.SIGHUP)
            async with asyncio.timeout(STOP_S):
                while await posted("second0secret") == httpx.codes.UNAUTHORIZED:
                    pass
            after = [await posted("second0secret"), await posted("first0secret")]
        assert server.stop() == 0

    assert (before, after) == ([200, 401], [200, 401])
    assert [line for line in server.log if "0secret" in line] == []


def test_second_process_on_the_data_folder_is_refused(server: ServerProcess) -> None:
    """One sentence says who holds the folder and what to do, and the exit code is 1."""
    second = plugstatus("serve", DATA_DIR=str(server.data_dir), HTTP_BIND="127.0.0.1:0")

    assert second.returncode == 1
    assert len(second.stderr.splitlines()) == 1
    assert f"process {server.pid}" in second.stderr
    assert "PLUGSTATUS_DATA_DIR" in second.stderr


def test_second_process_on_a_store_is_refused(server: ServerProcess, tmp_path: Path) -> None:
    """Another data folder does not help a process that names the first one's event log."""
    second = plugstatus(
        "serve",
        DATA_DIR=str(tmp_path / "other"),
        EVENTS_URL=f"sqlite:///{server.data_dir / 'events.db'}",
        HTTP_BIND="127.0.0.1:0",
        GRPC_BIND="127.0.0.1:0",
    )

    assert second.returncode == 1
    assert f"process {server.pid}" in second.stderr


async def test_drain_answers_those_who_wait_for_the_views(server: ServerProcess) -> None:
    """A Get that waits for a position hears SHUTTING_DOWN, and the process still exits 0."""
    api = Api(server.grpc)
    with closing(sqlite3.connect(server.data_dir / "views.db", isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
            message_id = fresh_id()
            cursor = await post(http, callback(message_id))
        waiting = asyncio.ensure_future(api.get(message_id, min_cursor=cursor))
        await _call_begun(server, "GetMessageStatus")
        server.signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await waiting
        code = await asyncio.to_thread(server.wait)
    await api.channel.close()

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error_info(caught.value).reason == "SHUTTING_DOWN"
    assert code == 0


async def _call_begun(server: ServerProcess, method: str) -> None:
    begun = f'grpc_server_started_total{{grpc_method="{method}"'
    async with (
        asyncio.timeout(STOP_S),
        httpx.AsyncClient(base_url=server.ops, trust_env=False) as ops,
    ):
        while begun not in (await ops.get("/metrics")).text:
            pass


@pytest.mark.parametrize("variable", ["HTTP_BIND", "GRPC_BIND"])
def test_taken_address_is_refused(server: ServerProcess, tmp_path: Path, variable: str) -> None:
    """A taken address is named in one sentence, and the exit code is 1."""
    taken = {"HTTP_BIND": server.http.removeprefix("http://"), "GRPC_BIND": server.grpc}[variable]
    settings = {"HTTP_BIND": "127.0.0.1:0", "GRPC_BIND": "127.0.0.1:0", variable: taken}
    second = plugstatus("serve", DATA_DIR=str(tmp_path / "other"), **settings)

    assert second.returncode == 1
    assert f"PLUGSTATUS_{variable}" in second.stderr.splitlines()[-1]
    assert taken in second.stderr.splitlines()[-1]


def test_views_are_built_again_when_deleted(server: ServerProcess) -> None:
    """Deleted views come back from the log at the next start, as another generation."""
    httpx.post(f"{server.http}/instancia/acme/status", json=SEED_BODY, trust_env=False)
    assert server.stop() == 0
    for file in server.data_dir.glob("views.db*"):
        file.unlink()
    server.start()
    again = _wait_for_message(server, "999999999999999999999")

    assert again["status"] == "STATUS_RECEIVED"


def test_views_of_another_log_are_refused(server: ServerProcess, tmp_path: Path) -> None:
    """Views that hold events the log does not are refused, and the sentence says what to do."""
    httpx.post(f"{server.http}/instancia/acme/status", json=SEED_BODY, trust_env=False)
    assert server.stop() == 0
    for file in server.data_dir.glob("events.db*"):
        file.unlink()
    started = plugstatus("serve", DATA_DIR=str(server.data_dir), HTTP_BIND="127.0.0.1:0")

    assert started.returncode == 1
    assert "move it away" in started.stderr.splitlines()[-1]


def _wait_for_message(server: ServerProcess, message_id: str) -> dict[str, object]:
    """The message, once the projector has folded it in again."""
    deadline_s = time.monotonic() + STOP_S
    while time.monotonic() < deadline_s:
        asked = plugstatus("get", message_id, "--json", API_TARGET=server.grpc)
        if asked.returncode == 0:
            answer: dict[str, object] = json.loads(asked.stdout)
            return answer
    raise AssertionError(f"{message_id} did not come back")


def _wait_for_log(server: ServerProcess, event: str) -> None:
    deadline_s = time.monotonic() + STOP_S
    while time.monotonic() < deadline_s:
        if any(f'"{event}"' in line for line in server.log):
            return
    raise AssertionError(f"{event} was not logged")
