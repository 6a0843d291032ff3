"""UpdateWebhook's process over the real log and views, as the service runs it, to be tested."""

import asyncio
import dataclasses
import json
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import trustme

from service import config, errors
from service.api.access import Caller
from service.api.webhooks import WebhookUpdates
from service.clock import SystemClock
from service.config import Limits
from service.database import schema
from service.database.database import Fence
from service.database.readers import ReaderPool
from service.database.sqlite import SqliteDatabase
from service.database.turns import LocalTurns
from service.domain.events import Event, EventKind, NewEvent, Position
from service.domain.webhook import WebhookState, WebhookUpdate
from service.eventlog.group_commit import GroupCommit
from service.eventlog.log import LogReader
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from service.plugchat.client import PlugchatClient
from service.plugchat.credentials import Credentials
from service.projector.leadership import SoleLeader
from service.projector.runner import Projector
from service.telemetry import Metrics
from service.views.reader import StoredViewsReader
from service.views.store import ViewsReader
from service.views.writer import StoredViewsWriter
from service.wire.cursor import CursorCodec
from tests.provider import Provider

URL = "https://hooks.example.com/instancia/acme/status?token=webhook-s3cret"
REDACTED = "https://hooks.example.com/instancia/acme/status?token=REDACTED"
OTHER_URL = "https://hooks.example.com/other"
LIMITS = Limits(
    provider_attempt_s=5.0, provider_backoff_s=0.0, retry_s=0.0, poll_s=5.0, readers_max=2
)
CREDENTIALS = """
[instance.acme]
authorization = "Bearer pl-s3cret"
[instance.umbrella]
authorization = "Bearer other-pl-s3cret"
"""
AUTHORITY = trustme.CA()
"""Signs the provider's certificate."""

_BILLING = Caller("billing", frozenset({"admin"}))


class Stores:
    """The log, its appender, the projector and the views, as the service runs them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.metrics = Metrics()
        self._advanced = asyncio.Event()
        self._views_held = False

    async def start(self) -> None:
        events, views = self._folder / "events.db", self._folder / "views.db"
        schema.upgrade(schema.Store.EVENT_LOG, SqliteDatabase(events))
        schema.upgrade(schema.Store.VIEWS, SqliteDatabase(views))
        reader = StoredLogReader(SqliteDatabase(events))
        identity = reader.identity
        reader.close()
        loop = asyncio.get_running_loop()

        def advanced() -> None:
            loop.call_soon_threadsafe(self._advanced.set)

        self.projector = Projector(
            open_log=lambda: StoredLogReader(SqliteDatabase(events)),
            open_views=partial(StoredViewsWriter, SqliteDatabase(views), identity),
            leadership=SoleLeader(),
            eager=True,
            cursors=CursorCodec(identity),
            on_advance=lambda _: advanced(),
            clock=SystemClock(),
            limits=LIMITS,
            metrics=self.metrics,
        )
        self.appender = GroupCommit(
            lambda: SqliteLogWriter(SqliteDatabase(events)),
            self.projector.wake,
            limits=Limits(),
        )
        self.log: ReaderPool[LogReader] = ReaderPool(
            "log", lambda: StoredLogReader(SqliteDatabase(events)), 2, errors.LogUnavailable
        )
        self.views: ReaderPool[ViewsReader] = ReaderPool(
            "views", lambda: StoredViewsReader(SqliteDatabase(views)), 2, errors.ViewsUnavailable
        )
        self.projector.start()
        self.appender.start()

    async def stop(self) -> None:
        await self.appender.close()
        await self.projector.stop()
        self.log.close()
        self.views.close()

    async def views_reached(self, position: Position, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._advanced.clear()
                    checkpoint = await self.views.run(lambda views: views.checkpoint())
                    if checkpoint.mark.position >= position and not self._views_held:
                        return
                    await self._advanced.wait()
        except TimeoutError:
            raise errors.ViewsBehind("the views are behind") from None

    def hold_views(self) -> None:
        """From now on no position is ever reached."""
        self._views_held = True

    async def folded(self) -> None:
        """Return once the views stand at the log's head."""
        head = await self.log.run(lambda log: log.head())
        await self.views_reached(head.position, 10)

    async def events(self, *kinds: EventKind) -> list[Event]:
        found = await self.log.run(lambda log: log.read(Position(0), 1_000, 1 << 20))
        return [event for event in found if not kinds or event.kind in kinds]

    async def outcomes(self) -> list[str]:
        """The states of the recorded outcomes, in log order."""
        return [
            WebhookState(json.loads(event.content)["state"]).name
            for event in await self.events(EventKind.WEBHOOK_OUTCOME)
        ]

    async def record_callback(self, instance: str) -> None:
        body = b'{"type":"MessageStatusCallback","status":"SENT","ids":["1"],"phone":"55"}'
        await self.appender.append(
            NewEvent(instance, SystemClock().now_us(), EventKind.CALLBACK, body)
        )
        await self.folded()


