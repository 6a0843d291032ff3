"""The HTTP side on real sockets over a real SQLite log, in this process."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from service import config
from service.clock import Clock, SystemClock
from service.database import schema
from service.database.sqlite import SqliteDatabase
from service.domain.events import BEFORE_FIRST, Event
from service.eventlog.group_commit import GroupCommit
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from service.ingress.ingress import Ingress
from service.telemetry import Metrics
from service.wire.cursor import CursorCodec

PATIENCE_S = 15.0
"""Far more than any wait takes; a test that waits longer has found a hang."""

ACME = "/instancia/acme/status"
BODY = b'{"type":"MessageStatusCallback","status":"SENT","ids":["A"]}'
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, kw_only=True)
class Site:
    """A running ingress, its log, and what to look at it with."""

    ingress: Ingress
    metrics: Metrics
    log_path: Path
    cursors: CursorCodec
    http: httpx.AsyncClient
    """Of the webhook's address."""
    ops: httpx.AsyncClient

    async def post(self, content: bytes = BODY, path: str = ACME, **headers: str) -> httpx.Response:
        """Post a callback; further headers by name, `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, content=content, headers=JSON | named)

    def events(self) -> list[Event]:
        """All that the log holds."""
        with closing(StoredLogReader(SqliteDatabase(self.log_path))) as reader:
            return reader.read(BEFORE_FIRST, 1_000_000, 2**40)

    def contents(self) -> list[bytes]:
        return [event.content for event in self.events()]

    def outsider(self) -> sqlite3.Connection:
        """Another connection to the log's file, in autocommit, as an operator may open one."""
        return sqlite3.connect(self.log_path, isolation_level=None)

    async def connections(self, count: int) -> None:
        """Wait until the server holds so many; raises TimeoutError if it never does."""
        async with asyncio.timeout(PATIENCE_S):
            while self.metric("plugstatus_http_connections") != count:  # noqa: ASYNC110
                await asyncio.sleep(0)

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value; 0 if it was never touched."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def always_ready() -> Sequence[str]:
    return []


def settings(folder: Path, values: dict[str, str], limits: dict[str, Any]) -> config.Config:
    """A configuration with settings by name, and some limits replaced."""
    loaded = config.load({"DATA_DIR": str(folder), "HTTP_BIND": "127.0.0.1:0", **values})
    return replace(loaded, limits=replace(loaded.limits, **limits))


@asynccontextmanager
async def running(
    folder: Path,
    values: dict[str, str] | None = None,
    *,
    clock: Clock | None = None,
    readiness: Callable[[], Awaitable[Sequence[str]]] = always_ready,
    **limits: Any,
) -> AsyncIterator[Site]:
    """A site with a log in the folder, closed on exit; settings by name, limits as keywords."""
    loaded = settings(folder, values or {}, limits)
    path = folder / "events.db"
    schema.upgrade(schema.Store.EVENT_LOG, SqliteDatabase(path))
    with closing(StoredLogReader(SqliteDatabase(path))) as reader:
        cursors = CursorCodec(reader.identity)
    appender = _appender(path, loaded.limits)
    metrics = Metrics()
    ingress = Ingress(loaded, clock or SystemClock(), metrics, appender, cursors, readiness)
    appender.start()
    try:
        await ingress.start()
        async with _client(ingress.http_bind) as http, _client(ingress.ops_bind) as ops:
            yield Site(
                ingress=ingress,
                metrics=metrics,
                log_path=path,
                cursors=cursors,
                http=http,
                ops=ops,
            )
    finally:
        await ingress.close()
        await appender.close()


def problem(response: httpx.Response) -> int:
    """The status of a problem document, which the answer must be, whole and consistent."""
    document = json.loads(response.content)
    assert response.headers["content-type"] == "application/problem+json"
    assert set(document) == {"title", "status", "detail"}
    assert document["status"] == response.status_code
    return response.status_code


def _appender(path: Path, limits: config.Limits) -> GroupCommit:
    return GroupCommit(
        lambda: SqliteLogWriter(SqliteDatabase(path)),
        lambda: None,
        limits=limits,
    )


def _client(bind: config.Bind) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://{bind}", trust_env=False, timeout=20)
