"""Retention killed anywhere between its two stores: the next start finishes what was begun."""

import copy
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import config
from service.core import Core
from service.telemetry import Metrics
from tests.clock import FakeClock
from tests.fold_model import BEGIN_US
from tests.processes import child, lines
from tests.retention_site import RetentionSite, expected

KEEP_FROM = 45
CHUNKS = 3
"""So many transactions of each store it takes."""

KILLED = """
import os, random, shutil, signal, sys
from pathlib import Path
from service.eventlog.reader import StoredLogReader
from service.eventlog.sqlite import SqliteLogWriter
from service.domain.events import Position
from service.projector.retention import Retention
from service.projector.task import Hands
from service.database.sqlite import SqliteDatabase
from service.views.writer import StoredViewsWriter
from service.wire.cursor import CursorCodec
from tests.rebuild_site import SMALL

original, folder, keep_from = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
dice, most = random.Random(int(sys.argv[4])), int(sys.argv[5])

def retained(data_dir, on_statement):
    shutil.copytree(original, data_dir)
    log = StoredLogReader(SqliteDatabase(data_dir / "events.db"))
    views = StoredViewsWriter(SqliteDatabase(data_dir / "views.db"), log.identity)
    writer = SqliteLogWriter(SqliteDatabase(data_dir / "events.db"))
    views._connection.set_trace_callback(lambda sql: on_statement("views", sql))
    writer._connection.set_trace_callback(lambda sql: on_statement("log", sql))
    task = Retention(Position(keep_from), lambda act: act(writer), CursorCodec(log.identity), SMALL)
    for _ in task(Hands(log, views)):
        pass
    return log, views, writer

def killed_at(moment, data_dir):
    seen = 0
    def count(*_):
        nonlocal seen
        seen += 1
        if seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    retained(data_dir, count)

statements = []
stores = retained(folder / "whole", lambda *statement: statements.append(statement))
# Before they are closed: what that runs, a child never comes to.
count = len(statements)
for store in stores:
    store.close()
ends = [at for at, (_, sql) in enumerate(statements[:count], start=1) if sql == "COMMIT"]
# Before each COMMIT, behind it, and somewhere.
moments = {*ends, *(at + 1 for at in ends[:-1])}
moments |= {*dice.sample(range(1, count + 1), most)}
for moment in sorted(moments):
    child = os.fork()
    if child == 0:
        killed_at(moment, folder / str(moment))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    print(moment, flush=True)
print("whole", flush=True)
"""


@pytest.fixture
def dice() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def site(tmp_path: Path, dice: random.Random) -> Iterator[RetentionSite]:
    made = RetentionSite(tmp_path / "data", dice)
    yield made
    made.close()


async def _started(data_dir: Path) -> None:
    """One start of the service."""
    settings = config.load({"DATA_DIR": str(data_dir)})
    async with Core(settings, FakeClock(BEGIN_US), Metrics()):
        pass


async def test_a_removal_that_is_killed_is_finished_at_the_next_start(
    site: RetentionSite, dice: random.Random, tmp_path: Path
) -> None:
    """Killed at any statement of either store: after a start the views are what the model says of
    as much as the log has removed, a rebuild agrees, and the next removal does the rest."""
    site.tell(50)
    site.close()
    arguments = (site.data_dir, tmp_path / "killed", KEEP_FROM, dice.randrange(2**32), 6)
    with child(KILLED, *map(str, arguments)) as process:
        moments = list(lines(process))
    apart = 0
    for moment in moments:
        site.data_dir = tmp_path / "killed" / moment
        site.open()
        apart += site.views.kept_from() < site.log.kept_from()
        site.close()
        await _started(site.data_dir)
        site.open()
        # Later moments have removed no less.
        site.model.cut(site.log.kept_from())

        assert site.views.kept_from() == site.log.kept_from()
        assert site.shown() == expected(site.model)
        assert site.checked().differences == 0
        rest = copy.deepcopy(site.model)
        rest.cut(KEEP_FROM)
        deque(site.removal(KEEP_FROM), maxlen=0)
        assert site.shown() == expected(rest)
        site.close()

    assert moments[-1] == "whole"
    assert apart >= CHUNKS
