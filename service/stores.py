"""The two stores of a configuration: what they are, and how each is opened.

Embedded (SQLite) they are files that one process owns: it takes their folders, and creates and
upgrades them by itself. On PostgreSQL any number of processes share them, and `migrate` upgrades.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from service import errors
from service.clock import Clock
from service.config import Config, Limits
from service.database import schema
from service.database.database import Database, Fence, unfenced
from service.database.lease import Leases
from service.database.listener import Listener
from service.database.lock import DataDirLock
from service.database.opening import database_of
from service.database.schema import Store
from service.database.soundness import require_sound
from service.database.sqlite import SqliteDatabase
from service.database.turns import LeasedTurns, LocalTurns, Turns
from service.domain.progress import Progress
from service.eventlog.copying import Copying
from service.eventlog.log import LogReader, LogWriter
from service.eventlog.reader import StoredLogReader
from service.eventlog.spool import Spool
from service.eventlog.sqlite import SqliteLogWriter
from service.eventlog.writer import APPENDED
from service.projector.leadership import Leadership, LeasedLeadership, SoleLeader
from service.upkeep import backup
from service.upkeep.backup import Tell, require_restored
from service.views.reader import StoredViewsReader
from service.views.store import ViewsReader, ViewsWriter
from service.views.writer import ADVANCED, StoredViewsWriter

START_CHECK_BYTES_MAX = 64 * 1024 * 1024
CHECK_BYTES_MAX = 2 * 1024 * 1024 * 1024
"""Of files up to here the whole structure is looked at, at a start and by `check`. Of larger ones
whether they are whole; `check --full` looks at all."""

_ADVICE = {
    Store.EVENT_LOG: "restore a backup, or see Damage in docs/operating.md",
    Store.VIEWS: "move it away, and the next start builds the views again from the log",
}


class Stores:
    """Every `open_…` raises StoreUnusable if the database cannot be reached."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigInvalid for URLs that do not go together."""
        self.data_dir = config.data_dir
        self.events = database_of(
            "PLUGSTATUS_EVENTS_URL", config.events_url.reveal(), Store.EVENT_LOG
        )
        self.views = database_of("PLUGSTATUS_VIEWS_URL", config.views_url.reveal(), Store.VIEWS)
        if self.events.dialect is not self.views.dialect:
            raise errors.ConfigInvalid(
                "PLUGSTATUS_VIEWS_URL", "both stores are SQLite, or both PostgreSQL"
            )
        if self.embedded and self.events.same_place(self.views):
            raise errors.ConfigInvalid(
                "PLUGSTATUS_VIEWS_URL", "is the event log's file: name another one"
            )

    @property
    def embedded(self) -> bool:
        """Files of this machine that one process owns."""
        return isinstance(self.events, SqliteDatabase)

    def databases(self) -> list[Database]:
        """Each one once."""
        return [self.events] if self.events.same_place(self.views) else [self.events, self.views]

    def exist(self) -> bool:
        """Is there anything to work on? Raises StoreUnusable if that cannot be said."""
        return self.events.exists()

    def lock(self) -> ExitStack:
        """Take the data folder, and the folders of embedded stores, for this process, until closed.

        A store may stand outside the data folder, and two processes must never write one file.
        Raises DataDirInUse, ConfigInvalid.
        """
        files = [one.path for one in (self.events, self.views) if isinstance(one, SqliteDatabase)]
        folders = {self.data_dir, *(file.parent for file in files)}
        with ExitStack() as locks:
            for folder in sorted({folder.resolve() for folder in folders}):
                locks.callback(DataDirLock(folder).release)
            return locks.pop_all()

    def prepare(self) -> None:
        """Embedded stores are created and upgraded; those that are shared have to be current.

        Raises SchemaOlder, SchemaNewer, StoreUnusable.
        """
        for store, database in self._each():
            if isinstance(database, SqliteDatabase):
                require_restored(database)
                if database.exists():
                    require_sound(database, _ADVICE[store], START_CHECK_BYTES_MAX)
                schema.upgrade(store, database)
            else:
                schema.require_current(store, database)

    def check_soundness(self, store: Store, *, thorough: bool) -> None:
        """Of an embedded one. Raises StoreUnusable if its file is found to be damaged."""
        database = self.events if store is Store.EVENT_LOG else self.views
        if isinstance(database, SqliteDatabase):
            require_restored(database)
            if database.exists():
                require_sound(database, _ADVICE[store], None if thorough else CHECK_BYTES_MAX)

    def upgrade(self) -> list[tuple[str, str, str]]:
        """Bring both to this program's schema: each one's label, place and revision.

        Raises SchemaNewer, StoreUnusable.
        """
        return [
            (store.label, database.name, schema.upgrade(store, database))
            for store, database in self._each()
        ]

    def states(self) -> list[schema.StoreState]:
        """What each of them runs on. Raises StoreUnusable if one cannot be read."""
        return [schema.state(store, database) for store, database in self._each()]

    def open_log_reader(self) -> LogReader:
        return StoredLogReader(self.events)

    def log_writer_opener(self, spool: Spool | None, limits: Limits) -> Callable[[], LogWriter]:
        """Opens this process's log writer; one with a spool owns that, and is opened once."""
        if self.embedded:
            return lambda: SqliteLogWriter(self.events)
        # As in `opening`: only with the driver.
        from service.eventlog.postgres import PostgresLogWriter
        from service.eventlog.spooling import SpoolingLogWriter

        if spool is None:
            return lambda: PostgresLogWriter(self.events)
        return lambda: SpoolingLogWriter(
            lambda: PostgresLogWriter(self.events),
            spool,
            retry_s=limits.retry_s,
            events_max=limits.batch_events_max,
            bytes_max=limits.batch_bytes_max,
        )

    def open_views_reader(self) -> ViewsReader:
        return StoredViewsReader(self.views)

    def open_views_writer(self, log_identity: str, fence: Fence = unfenced) -> ViewsWriter:
        """Raises StoreUnusable too if they are the views of another log."""
        return StoredViewsWriter(self.views, log_identity, fence)

    def leadership(self, limits: Limits) -> Leadership:
        """Which process projects."""
        if self.embedded:
            return SoleLeader()
        return LeasedLeadership(Leases(self.views, limits.lease_s), limits.renew_s)

    def turns(self, limits: Limits) -> Turns:
        """Of what is done by one process at a time."""
        if self.embedded:
            return LocalTurns()
        return LeasedTurns(Leases(self.events, limits.lease_s), limits.renew_s, limits.stand_by_s)

    def listeners(
        self, appended: Callable[[], None], advanced: Callable[[], None], retry_s: float
    ) -> list[Listener]:
        """What hears of other processes' changes; none where there are none. Not started."""
        if self.embedded:
            return []
        if self.events.same_place(self.views):
            return [Listener(self.events, {APPENDED: appended, ADVANCED: advanced}, retry_s)]
        return [
            Listener(self.events, {APPENDED: appended}, retry_s),
            Listener(self.views, {ADVANCED: advanced}, retry_s),
        ]

    def _each(self) -> list[tuple[Store, Database]]:
        return [(Store.EVENT_LOG, self.events), (Store.VIEWS, self.views)]


