"""What `check` looks at: each thing the service depends on, and what to do when it is not right."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

from service import tls
from service.api.access import Access
from service.clock import US_PER_S, SystemClock
from service.config import PREFIX, Config
from service.database import schema
from service.database.lock import holder_of
from service.database.schema import Store
from service.domain.events import Position
from service.errors import StoreUnusable
from service.eventlog.log import LogReader
from service.eventlog.spool import filling_of
from service.ingress.tokens import WebhookTokens
from service.plugchat.client import PlugchatClient
from service.plugchat.credentials import Credentials
from service.spools import spools
from service.stores import Stores
from service.tls import TlsFiles

Check = Callable[[], str]
"""Says what was found. Raises OperatorError or RetryLater with what to do."""

_FIXED_SQLITE = (3, 51, 3)
_NEWEST = 10_000
"""Events whose checksums are looked at without --full."""

_PAGE_EVENTS, _PAGE_BYTES = 2_000, 8 * 1024 * 1024
_SOON_US = 14 * 24 * 3_600 * US_PER_S


def checks(config: Config, *, full: bool) -> Iterator[tuple[str, Check]]:
    """Each dependency's name and its check, the ones others rest on first."""
    stores = Stores(config)
    if stores.embedded:
        yield "SQLite", _sqlite
    else:
        yield "PostgreSQL", lambda: _postgres(stores)
    yield "data folder", lambda: _data_dir(config)
    yield "event log", lambda: _event_log(stores, full)
    yield "views", lambda: _views(stores, full)
    if config.spool:
        yield "spool", lambda: _spool(config)
    yield "webhook token", lambda: _webhook_token(config)
    yield "API tokens", lambda: _api_tokens(config)
    yield "TLS for HTTP", lambda: _tls(tls.of_http(config, SystemClock()))
    yield "TLS for gRPC", lambda: _tls(tls.of_grpc(config, SystemClock()))
    yield "PlugChat", lambda: _plugchat(config)


def _sqlite() -> str:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= _FIXED_SQLITE:
        return version
    return f"{version}; its WAL-reset bug cannot strike, as each file has one writing connection"


def _postgres(stores: Stores) -> str:
    told = []
    for database in stores.databases():
        with closing(database.connect_reader()) as connection:
            version = connection.engine_version
            waits_for = connection.execute("SHOW synchronous_standby_names").fetchall()[0][0]
            most = connection.execute("SHOW max_connections").fetchall()[0][0]
        quorum = f"commits wait for {waits_for}" if waits_for else "commits wait for no standby"
        told.append(f"{version}, {quorum}, {most} connections at most")
    return "; ".join(told)


def _spool(config: Config) -> str:
    filled = [
        f"{filling.event_count} callbacks, {filling.content_bytes} bytes, wait in {path} for the "
        "event log"
        for path in spools(config).values()
        if (filling := filling_of(path)).event_count
    ]
    return "; ".join(filled) or f"empty, at most {config.spool_bytes_max} bytes"


def _data_dir(config: Config) -> str:
    folder = config.data_dir
    if not folder.is_dir():
        raise StoreUnusable(f"{folder} does not exist: run `plugstatus migrate` or `serve`")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise StoreUnusable(f"{folder} cannot be written: give this user the right to")
    holder = holder_of(folder)
    return f"{folder}, in use by {holder}" if holder else f"{folder}, not in use"


def _event_log(stores: Stores, full: bool) -> str:
    stores.check_soundness(Store.EVENT_LOG, thorough=full)
    schema.require_current(Store.EVENT_LOG, stores.events)
    with closing(stores.open_log_reader()) as log:
        head = log.head()
        first = log.kept_from() if full else Position(max(1, head.position - _NEWEST))
        looked_at, damaged = _damaged(log, first)
    if damaged:
        raise StoreUnusable(
            f"{len(damaged)} of {looked_at} events are not what was recorded, the first one at "
            f"position {damaged[0]}: see Damage in docs/operating.md"
        )
    revision = schema.known_revision(Store.EVENT_LOG)
    which = "all" if full else "newest"
    return f"revision {revision}, last position {head.position}, {which} {looked_at} events whole"


def _damaged(log: LogReader, first: Position) -> tuple[int, list[Position]]:
    """How many events there are from that position on, and where the damaged ones are."""
    looked_at, damaged, after = 0, [], Position(first - 1)
    while page := log.read(after, _PAGE_EVENTS, _PAGE_BYTES):
        looked_at += len(page)
        damaged += [event.position for event in page if event.damaged]
        after = page[-1].position
    return looked_at, damaged


def _views(stores: Stores, full: bool) -> str:
    stores.check_soundness(Store.VIEWS, thorough=full)
    schema.require_current(Store.VIEWS, stores.views)
    with closing(stores.open_views_reader()) as views:
        checkpoint = views.checkpoint()
    revision = schema.known_revision(Store.VIEWS)
    return f"revision {revision}, folded up to position {checkpoint.mark.position}"


def _webhook_token(config: Config) -> str:
    count = len(WebhookTokens(config, SystemClock()))
    if count:
        return f"{count} accepted"
    return f"none: whoever reaches {config.http_bind} can post ({PREFIX}WEBHOOK_TOKEN)"


def _api_tokens(config: Config) -> str:
    callers = Access(config, SystemClock()).callers()
    if not callers:
        return f"none: whoever reaches {config.grpc_bind} is admin ({PREFIX}API_TOKENS_FILE)"
    admins = sum("admin" in caller.roles for caller in callers)
    limited = sum(bool(caller.instances) for caller in callers)
    return f"{len(callers)}, of which {admins} admin, {limited} limited to some instances"


def _tls(files: TlsFiles | None) -> str:
    if files is None:
        return "none: what goes over it can be read on its way"
    chain = files.current()
    now_us = SystemClock().now_us()
    day = tls.date_of(chain.not_after_us)
    if not chain.not_before_us <= now_us <= chain.not_after_us:
        if now_us > chain.not_after_us:
            raise StoreUnusable(f"the certificate expired on {day}: replace it and its key")
        raise StoreUnusable(
            f"the certificate is valid only from {tls.date_of(chain.not_before_us)} on: look at "
            "this machine's clock, or replace it"
        )
    mutual = ", clients need one too" if chain.client_ca else ""
    soon = ": replace it soon" if chain.not_after_us - now_us < _SOON_US else ""
    return f"for {', '.join(chain.names)}{mutual}, until {day}{soon}"


def _plugchat(config: Config) -> str:
    clock = SystemClock()
    PlugchatClient(config, clock)
    instances = Credentials(config, clock).instances()
    if not instances:
        return f"no authorization, so no UpdateWebhook ({PREFIX}PLUGCHAT_CREDENTIALS_FILE)"
    return f"{config.plugchat_url}, authorization for {', '.join(sorted(instances))}"
