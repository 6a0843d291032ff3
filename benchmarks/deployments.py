"""What each way of deploying takes in: callbacks recorded, and folded, a second.

Every way is loaded in turn, again and again, over 64 connections that post as fast as they are
answered; then its projector is awaited. All of it, the database and the load too, shares this
machine, so only the ratios to the first line mean something.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from benchmarks.databases import durable_database_url
from benchmarks.wrk import VariedLoad
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.server_process import ServerProcess

ROUNDS = 3
SLICE_S = 4.0
CONNECTIONS = 64


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
    loads = [
        VariedLoad(one.http.removeprefix("http://"), CONNECTIONS // len(deployment.ingress))
        for one in deployment.ingress
    ]
    began_s = time.monotonic()
    with ExitStack() as running:
        enders = [running.enter_context(load.running()) for load in loads]
        time.sleep(SLICE_S)
        done = [ended() for ended in enders]
    recorded = sum(one.requests for one in done)
    while _behind(deployment.api):
        pass
    folded_s = time.monotonic() - began_s
    return Measured(sum(one.requests / one.seconds for one in done), recorded / folded_s)


def _behind(server: ServerProcess) -> int:
    with grpc.insecure_channel(server.grpc) as channel:
        admin: Any = stubs.AdminServiceStub(channel)
        status = admin.GetServiceStatus(pb.GetServiceStatusRequest(), timeout=10)
    return int(status.lag_events)
