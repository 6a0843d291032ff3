"""What each way of deploying takes in: callbacks recorded, and folded, a second.

Every way is loaded in turn, again and again, over 32 connections that post as fast as they are
answered; then its projector is awaited. All of it, the database and the load too, shares this
machine, so only the ratios to the first line mean something.
"""

import asyncio
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from benchmarks.databases import durable_database_url
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests import stores
from tests.server_process import ServerProcess

ROUNDS = 3
SLICE_S = 4.0
CONNECTIONS = 32
_MESSAGES = 200_000


class Deployment(NamedTuple):
    """Where callbacks go in, and who is asked."""

    ingress: Sequence[ServerProcess]
    api: ServerProcess


class Measured(NamedTuple):
    recorded_per_s: float
    folded_per_s: float


def run() -> list[str]:
    """The table's lines."""
    ways = {
        "SQLite, one process": _embedded,
        "PostgreSQL, one process": _together,
        "PostgreSQL, 2 workers": _working,
        "PostgreSQL, roles apart, 2 ingress": _apart,
    }
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    for _, (name, way) in itertools.product(range(ROUNDS), ways.items()):
        with tempfile.TemporaryDirectory() as folder, way(Path(folder)) as deployment:
            found[name].append(_loaded(deployment))
    lines = [f"{'':36}{'recorded':>10}{'folded':>10}"]
    first: Measured | None = None
    for name, each in found.items():
        middle = Measured(*(statistics.median(column) for column in zip(*each, strict=True)))
        first = first or middle
        recorded, folded = (one / other for one, other in zip(middle, first, strict=True))
        lines.append(f"{name:36}{recorded:>10.2f}{folded:>10.2f}")
    assert first is not None
    lines.append(f"{'1.00 is, a second':36}{first[0]:>10.0f}{first[1]:>10.0f}")
    return lines


@contextmanager
def _embedded(folder: Path) -> Iterator[Deployment]:
    with ServerProcess(folder / "data") as server:
        yield Deployment([server], server)


@contextmanager
def _together(folder: Path) -> Iterator[Deployment]:
    settings = {"EVENTS_URL": durable_database_url(folder)}
    with ServerProcess(folder / "data", settings) as server:
        yield Deployment([server], server)


@contextmanager
def _working(folder: Path) -> Iterator[Deployment]:
    settings = {"EVENTS_URL": durable_database_url(folder), "OPS_BIND": "127.0.0.1:0"}
    with ServerProcess(folder / "data", settings, arguments=["--workers", "2"]) as server:
        yield Deployment([server], server)


@contextmanager
def _apart(folder: Path) -> Iterator[Deployment]:
    with ExitStack() as running:
        url = durable_database_url(folder)

        def process(name: str, role: str) -> ServerProcess:
            settings = {"EVENTS_URL": url, "ROLES": role, "OPS_BIND": "127.0.0.1:0"}
            return running.enter_context(ServerProcess(folder / name, settings))

        process("projector", "projector")
        yield Deployment(
            [process("ingress-1", "ingress"), process("ingress-2", "ingress")],
            process("api", "api"),
        )


def _loaded(deployment: Deployment) -> Measured:
    began_s = time.monotonic()
    recorded = asyncio.run(_load(deployment.ingress))
    loaded_s = time.monotonic() - began_s
    while _behind(deployment.api):
        pass
    return Measured(recorded / loaded_s, recorded / (time.monotonic() - began_s))


async def _load(ingress: Sequence[ServerProcess]) -> int:
    end_s = time.monotonic() + SLICE_S
    targets = itertools.islice(itertools.cycle(ingress), CONNECTIONS)
    return sum(await asyncio.gather(*(_post_until(one.http, end_s) for one in targets)))


async def _post_until(url: str, end_s: float) -> int:
    """Post one callback after the other; how many were recorded."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    recorded = 0
    while time.monotonic() < end_s:
        body = json.dumps(
            {
                "type": "MessageStatusCallback",
                "status": random.choice(["SENT", "RECEIVED", "READ"]),
                "ids": [f"3EB0{random.randrange(_MESSAGES):016X}"],
                "phone": "5511900000102",
            }
        ).encode()
        writer.write(
            b"POST /instancia/bench/status HTTP/1.1\r\nhost: bench\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = await reader.readexactly(length)
        assert b'"recorded"' in answer, answer
        recorded += 1
    writer.close()
    return recorded


def _behind(server: ServerProcess) -> int:
    with grpc.insecure_channel(server.grpc) as channel:
        admin: Any = stubs.AdminServiceStub(channel)
        status = admin.GetServiceStatus(pb.GetServiceStatusRequest(), timeout=10)
    return int(status.lag_events)


if __name__ == "__main__":
    os.environ.pop(stores.VARIABLE, None)
    print("\n".join(run()))
