"""The views, written: two slots, one connection."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from service import errors
from service.database.database import Connection, Database, Fence, opening, unfenced
from service.domain.events import Mark, Position
from service.domain.instance import Instance
from service.domain.message import Message, MessageKey, Recipient, RecipientKey
from service.domain.webhook import WebhookUpdate
from service.views import beside, messages, rows
from service.views import statements as sql
from service.views.comparison import compared
from service.views.faults import translated
from service.views.statements import Statements
from service.views.store import Ahead, Checkpoint, Comparison, ViewsBatch, always
from service.views.tables import SLOTS, TABLES

ADVANCED = "plugstatus_advanced"
"""The channel on which other processes hear that the views have moved on."""


class _Generation(NamedTuple):
    """A slot's row of `generations`."""

    checkpoint: Checkpoint
    kept_from: Position
    program: str


class _NotRecorded(Exception):
    """The events behind a batch are not in the log after all."""


class SlotWriter(ABC):
    """One slot, on a connection that someone else owns."""

    def __init__(self, connection: Connection, fence: Fence) -> None:
        self._connection = connection
        self._fence = fence
        self._common = beside.common(connection.dialect)

    def checkpoint(self) -> Checkpoint:
        return self._generation().checkpoint

    def kept_from(self) -> Position:
        return self._generation().kept_from

    def messages(self, keys: Collection[MessageKey]) -> dict[MessageKey, Message]:
        found = self._each(self._sql().message, keys)
        return {MessageKey(row[0], row[1]): rows.message_of(row) for row in found}

    def recipients(self, keys: Collection[RecipientKey]) -> dict[RecipientKey, Recipient]:
        found = self._each(self._sql().recipient, keys)
        return {RecipientKey(row[0], row[1], row[2]): rows.recipient_of(row) for row in found}

    def last_webhook(self, instance: str) -> WebhookUpdate | None:
        row = self._one(self._sql().last_webhook, (instance,))
        return rows.webhook_of(row) if row else None

    def webhook(self, update_id: str) -> WebhookUpdate | None:
        row = self._one(self._sql().webhook, (update_id,))
        return rows.webhook_of(row) if row else None

    def instance(self, name: str) -> Instance | None:
        row = self._one(self._sql().instance, (name,))
        return rows.instance_of(row) if row else None

    def keys_at(self, positions: Collection[Position]) -> set[MessageKey]:
        found = self._each(self._sql().keys_at, [(position,) for position in positions])
        return {MessageKey(row[0], row[1]) for row in found}

    def positions_of(self, keys: Collection[MessageKey]) -> list[Position]:
        return sorted({row[0] for row in self._each(self._sql().positions_of, keys)})

    def apply(
        self,
        batch: ViewsBatch,
        recorded: Callable[[], bool] = always,
        ahead: Ahead | None = None,
    ) -> bool:
        there = False
        with translated(self._connection):
            self._connection.expect_rewrites(many=ahead is not None)
        with suppress(_NotRecorded), self._transaction(ahead.work if ahead else None):
            self._write(batch)
            there = recorded()
            if not there:
                raise _NotRecorded
            if ahead is not None:
                ahead.look_up()
        if not there:
            return False
        with translated(self._connection):
            written = len(batch.messages) + len(batch.feed)
            self._connection.grown([table.name for table in TABLES[self._slot()]], written)
            self._connection.notify(ADVANCED)
        return True

    @abstractmethod
    def _slot(self) -> str:
        """Which one."""

    def _sql(self) -> Statements:
        return self._sql_of(self._slot())

    def _sql_of(self, slot: str) -> Statements:
        return sql.of_slot(self._connection.dialect, slot)

    def _generation(self) -> _Generation:
        row = self._one(self._common.generation, (self._slot(),))
        assert row is not None
        return _Generation(Checkpoint(row[0], Mark(row[1], row[2])), row[3], row[4])

    def _write(self, batch: ViewsBatch) -> None:
        slot = self._slot()
        since, until = batch.since, batch.until
        advanced = self._connection.execute(
            self._common.advance,
            (until.position, until.receive_time_us, slot, since.generation, since.mark.position),
        )
        if advanced.rowcount != 1:
            raise errors.CheckpointMoved(
                f"the views stand at {self.checkpoint()}, and the batch begins at {since}"
            )
        into = self._sql_of(slot)
        self._leave(into, batch.refolded, reports=True)
        upserts = messages.upserts(self._connection.dialect, slot)
        parts = messages.parted(batch.messages, batch.encoded, batch.stored)
        for statement, given in (
            (into.release, [(position,) for position in batch.released]),
            *zip(upserts, parts, strict=True),
            (into.upsert_recipient, [rows.recipient_row(*pair) for pair in batch.recipients]),
            (into.insert_feed, [*map(rows.feed_row, batch.feed)]),
            (into.upsert_quarantine, batch.quarantine),
            (into.upsert_webhook, [*map(rows.webhook_row, batch.webhooks)]),
            (into.upsert_instance, [*map(rows.instance_row, batch.instances)]),
        ):
            # Of a change most of it is empty, and asked for nothing a database takes its time too.
            if given:
                self._connection.executemany(statement, given)

    def _leave(self, of: Statements, keys: Collection[MessageKey], *, reports: bool) -> None:
        if not keys:
            return
        if reports:
            self._connection.executemany(of.leave_feed, keys)
        self._connection.executemany(of.leave_message, keys)
        self._connection.executemany(of.leave_recipients, keys)

    @contextmanager
    def _transaction(self, meanwhile: Callable[[], None] | None = None) -> Iterator[None]:
        with translated(self._connection), self._connection.transaction(meanwhile):
            self._fence(self._connection)
            yield

    def _one(self, statement: str, parameters: Sequence[Any] = ()) -> Sequence[Any] | None:
        with translated(self._connection):
            row: Sequence[Any] | None = self._connection.execute(statement, parameters).fetchone()
        return row

    def _each(self, statement: str, keys: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        with translated(self._connection):
            for found in self._connection.each(statement, keys):
                yield from found


class StoredViewsWriter(SlotWriter):
    """As a slot, the live one."""

    def __init__(self, database: Database, log_identity: str, fence: Fence = unfenced) -> None:
        """Raises StoreUnusable if it cannot be opened, or holds the views of another log.

        Every transaction begins with the fence.
        """
        super().__init__(database.connect_writer(), fence)
        with opening(self._connection, database.name):
            found = self._connection.execute(self._common.log_identity).fetchall()[0][0]
            if found not in ("", log_identity):
                raise errors.StoreUnusable(
                    f"{database.name} holds the views of another event log: move it away, and the "
                    "views are built again from this one"
                )
            if not found:
                self._connection.execute(self._common.set_log_identity, (log_identity,))
            self._live_slot = str(self._connection.execute(self._common.live).fetchall()[0][0])

    def close(self) -> None:
        self._connection.close()

    def spare(self) -> "StoredSpareWriter":
        return StoredSpareWriter(self._connection, self._fence)

    def switch(self) -> None:
        with self._transaction():
            spare = self.spare()
            live_mark, spare_mark = self.checkpoint().mark, spare.checkpoint().mark
            if live_mark != spare_mark:
                raise errors.CheckpointMoved(
                    f"the views stand at {live_mark}, and the rebuilt ones at {spare_mark}"
                )
            slot = spare.slot()
            self._connection.execute(self._common.switch, (slot,))
        # Not read again: a failing read must not leave the next batch to the other slot.
        self._live_slot = slot

    def compare(self, rows_max: int) -> Iterator[Comparison]:
        spare = self.spare()
        for table in TABLES[self._slot()]._fields:
            yield from compared(
                table,
                TABLES[self._slot()]._asdict()[table],
                partial(self._page, self._slot(), table, rows_max),
                partial(self._page, spare.slot(), table, rows_max),
                rows_max,
            )

    def ended_before(self, position: Position) -> list[MessageKey]:
        with translated(self._connection):
            found = self._connection.execute(self._sql().ended_before, (position, position))
            return list({MessageKey(row[0], row[1]): None for row in found})

    def prune(self, kept_from: Position) -> None:
        of, slot = self._sql(), self._slot()
        ended = self.ended_before(kept_from)
        with self._transaction():
            execute = self._connection.execute
            self._leave(of, ended, reports=False)
            execute(of.expire_feed, (kept_from,))
            execute(of.expire_quarantine, (kept_from,))
            execute(of.expire_webhooks, (kept_from, kept_from))
            execute(self._common.keep_from, (kept_from, slot))

    def rewrite(self) -> None:
        with translated(self._connection):
            self._connection.rewrite()

    def wipe(self) -> bool:
        with translated(self._connection):
            return self._connection.wipe()

    def _slot(self) -> str:
        return self._live_slot

    def _page(
        self, slot: str, table: str, rows_max: int, after: Sequence[Any]
    ) -> list[tuple[Any, ...]]:
        with translated(self._connection):
            return self._connection.execute(
                self._sql_of(slot).pages[table], (*after, rows_max)
            ).fetchall()


class StoredSpareWriter(SlotWriter):
    """The slot beside the live one."""

    def program(self) -> str:
        return self._generation().program

    def clear(self, rows_max: int) -> int:
        cleared = 0
        with self._transaction():
            self._connection.execute(self._common.begin_generation, (0, 0, 0, 1, "", self._slot()))
            for statement in self._sql().clear.values():
                if cleared < rows_max:
                    cleared += self._connection.execute(statement, (rows_max - cleared,)).rowcount
        return cleared

    def begin(self, generation: int, kept_from: Position, program: str) -> None:
        with self._transaction():
            self._connection.execute(
                self._common.begin_generation, (generation, 0, 0, kept_from, program, self._slot())
            )

    def slot(self) -> str:
        """Its name."""
        return self._slot()

    def _slot(self) -> str:
        # Asked for at every use: a switch makes it the other one.
        row = self._one(self._common.live)
        assert row is not None
        return next(slot for slot in SLOTS if slot != row[0])
