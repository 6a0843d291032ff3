"""How the log is cut into batches changes nothing, and what a report costs stays the same."""

import json
import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from service.config import Limits
from service.database.schema import Store, upgrade
from service.database.sqlite import SqliteDatabase
from service.domain.events import EventKind, NewEvent, Position
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from service.projector.follower import Follower
from service.views.tables import TABLES
from service.views.writer import StoredViewsWriter
from service.wire.cursor import CursorCodec
from tests.seeds import seeds
from tests.sqlite_stores import connection_of

RECEIVED_US = 1_793_491_200_000_000
WORDS = ["SENT", "RECEIVED", "READ", "PLAYED", "FAILED", "READ_BY_ME", "odd", ""]


def _body(dice: random.Random) -> bytes:
    body: dict[str, Any] = {
        "type": dice.choice(["MessageStatusCallback"] * 8 + ["DeliveryCallback", "Odd"]),
        "status": dice.choice(WORDS),
        "ids": dice.sample([f"M{number}" for number in range(12)], dice.choice([1, 1, 3, 9])),
        "messageId": f"M{dice.randrange(12)}",
        "momment": dice.choice([1_793_000_000_000, 1_793_000_001_000, "x"]),
        "phone": dice.choice(["", "5511900000001", "5511900000002", "1-group"]),
        "participant": dice.choice(["", "", "p", "q", "r@lid"]),
    }
    body |= {"error": "no", "errorCode": dice.randrange(3)} if dice.random() < 0.2 else {}
    return json.dumps(body).encode()


class _Folding:
    """A log, and views of it that a follower folds."""

    def __init__(self, folder: Path, bodies: Sequence[bytes]) -> None:
        self._views_path, events = folder / "views.db", folder / "events.db"
        upgrade(Store.EVENT_LOG, SqliteDatabase(events))
        upgrade(Store.VIEWS, SqliteDatabase(self._views_path))
        with closing(SqliteLogWriter(SqliteDatabase(events))) as writer:
            writer.append(
                [
                    NewEvent("acme", RECEIVED_US + at, EventKind.CALLBACK, each)
                    for at, each in enumerate(bodies)
                ]
            )
        self.log = StoredLogReader(SqliteDatabase(events))
        # One identity for all, so that cursors can be compared as they stand in the rows.
        self.cursors = CursorCodec("00" * 16)
        self.views = StoredViewsWriter(SqliteDatabase(self._views_path), self.log.identity)
        self.statements: list[str] = []

    def fold(
        self, events_max: int, reports_max: int, until: int = 10**9, *, ahead: bool = False
    ) -> None:
        limits = Limits(fold_reports_max=reports_max, ahead_events_min=1)
        follower = Follower(self.log, self.views, self.cursors, limits, events_max)
        while events := follower.waiting(Position(until)):
            follower.advance(events, ahead=ahead)

    def close(self) -> None:
        self.views.close()
        self.log.close()

    def rows(self) -> dict[str, list[Any]]:
        with closing(sqlite3.connect(self._views_path)) as connection:
            return {
                table.name: sorted(connection.execute(f"SELECT * FROM {table.name}").fetchall())
                for table in TABLES["a"]
            }


@pytest.mark.parametrize("seed", seeds(5))
def test_any_split_into_batches_gives_the_same_rows(tmp_path: Path, seed: int) -> None:
    """Messages, recipients, feed, quarantine: byte for byte the same, in batches of any size, also
    where each is folded while the one before it is committed.
    """
    print(f"seed {seed}")
    dice = random.Random(seed)
    bodies = [_body(dice) for _ in range(150)]
    sizes = [(2_000, 5_000), (1, 1), (7, 3), (dice.randrange(1, 150), dice.randrange(1, 60))]
    splits = [(*size, ahead) for size in sizes for ahead in (False, True)]
    found = []
    for number, (events_max, reports_max, ahead) in enumerate(splits):
        (tmp_path / str(number)).mkdir()
        folding = _Folding(tmp_path / str(number), bodies)
        folding.fold(events_max, reports_max, ahead=ahead)
        folding.close()
        found.append(folding.rows())

    assert len(found[0]["feed_a"]) > 150
    assert [found[0]] * len(splits) == found


def test_a_report_costs_the_same_in_a_group_of_any_size(tmp_path: Path) -> None:
    """The 1,000th participant's receipt takes no more work, and no larger rows, than the third's.

    Work is counted in steps of SQLite's virtual machine: every row looked at costs some.
    """

    def receipt(number: int) -> bytes:
        return json.dumps(
            {
                "type": "MessageStatusCallback",
                "status": "READ",
                "ids": ["G"],
                "phone": "1-group",
                "participant": f"{number:015d}",
            }
        ).encode()

    folding = _Folding(tmp_path, [receipt(number) for number in range(1_001)])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    def work(until: int) -> int:
        nonlocal steps
        steps = 0
        connection_of(folding.views).set_progress_handler(count, 1)
        folding.fold(1, 1, until)
        connection_of(folding.views).set_progress_handler(None, 0)
        return steps

    folding.fold(100, 100, 2)
    third = work(3)
    folding.fold(100, 100, 1_000)
    last = work(1_001)
    folding.close()
    feed = folding.rows()["feed_a"]

    assert len(folding.rows()["recipients_a"]) == 1_001
    assert last < 1.2 * third
    assert len(feed[-1][8]) < len(feed[2][8]) + 16
