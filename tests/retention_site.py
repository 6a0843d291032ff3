"""A history of every kind of event in real stores, what the views show, and the model of it."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from service.database.schema import Store
from service.domain.events import Place, Position, QuarantineReason
from service.domain.message import Message, MessageKey
from service.domain.progress import Progress
from service.eventlog.log import LogWriter
from service.projector.retention import ResultT, Retention
from service.views.feed import FeedFilter
from service.views.reader import StoredViewsReader
from service.views.store import MessageFilter, ViewsReader
from service.views.tables import TABLES
from tests import fold_model
from tests.fold_model import Key, Known, Model, Teller
from tests.rebuild_site import SMALL, RebuildSite
from tests.stores import log_writer, rows, stores_of, without_views

ALL = 10_000
ENDLESS = Position(2**62)


class Shown(NamedTuple):
    """All that the views show, or are to show."""

    messages: dict[Key, Known]
    feed: dict[fold_model.Place, tuple[str, str, str, int, bool]]
    quarantine: dict[int, QuarantineReason]
    webhooks: dict[str, fold_model.Webhook]
    instances: dict[str, fold_model.Instance]


class RetentionSite(RebuildSite):
    """Both stores as the projector's thread has them, and the model beside them."""

    def __init__(self, data_dir: Path, dice: random.Random) -> None:
        super().__init__(data_dir, [])
        self.model = Model()
        self._teller = Teller(dice)

    def record(self, events: int) -> None:
        """Record so many random events."""
        told = [self._teller.told() for _ in range(events)]
        self.write(lambda log: log.append([one.event for one in told]))
        for one in told:
            self.model.add(one)

    def tell(self, events: int) -> None:
        """Record them, and fold them into the live views."""
        self.record(events)
        self.follow()

    def removal(self, keep_from: int) -> Iterator[Progress]:
        """The steps of removing what stands before that position."""
        return Retention(Position(keep_from), self.write, self.cursors, SMALL)(self.hands)

    def cut(self, keep_from: int) -> list[Progress]:
        """All of them, in the model too."""
        steps = list(self.removal(keep_from))
        self.model.cut(keep_from)
        return steps

    def write(self, act: Callable[[LogWriter], ResultT]) -> ResultT:
        return write(self, act)

    def without_views(self) -> None:
        """The views are deleted, and built again from what the log holds."""
        self.close()
        without_views(self.data_dir)
        self.open()
        self.live.begin()
        self.views.prune(self.log.kept_from())
        self.follow()

    def shown(self) -> Shown:
        with closing(StoredViewsReader(stores_of(self.data_dir).views)) as reader:
            return shown(reader, self.views.kept_from())


def write(site: RebuildSite, act: Callable[[LogWriter], ResultT]) -> ResultT:
    """Do something with a writer of the log."""
    with closing(log_writer(site.data_dir)) as writer:
        return act(writer)


def expected(model: Model) -> Shown:
    """What the model says that the views have to show."""
    return Shown(
        model.messages(), model.feed(), model.quarantine(), model.webhooks(), model.instances()
    )


def shown(views: ViewsReader, kept_from: Position) -> Shown:
    """What the views show, in the model's terms."""
    before = Place(Position(kept_from - 1))
    every = FeedFilter(unchanged=True)
    feed = views.feed(before, views.checkpoint().mark, every, ALL, 2**40)
    page = views.last_changed(MessageFilter(), Place(ENDLESS), ALL, ALL)
    return Shown(
        messages={(one.instance, one.message_id): _known(views, one) for one in page.messages},
        feed={
            (row.place.position, row.place.index): (
                *(row.instance, row.message_id, row.phone),
                int(row.status),
                row.changed,
            )
            for row in feed.rows
        },
        quarantine={row.position: row.reason for row in views.quarantine((), ENDLESS, ALL)},
        webhooks={
            one.update_id: fold_model.Webhook(
                one.instance, one.attempt_position, one.state, one.url, one.url_in_force
            )
            for one in views.webhook_updates((), ENDLESS, ALL)
        },
        instances={
            one.instance: fold_model.Instance(
                one.last_callback_time_us, one.connection_state, one.connection_time_us
            )
            for one in views.instances("", ALL)
        },
    )


def _known(views: ViewsReader, message: Message) -> Known:
    recipients = views.recipients(MessageKey(message.instance, message.message_id), "", ALL)
    assert len(recipients) == message.recipient_count
    return Known(
        fold_model.State(
            rank=int(message.status),
            word=message.provider_status,
            phone=message.phone,
            group=message.group,
            stages=tuple(
                (int(one.status), one.occur_time_us, one.receive_time_us) for one in message.stages
            ),
            recipients=tuple(
                (
                    one.participant,
                    fold_model.Recipient(
                        int(one.status),
                        one.provider_status,
                        one.occur_time_us,
                        one.receive_time_us,
                    ),
                )
                for one in recipients
            ),
            code=message.failure_code,
            reason=message.failure_reason,
        ),
        message.report_count,
        message.update_time_us,
        (message.changed_at.position, message.changed_at.index),
        (message.first_at.position, message.first_at.index),
    )


def live_rows(data_dir: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the live views, byte for byte."""
    ((slot,),) = rows(data_dir, Store.VIEWS, "SELECT live_slot FROM views")
    return {
        name: sorted(rows(data_dir, Store.VIEWS, f"SELECT * FROM {table.name}"))
        for name, table in TABLES[slot]._asdict().items()
    }
