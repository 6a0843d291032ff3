"""`plugstatus forget` as an operator runs it: files, kills, no server, webhooks."""

import hashlib
import itertools
import json
import random
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme

from service.clock import SystemClock
from service.database.schema import Store, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import EventKind, NewEvent
from service.eventlog.sqlite import SqliteLogWriter
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.calls import Api, callback, post
from tests.command import plugstatus
from tests.provider import Provider, respond
from tests.server_process import ServerProcess

PHONE = "5511987654321"
OTHER = "5521700000303"
GROUP = "120363019502650977-group"
ESCAPED = "".join(f"\\u{ord(one):04x}" for one in PHONE)
DEADLINE_S = 60.0
NOTHING = "erased 0 callbacks, 0 messages and 0 recipients of other messages\n"


def recorded(data_dir: Path, bodies: Iterable[bytes]) -> None:
    """A log that holds these callbacks, and that nobody has served yet."""
    data_dir.mkdir(exist_ok=True)
    path = data_dir / "events.db"
    upgrade(Store.EVENT_LOG, SqliteDatabase(path))
    now_us = SystemClock().now_us()
    waiting = iter(bodies)
    with closing(SqliteLogWriter(SqliteDatabase(path))) as writer:
        while batch := list(itertools.islice(waiting, 200)):
            writer.append([NewEvent("acme", now_us, EventKind.CALLBACK, one) for one in batch])


def encoded(message_id: str, status: str = "SENT", **fields: Any) -> bytes:
    return json.dumps(callback(message_id, status, **fields)).encode()


def history(dice: random.Random, events: int) -> list[bytes]:
    """Callbacks of some phones, much repeated, of all sizes; a fifth is the phone's."""
    words = ["SENT", "RECEIVED", "READ", "PLAYED"]
    found = []
    for _ in range(events):
        size = dice.choice((0, 0, 0, 0, 200, 900, 5_000, 60_000 if dice.random() < 0.1 else 10))
        mine = dice.random() < 0.2
        phone = PHONE if mine else f"5521700000{dice.randrange(300):03d}"
        fields: dict[str, Any] = {"phone": phone, "note": "x" * size + phone * dice.randint(0, 2)}
        message_id = f"{'MINE' if mine else 'OTHER'}{dice.randrange(200)}"
        match dice.randrange(8):
            case 0:
                fields |= {"phone": GROUP, "participant": phone}
                message_id = f"GROUP{dice.randrange(20)}"
            case 1:
                fields |= {"ids": [message_id, f"SHARED{dice.randrange(50)}"], "phone": ""}
            case 2:
                fields |= {"type": "Novel"}
            case _:
                pass
        found.append(encoded(message_id, dice.choice(words), **fields))
    return found


def files_with(data_dir: Path, *texts: str) -> list[str]:
    """The files of the data folder that hold any of the texts, wherever in them."""
    return [
        f"{path.name}: {text}"
        for path in sorted(data_dir.rglob("*"))
        if path.is_file()
        for text in texts
        if text.encode() in path.read_bytes()
    ]


def unused_target() -> str:
    """An address where nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def forget(server: ServerProcess, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return plugstatus("forget", *arguments, API_TARGET=server.grpc)


@contextmanager
def stubs_of(server: ServerProcess) -> Iterator[tuple[Any, Any]]:
    """Both services' stubs, for what the command need not be started for."""
    with grpc.insecure_channel(server.grpc) as channel:
        yield stubs.AdminServiceStub(channel), stubs.MessageStatusServiceStub(channel)


def differences(server: ServerProcess) -> int:
    """How many rows of the views differ from what the log gives."""
    with stubs_of(server) as (admin, _):
        request = pb.RebuildViewsRequest(check=True)
        return int([*admin.RebuildViews(request, timeout=DEADLINE_S)][-1].difference_count)


def report_counts(server: ServerProcess, *message_ids: str) -> list[int]:
    """Of those that are known."""
    with stubs_of(server) as (_, status):
        request = pb.BatchGetMessageStatusesRequest(message_ids=message_ids)
        found = status.BatchGetMessageStatuses(request, timeout=DEADLINE_S)
        return [one.report_count for one in found.messages]


def contents(data_dir: Path) -> dict[str, str]:
    """A hash of everything that either store says."""
    hashes = {}
    for name in ("events.db", "views.db"):
        with closing(sqlite3.connect(f"file:{data_dir / name}?mode=ro", uri=True)) as store:
            hashes[name] = hashlib.sha256("\n".join(store.iterdump()).encode()).hexdigest()
    return hashes


def erasures(data_dir: Path) -> list[bytes]:
    with closing(sqlite3.connect(f"file:{data_dir / 'events.db'}?mode=ro", uri=True)) as log:
        sql = "SELECT content FROM events WHERE kind = ?"
        return [row[0] for row in log.execute(sql, (EventKind.ERASURE,))]


