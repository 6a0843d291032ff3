"""What every test runs with."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from service.clock import Clock
from service.config import Limits
from service.eventlog.log import LogReader
from service.views.store import ViewsReader, ViewsWriter
from tests import postgres, seeds, stores
from tests.clock import FakeClock
from tests.logs import LOGS, LogUnderTest
from tests.view_stores import VIEW_STORES, ViewsUnderTest

# Random on every run. A failure prints the `@reproduce_failure` line that replays its example, or,
# if that does not fail again, the seed for `--hypothesis-seed`: no database of examples is needed.
settings.register_profile(
    "plugstatus",
    deadline=None,
    print_blob=True,
    derandomize=False,
    database=None,
    # Machines that share their processors are slow at times; that is no defect of a strategy.
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("plugstatus")

# A shell that starts this in the background has it ignore Ctrl-C, and so every process it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _recursion_limit() -> None:
    """The limit the service sets at start, which deep bodies need."""
    sys.setrecursionlimit(Limits().recursion_max)


def pytest_report_header() -> str:
    """Drawn here, before there are other processes of this run, which draw the same."""
    return f"{seeds.VARIABLE}={seeds.RUN}"


def pytest_unconfigure() -> None:
    """A worker of several ends without its exit handlers."""
    postgres.leave()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Modules marked `both_stores` run once with each kind of store."""
    if metafunc.definition.get_closest_marker("both_stores"):
        metafunc.parametrize("store_kind", ["sqlite", "postgres"], indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def store_kind(request: pytest.FixtureRequest) -> Iterator[None]:
    """What `tests.stores` makes meanwhile; outside of marked modules what the variable says."""
    before = os.environ.get(stores.VARIABLE)
    if hasattr(request, "param"):
        os.environ[stores.VARIABLE] = request.param
    yield
    if not hasattr(request, "param"):
        return
    if before is None:
        del os.environ[stores.VARIABLE]
    else:
        os.environ[stores.VARIABLE] = before


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    stopped = FakeClock()
    _: Clock = stopped
    return stopped


@pytest.fixture(params=LOGS)
def log_kind(request: pytest.FixtureRequest) -> str:
    """The name of an implementation of the event log."""
    return str(request.param)


@pytest.fixture
def log(log_kind: str, tmp_path: Path) -> LogUnderTest:
    """An empty log of each implementation."""
    return LOGS[log_kind](tmp_path)


@pytest.fixture
def reader(log: LogUnderTest) -> Iterator[LogReader]:
    """A reader of that log."""
    with closing(log.open_reader()) as opened:
        yield opened


@pytest.fixture(params=VIEW_STORES)
def views_kind(request: pytest.FixtureRequest) -> str:
    """The name of an implementation of the views."""
    return str(request.param)


@pytest.fixture
def views(views_kind: str, tmp_path: Path) -> ViewsUnderTest:
    """New views of each implementation."""
    return VIEW_STORES[views_kind](tmp_path)


@pytest.fixture
def views_writer(views: ViewsUnderTest) -> Iterator[ViewsWriter]:
    """The writer of those views."""
    with closing(views.open_writer()) as opened:
        yield opened


@pytest.fixture
def views_reader(views: ViewsUnderTest, views_writer: ViewsWriter) -> Iterator[ViewsReader]:
    """A reader of those views, opened after their writer."""
    with closing(views.open_reader()) as opened:
        yield opened