class WatchedTurns:
    """Turns that tell when a name was asked for so many times."""

    def __init__(self) -> None:
        self._turns = LocalTurns()
        self._asked: list[str] = []
        self._changed = asyncio.Event()

    def turn(self, name: str) -> AbstractAsyncContextManager[Fence]:
        self._asked.append(name)
        self._changed.set()
        return self._turns.turn(name)

    def close(self) -> None:
        self._turns.close()

    def __len__(self) -> int:
        return len(self._turns)

    async def asked(self, name: str, times: int) -> None:
        while self._asked.count(name) < times:
            self._changed.clear()
            await self._changed.wait()


class Updates:
    """Makes the process under test, and calls it with defaults."""

    def __init__(self, folder: Path, plugchat: Provider, stores: Stores) -> None:
        self._folder = folder
        self._plugchat = plugchat
        self._stores = stores
        self.turns = WatchedTurns()
        self.process = self.make()

    def make(self, *, appender: Any = None, **limits: Any) -> WebhookUpdates:
        """Another process over the same stores, with other limits or appender."""
        (self._folder / "credentials.toml").write_text(CREDENTIALS)
        AUTHORITY.cert_pem.write_to_path(str(self._folder / "ca.pem"))
        settings = dataclasses.replace(
            config.load(
                {
                    "DATA_DIR": str(self._folder),
                    "PLUGCHAT_URL": self._plugchat.url,
                    "PLUGCHAT_CA_FILE": str(self._folder / "ca.pem"),
                    "PLUGCHAT_CREDENTIALS_FILE": str(self._folder / "credentials.toml"),
                }
            ),
            limits=dataclasses.replace(LIMITS, **limits),
        )
        self.process = WebhookUpdates(
            appender=appender or self._stores.appender,
            log=self._stores.log,
            views=self._stores.views,
            views_reached=self._stores.views_reached,
            plugchat=PlugchatClient(settings, SystemClock()),
            credentials=Credentials(settings, SystemClock()),
            clock=SystemClock(),
            limits=settings.limits,
            allowed_hosts=frozenset({"hooks.example.com"}),
            metrics=self._stores.metrics,
            turns=self.turns,
        )
        return self.process

    async def __call__(
        self, url: str = URL, instance: str = "acme", **fields: Any
    ) -> WebhookUpdate:
        given = {"validate_only": False, "request_id": "", "caller": _BILLING, **fields}
        return await self.process.update(instance, url, **given)

    def begin(self, *args: Any, **fields: Any) -> asyncio.Task[WebhookUpdate]:
        return asyncio.create_task(self(*args, **fields))


class FailingAppender:
    """Appends, except that the next so many outcomes fail."""

    def __init__(self, appender: GroupCommit, failures: int) -> None:
        self._appender = appender
        self.failures = failures
        self.failed = asyncio.Event()

    def append(self, event: NewEvent) -> asyncio.Future[Position]:
        if event.kind is EventKind.WEBHOOK_OUTCOME and self.failures:
            self.failures -= 1
            self.failed.set()
            raise errors.LogUnavailable("disk full")
        return self._appender.append(event)