def carelessly_kept(views: Path) -> None:
    """Rows of the phone, written and deleted by a connection that overwrites nothing."""
    with closing(sqlite3.connect(views)) as careless:
        careless.execute("PRAGMA secure_delete=OFF")
        for slot in "ab":
            rows = [(10**9 + n, "acme", f"OLD{n}", PHONE, b"y" * (n % 7_000)) for n in range(400)]
            careless.executemany(
                f"INSERT INTO feed_{slot} VALUES (?1, 0, 0, ?2, ?3, ?4, 40, 1, ?5, ?5, NULL)", rows
            )
            careless.execute(f"DELETE FROM feed_{slot} WHERE position >= ?", (10**9,))
        careless.commit()
        careless.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("careless", [False, True], ids=["as served", "careless before"])
def test_no_file_holds_the_phone(tmp_path: Path, careless: bool) -> None:
    """Once the command ends no file has the phone, while the server runs, and once it stopped."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    data_dir = tmp_path / "data"
    recorded(data_dir, history(random.Random(seed), 1_200))
    with ServerProcess(data_dir) as server:
        _caught_up(server)
        if careless:
            assert server.stop() == 0
            carelessly_kept(data_dir / "views.db")
            assert files_with(data_dir, PHONE) == [f"{n}.db: {PHONE}" for n in ("events", "views")]
            server.start()
        told = forget(server, "--phone", PHONE)
        running = files_with(data_dir, PHONE)
        differing = differences(server)
        again = forget(server, "--phone", PHONE)
        log = list(server.log)
        assert server.stop() == 0
        stopped = files_with(data_dir, PHONE)

    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("erased ")
    assert ";" not in told.stdout
    assert (running, stopped) == ([], [])
    assert (differing, again.stdout) == (0, NOTHING)
    assert erasures(data_dir)
    said = "\n".join(log) + told.stderr + b"".join(erasures(data_dir)).decode()
    assert [text for text in (PHONE, "MINE") if text in said] == []


def _caught_up(server: ServerProcess) -> None:
    """Wait until the views hold what the log holds: a dry run does."""
    with stubs_of(server) as (admin, _):
        request = pb.ForgetRequest(message_id="unheard", dry_run=True)
        assert [*admin.Forget(request, timeout=DEADLINE_S)]


def test_a_message_leaves_no_trace(tmp_path: Path) -> None:
    """Nor does a message: its id is in no file, no log line and no event."""
    message_id = "3EB0C0FFEE0123456789"
    bodies = [encoded(f"M{number}") for number in range(300)]
    bodies[::30] = [encoded("", ids=[message_id, f"N{n}"], note="z" * 9_000) for n in range(10)]
    recorded(tmp_path / "data", bodies)
    with ServerProcess(tmp_path / "data") as server:
        would = forget(server, "--message", message_id, "--dry-run")
        before = contents(tmp_path / "data")
        again = forget(server, "--message", message_id, "--instance", "acme", "--dry-run")
        after = contents(tmp_path / "data")
        elsewhere = forget(server, "--message", message_id, "--instance", "umbrella")
        told = forget(server, "--message", message_id, "--instance", "acme")
        left = files_with(tmp_path / "data", message_id)
        beside = report_counts(server, message_id, "N3")

    counts = "10 callbacks, 1 messages and 0 recipients of other messages\n"
    assert would.stdout == again.stdout == f"would erase {counts}"
    assert before == after
    assert elsewhere.stdout.partition(";")[0] == NOTHING.strip()
    assert told.stdout == f"erased {counts}"
    assert left == []
    assert message_id not in "\n".join(server.log) + told.stderr
    assert beside == [1]


@pytest.mark.parametrize(
    "arguments",
    [(), ("--message", "M", "--phone", PHONE), ("--phone", PHONE, "--instance", "acme")],
    ids=["neither", "both", "instance with phone"],
)
def test_wrong_use(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2, and nothing is touched or created."""
    run = plugstatus("forget", *arguments, DATA_DIR=str(tmp_path), API_TARGET=unused_target())

    assert (run.returncode, run.stdout) == (2, "")
    assert list(tmp_path.iterdir()) == []


def test_without_a_server(tmp_path: Path) -> None:
    """The command works on the stores itself, and finds what is nested as deep as it may be."""
    deep = b'{"type":"Novel","a":' + b"[" * 990 + b'"' + ESCAPED.encode() + b'"' + b"]" * 990 + b"}"
    data_dir = tmp_path / "data"
    recorded(data_dir, [*history(random.Random(1), 300), deep])
    settings = {"DATA_DIR": str(data_dir), "API_TARGET": unused_target()}
    would = plugstatus("forget", "--phone", PHONE, "--dry-run", **settings)
    told = plugstatus("forget", "--phone", PHONE, **settings)
    left = files_with(data_dir, PHONE, ESCAPED)
    again = plugstatus("forget", "--phone", PHONE, **settings)
    with ServerProcess(data_dir) as server:
        differing = differences(server)
        refused = plugstatus("forget", "--phone", PHONE, **settings)

    assert (would.returncode, told.returncode, again.returncode) == (0, 0, 0), told.stderr
    assert would.stdout == told.stdout.replace("erased", "would erase")
    assert "working on the stores" in told.stderr
    assert left == []
    assert again.stdout == NOTHING
    assert differing == 0
    assert refused.returncode == 1


