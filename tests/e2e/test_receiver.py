"""The receiving process beside the one that has the stores: neither goes on without the other."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from tests.calls import Api, callback, fresh_id, post
from tests.server_process import START_S, ServerProcess


def _receiver_of(server: ServerProcess) -> int:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _wait_until_gone(pid: int) -> None:
    until_s = time.monotonic() + START_S
    while not _is_gone(pid):
        assert time.monotonic() < until_s
        os.sched_yield()


async def test_a_lost_receiver_ends_the_service(server: ServerProcess) -> None:
    """Drained and with exit code 1, so that a supervisor starts both again; nothing is lost."""
    message_id = fresh_id()
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
        cursor = await post(http, callback(message_id))
    os.kill(_receiver_of(server), signal.SIGKILL)

    assert server.wait() == 1
    assert any("the receiving process ended by itself" in line for line in server.log)
    assert any('"stopped"' in line for line in server.log)
    server.start()
    api = Api(server.grpc)
    assert (await api.get(message_id, min_cursor=cursor)).message_id == message_id
    await api.channel.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signals_for_both_are_for_the_other(
    server: ServerProcess, number: signal.Signals
) -> None:
    """What a terminal sends to the whole group does not end the receiver before its time."""
    receiver = _receiver_of(server)
    os.kill(receiver, number)
    async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
        await post(http, callback(fresh_id()))

    assert not _is_gone(receiver)
    assert server.stop() == 0
    _wait_until_gone(receiver)


@pytest.mark.parametrize("stopped", [False, True])
def test_the_receiver_does_not_outlive_a_kill(server: ServerProcess, stopped: bool) -> None:
    """Its addresses are free again, and the next start takes the same ones."""
    receiver = _receiver_of(server)
    if stopped:
        os.kill(receiver, signal.SIGSTOP)
    server.settings["HTTP_BIND"] = server.http.removeprefix("http://")
    server.kill()
    _wait_until_gone(receiver)
    server.start()

    assert server.http == "http://" + server.settings["HTTP_BIND"]


async def test_a_stopped_service_is_not_alive(server: ServerProcess) -> None:
    """The receiver would answer, but nobody would record."""
    ops = server.ops
    server.signal(signal.SIGSTOP)
    try:
        async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=30) as http:
            stuck, unready, refused = await asyncio.gather(
                http.get(ops + "/healthz"),
                http.get(ops + "/readyz"),
                http.post("/instancia/acme/status", json=callback(fresh_id())),
            )
    finally:
        server.signal(signal.SIGCONT)

    assert (stuck.status_code, stuck.text) == (503, "stuck\n")
    assert unready.status_code == 503
    assert refused.status_code == 503
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(ops + "/healthz")).status_code == 200


def test_one_page_of_metrics_tells_of_both(server: ServerProcess) -> None:
    """Each family once, those of the HTTP side with what that side counted."""
    httpx.post(
        f"{server.http}/instancia/acme/status", json=callback(fresh_id()), trust_env=False
    ).raise_for_status()
    page = httpx.get(server.ops + "/metrics", trust_env=False).text
    families = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")]

    assert len(families) == len(set(families))
    assert {"plugstatus_http_connections", "plugstatus_log_position"} <= set(families)
    assert 'plugstatus_callbacks_total{outcome="recorded"} 1.0' in page
    assert "plugstatus_log_position 1.0" in page


async def test_many_large_bodies_at_once(server: ServerProcess) -> None:
    """More than one message between the processes may hold: each is recorded."""
    bodies = [callback(fresh_id()) | {"padding": "x" * 900_000} for _ in range(40)]
    async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=30) as http:
        cursors = await asyncio.gather(*(post(http, body) for body in bodies))

    assert len(set(cursors)) == len(bodies)


def test_an_address_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    """As if there were one process: the reason is told, and none is left."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = ServerProcess(tmp_path / "data", {"HTTP_BIND": address})
        with pytest.raises(AssertionError, match="cannot listen on"):
            server.start()

    assert server.wait() == 1