@contextmanager
def copying(source_url: str, target_url: str) -> Iterator[Iterator[Progress]]:
    """The steps of carrying a log to another database; nobody may serve either meanwhile.

    Raises ConfigInvalid, DataDirInUse, SchemaOlder, SchemaNewer, StoreUnusable.
    """
    source = database_of("--from", source_url, Store.EVENT_LOG)
    target = database_of("--to", target_url, Store.EVENT_LOG)
    if source.same_place(target):
        raise errors.ConfigInvalid("--to", "names the log that is to be copied: name another one")
    if not source.exists():
        raise errors.ConfigInvalid("--from", f"there is no event log: {source.name}")
    with ExitStack() as held:
        files = [one.path for one in (source, target) if isinstance(one, SqliteDatabase)]
        for folder in sorted({file.parent.resolve() for file in files}):
            held.callback(DataDirLock(folder).release)
        work = Copying(source, target)
        held.callback(work.close)
        yield work.steps()


def back_up(config: Config, folder: Path, clock: Clock, tell: Tell) -> str:
    """Copy the stores to a folder, also while they are served; what came of it.

    Raises ConfigInvalid, SchemaOlder, SchemaNewer, StoreUnusable, LogUnavailable.
    """
    stores = Stores(config)
    if not stores.exist():
        raise errors.StoreUnusable(f"there is no event log: {stores.events.name}")
    if isinstance(stores.events, SqliteDatabase):
        views = stores.views if isinstance(stores.views, SqliteDatabase) else None
        return backup.backup(stores.events, views, folder, clock, tell)
    backup.make(folder)
    with closing(Copying(stores.events, SqliteDatabase(folder / backup.EVENTS))) as work:
        for progress in work.steps(online=True):
            tell(progress)
    try:
        return backup.describe(folder, clock, tell)
    except OSError as error:
        raise errors.StoreUnusable(f"the backup failed: {error}") from error


def restore(config: Config, folder: Path, clock: Clock, tell: Tell) -> str:
    """Put a backup in place of the stores; what came of it.

    Raises ConfigInvalid, DataDirInUse, SchemaOlder, SchemaNewer, StoreUnusable, LogUnavailable.
    """
    stores = Stores(config)
    described = backup.described(folder)
    if isinstance(stores.events, SqliteDatabase) and isinstance(stores.views, SqliteDatabase):
        with stores.lock():
            return backup.restore(folder, stores.events, stores.views, clock, tell)
    source = SqliteDatabase(folder / backup.EVENTS)
    with closing(Copying(source, stores.events)) as work:
        for progress in work.steps():
            tell(progress)
    return f"restored, up to position {described.head_position}; the next start folds it"


def migrate(config: Config) -> list[tuple[str, str, str]]:
    """Create or upgrade both stores: label, place and revision of each.

    Embedded ones only while nobody serves them. Raises DataDirInUse, SchemaNewer, StoreUnusable.
    """
    stores = Stores(config)
    if not stores.embedded:
        return stores.upgrade()
    with stores.lock():
        return stores.upgrade()
