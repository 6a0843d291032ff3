"""A process that only receives, while the log's database is away."""

import signal
import socket
from pathlib import Path

import httpx

from tests.calls import callback, fresh_id
from tests.command import plugstatus
from tests.failover.waiting import until
from tests.postgres import bring_back, connected, database_url, take_away
from tests.server_process import ServerProcess

DEADLINE_S = 30.0


def _post(served: ServerProcess, message_id: str) -> tuple[int, str]:
    answer = httpx.post(
        f"{served.http}/instancia/acme/status", json=callback(message_id), trust_env=False
    )
    return answer.status_code, answer.json()["outcome"]


def _spooled(served: ServerProcess) -> float:
    page = httpx.get(f"{served.ops}/metrics", trust_env=False).text
    lines = [line for line in page.splitlines() if line.startswith("plugstatus_spool_callbacks ")]
    return float(lines[0].split()[1])


def test_it_starts_without_a_database_it_knows(tmp_path: Path) -> None:
    """It spools, and once the database is back everything is there, in the order it came."""
    url = database_url(tmp_path)
    ids = [fresh_id() for _ in range(3)]
    served = ServerProcess(tmp_path / "data", {"EVENTS_URL": url, "ROLES": "ingress"})
    with served:
        told = [_post(served, ids[0])]
        stopped = served.stop()
        take_away(url)
        try:
            served.start()
            told.append(_post(served, ids[1]))
            ready = httpx.get(f"{served.ops}/readyz", trust_env=False).status_code
            served.kill()
            served.start()
            told.append(_post(served, ids[2]))
        finally:
            bring_back(url)
        until(lambda: _spooled(served) == 0, DEADLINE_S, "all are recorded")
    with connected(url) as database:
        rows = database.execute("SELECT content FROM plugstatus_events.events ORDER BY position")
        contents = [row[0].decode() for row in rows.fetchall()]

    assert stopped == 0
    assert told == [(200, "recorded"), (200, "spooled"), (200, "spooled")]
    assert ready == 200
    assert [one in content for one, content in zip(ids, contents, strict=True)] == [True] * 3


def test_it_does_not_start_without_one_it_never_saw(tmp_path: Path) -> None:
    """Nobody could say which log the callbacks are for."""
    url = database_url(tmp_path)
    take_away(url)
    try:
        started = plugstatus(
            "serve", EVENTS_URL=url, ROLES="ingress", DATA_DIR=str(tmp_path / "data")
        )
    finally:
        bring_back(url)

    assert started.returncode == 1
    assert "cannot be reached" in started.stderr.splitlines()[-1]


def test_it_lets_an_unfinished_body_know_that_it_drains(tmp_path: Path) -> None:
    """As every process that receives does, and then it ends by itself."""
    url = database_url(tmp_path)
    with ServerProcess(tmp_path / "data", {"EVENTS_URL": url, "ROLES": "ingress"}) as served:
        host, port = served.http.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as peer:
            peer.sendall(
                b"POST /instancia/acme/status HTTP/1.1\r\nHost: x\r\n"
                b"Content-Type: application/json\r\nContent-Length: 100\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            begun = peer.recv(4_096)
            served.signal(signal.SIGTERM)
            answer = peer.recv(4_096)
        code = served.wait()

    assert begun.startswith(b"HTTP/1.1 100 ")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert code == 0
    assert not [line for line in served.log if "Traceback" in line]


def test_it_does_not_start_at_an_address_that_is_taken(tmp_path: Path) -> None:
    """It says so, and ends."""
    url = database_url(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = {"EVENTS_URL": url, "ROLES": "ingress", "DATA_DIR": str(tmp_path / "data")}
        started = plugstatus("serve", **settings, HTTP_BIND=place)

    assert started.returncode == 1
    assert place in started.stderr.splitlines()[-1]
    assert "Traceback" not in started.stderr
