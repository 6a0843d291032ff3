"""Both stores of a data folder as the projector's thread has them, stepped by hand."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from service.clock import Clock
from service.config import Limits
from service.domain.events import EventKind, NewEvent, Place, Position, QuarantineReason
from service.domain.progress import Progress
from service.domain.webhook import Attempt
from service.eventlog.log import LogWriter
from service.eventlog.reader import StoredLogReader
from service.projector.follower import Follower
from service.projector.rebuild import Rebuild
from service.projector.retention import ResultT, Retention
from service.projector.task import Hands
from service.views.reader import StoredViewsReader
from service.views.store import MessageFilter
from service.views.writer import StoredViewsWriter
from service.wire.cursor import CursorCodec
from tests.clock import FakeClock
from tests.histories import BEGIN_US, Said, State, events_of, random_callbacks, recorded
from tests.stores import log_writer, stores_of

SMALL = Limits(rebuild_events_max=7, clear_rows_max=10, compare_rows_max=5, retention_events_max=20)
"""Steps so small that a short history takes many."""


class RebuildSite:
    """A log of these callbacks and the views folded from it."""

    def __init__(self, data_dir: Path, said: list[Said], clock: Clock | None = None) -> None:
        recorded(data_dir, said)
        self.data_dir = data_dir
        self.said = list(said)
        self.clock = clock or FakeClock()
        self.open()

    def open(self) -> None:
        """Both stores anew, as after a kill."""
        self.log = StoredLogReader(stores_of(self.data_dir).events)
        self.views = StoredViewsWriter(stores_of(self.data_dir).views, self.log.identity)
        self.cursors = CursorCodec(self.log.identity)
        self.live = Follower(self.log, self.views, self.cursors, SMALL, SMALL.fold_events_max)

    def close(self) -> None:
        self.log.close()
        self.views.close()

    def append(self, said: list[Said]) -> None:
        """Record these, and fold them into the live views."""
        with closing(log_writer(self.data_dir)) as writer:
            writer.append(events_of(said, len(self.said) + 1))
        self.said += said
        self.follow()

    def attempt(self, instance: str) -> None:
        """A webhook update without an outcome."""
        attempt = Attempt("u1", "", "https://hooks.example/", "0f" * 32, "local")
        content = msgspec.json.encode(attempt)
        event = NewEvent(instance, BEGIN_US + 10**6, EventKind.WEBHOOK_ATTEMPT, content)
        with closing(log_writer(self.data_dir)) as writer:
            writer.append([event])
        self.follow()

    def follow(self) -> None:
        while events := self.live.waiting():
            self.live.advance(events)

    def steps(self, *, check: bool = False, limits: Limits = SMALL) -> Iterator[Progress]:
        """Of a rebuild."""
        return Rebuild(self.cursors, self.clock, limits, check=check)(self.hands)

    def rebuilt(self, **given: Any) -> Progress:
        """Rebuild to the end; the last progress."""
        return list(self.steps(**given))[-1]

    def checked(self) -> Progress:
        return self.rebuilt(check=True)

    def retain(self, keep_from: int) -> None:
        """Remove what stands before that position."""

        def write(work: Callable[[LogWriter], ResultT]) -> ResultT:
            with closing(log_writer(self.data_dir)) as writer:
                log: LogWriter = writer
                return work(log)

        for _ in Retention(Position(keep_from), write, self.cursors, SMALL)(self.hands):
            pass

    @property
    def hands(self) -> Hands:
        return Hands(self.log, self.views)

    @property
    def generation(self) -> int:
        """Of what readers see."""
        with closing(StoredViewsReader(stores_of(self.data_dir).views)) as reader:
            return reader.checkpoint().generation

    def told(self) -> dict[tuple[str, str], State]:
        return told_of(self.data_dir)

    def quarantined(self) -> dict[int, QuarantineReason]:
        """Why, by position."""
        with closing(StoredViewsReader(stores_of(self.data_dir).views)) as reader:
            return {row.position: row.reason for row in reader.quarantine((), Position(2**62), 999)}


def told_of(data_dir: Path) -> dict[tuple[str, str], State]:
    """What a reader finds of every message."""
    with closing(StoredViewsReader(stores_of(data_dir).views)) as reader:
        page = reader.last_changed(MessageFilter(), Place(Position(2**62)), 10_000, 10_000)
    return {
        (one.instance, one.message_id): State(
            one.status, one.report_count, one.phone, one.recipient_count
        )
        for one in page.messages
    }


def busy_site(data_dir: Path, chance: random.Random) -> RebuildSite:
    """A hundred random callbacks about few messages; every table of the views has a row."""
    naming = {
        "type": "MessageStatusCallback",
        "status": "read",
        "ids": ["M1"],
        "phone": "5544999999999",
        "participant": "77",
    }
    said = [*random_callbacks(chance, 100, ids=20), ("b", {"type": 7}), ("acme", naming)]
    site = RebuildSite(data_dir, said)
    site.attempt("acme")
    return site