def test_killed_anywhere(tmp_path: Path) -> None:
    """The server dies at random moments of an erasure: asked again, everything is gone."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    data_dir = tmp_path / "data"
    bodies = [encoded(f"MINE{n % 700}", phone=PHONE if n < 700 else "") for n in range(2_500)]
    bodies += [encoded("", ids=[f"MINE{n}", f"SHARED{n}"], phone="") for n in range(300)]
    bodies += [encoded("GROUP", phone=GROUP, participant=f"{p}") for p in (PHONE, OTHER)]
    bodies += [encoded(f"OTHER{n}", phone=OTHER) for n in range(300)]
    recorded(data_dir, bodies)
    with ServerProcess(data_dir) as server:
        _caught_up(server)
        for _ in range(3):
            with stubs_of(server) as (admin, _):
                call = admin.Forget(pb.ForgetRequest(phone=PHONE), timeout=DEADLINE_S)
                reading = threading.Thread(target=_read_on, args=(call,))
                reading.start()
                _wait_for_erasures(data_dir, dice.randint(0, 3), reading)
                # Anywhere behind that transaction: as long as it takes to count to this.
                sum(range(dice.randrange(5_000_000)))
                server.kill()
                reading.join(DEADLINE_S)
            server.start()
        told = forget(server, "--phone", PHONE)
        left = files_with(data_dir, PHONE)
        differing = differences(server)
        mine = report_counts(server, *(f"MINE{n}" for n in range(0, 700, 7)))
        kept = report_counts(server, "SHARED299", "OTHER299", "GROUP")

    assert (told.returncode, left) == (0, []), told.stderr
    assert (differing, mine, kept) == (0, [], [1, 1, 2])
    assert _kinds(data_dir)[EventKind.TOMBSTONE] == 2_801
    assert _kinds(data_dir)[EventKind.CALLBACK] == len(bodies) - 2_801


def _read_on(call: Any) -> None:
    """Until the call ends, well or not."""
    with suppress(grpc.RpcError):
        for _ in call:
            pass


def _wait_for_erasures(data_dir: Path, more: int, reading: threading.Thread) -> None:
    """Until so many more ERASURE events are there, or the call has ended."""
    begun, deadline_s = len(erasures(data_dir)), time.monotonic() + DEADLINE_S
    while len(erasures(data_dir)) < begun + more and reading.is_alive():
        assert time.monotonic() < deadline_s


def _kinds(data_dir: Path) -> dict[int, int]:
    with closing(sqlite3.connect(f"file:{data_dir / 'events.db'}?mode=ro", uri=True)) as log:
        return dict(log.execute("SELECT kind, count(*) FROM events GROUP BY kind").fetchall())


async def test_a_confirmed_webhook_stays_confirmed(tmp_path: Path) -> None:
    """Also once the callback that confirmed it was erased, and the views were built anew."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with Provider(authority) as provider:
        provider.will(respond(200))
        settings = {
            "PLUGCHAT_URL": provider.url,
            "PLUGCHAT_CA_FILE": str(tmp_path / "ca.pem"),
            "PLUGCHAT_INSTANCE": "acme",
            "PLUGCHAT_AUTHORIZATION": "secret",
        }
        with ServerProcess(tmp_path / "data", settings) as server:
            api = Api(server.grpc)
            url = f"https://hooks.example.com/instancia/acme/status?phone={PHONE}"
            await api.admin.UpdateWebhook(pb.UpdateWebhookRequest(instance="acme", url=url))
            async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
                end = await post(http, callback("M", phone=PHONE))
            await api.get("M", min_cursor=end)
            shown = [await _webhook(api)]
            async for _ in api.admin.Forget(pb.ForgetRequest(phone=PHONE)):
                pass
            shown.append(await _webhook(api))
            async for _ in api.admin.RebuildViews(pb.RebuildViewsRequest()):
                pass
            shown.append(await _webhook(api))
            await api.channel.close()

    assert shown[0].state == pb.WEBHOOK_STATE_CONFIRMED
    assert shown[0] == shown[1] == shown[2]


async def _webhook(api: Api) -> pb.Webhook:
    response: pb.GetWebhookResponse = await api.admin.GetWebhook(
        pb.GetWebhookRequest(instance="acme")
    )
    return response.webhook
