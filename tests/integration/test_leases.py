"""Leases, fences and turns on PostgreSQL: one holder at a time, and nothing of a former one."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from service import errors
from service.database.database import Database
from service.database.lease import Leases, Term
from service.database.postgres import PostgresConnection
from service.database.schema import Store
from service.database.turns import LeasedTurns
from tests.failover.waiting import until
from tests.line import Line
from tests.postgres import connected, database_url, store_at

DEADLINE_S = 20.0
LONG_S = 600.0
"""A lease that never runs out by itself."""

SHORT_S = 0.3


@pytest.fixture
def url(tmp_path: Path) -> str:
    return database_url(tmp_path)


@pytest.fixture
def database(url: str) -> Database:
    return store_at(url, Store.VIEWS)


def _leases(database: Database, lease_s: float = LONG_S) -> "closing[Leases]":
    return closing(Leases(database, lease_s))


def _taken(leases: Leases, name: str = "x") -> Term:
    """Once it is to be had."""
    return until(lambda: leases.take(name), DEADLINE_S, "the lease is taken")


def _run_out(url: str) -> None:
    """As if every lease had not been renewed."""
    with connected(url) as connection:
        connection.execute("UPDATE plugstatus_views.leases SET expire_time = '-infinity'")


@pytest.fixture
def writing(database: Database) -> Iterator[Any]:
    """The connection of somebody who writes under a lease."""
    with closing(database.connect_writer()) as connection:
        yield connection


def test_one_holder(database: Database, url: str) -> None:
    """Nobody else takes what is kept; let go, or run out, anybody does. Names are apart."""
    with _leases(database) as one, _leases(database) as other:
        term = one.take("x")
        while_kept = other.take("x")
        elsewhere = other.take("y")
        assert term is not None
        one.release(term)
        let_go = other.take("x")
        _run_out(url)
        run_out = one.take("x")

    assert while_kept is None
    assert elsewhere is not None
    assert let_go is not None
    assert run_out is not None
    assert run_out.holder != term.holder


def test_it_runs_out_by_the_databases_clock(database: Database) -> None:
    """Renewed it lasts, not renewed it does not; who comes too late is told."""
    with _leases(database, SHORT_S) as one, _leases(database, SHORT_S) as other:
        term = _taken(one)
        for _ in range(5):
            assert other.take("x") is None
            assert one.renew(term) is False
        later = _taken(other)
        with pytest.raises(errors.CheckpointMoved, match="has run out"):
            one.renew(term)

    assert later.holder != term.holder


def test_a_former_holder_writes_nothing(database: Database, url: str, writing: Any) -> None:
    """The fence of a term raises once somebody else has the lease, or the same one anew."""
    with _leases(database) as one, _leases(database) as other:
        first = _taken(one)
        with writing.transaction():
            first.fence(writing)
        _run_out(url)
        second = _taken(other)
        for former in (first,):
            with pytest.raises(errors.CheckpointMoved), writing.transaction():
                former.fence(writing)
        _run_out(url)
        third = _taken(other)
        with pytest.raises(errors.CheckpointMoved), writing.transaction():
            second.fence(writing)
        with writing.transaction():
            third.fence(writing)


@pytest.mark.parametrize("store", Store, ids=lambda store: store.folder)
def test_nobody_takes_it_inside_a_transaction(url: str, store: Store) -> None:
    """From the fence to the end of the holder's transaction the row keeps its holder."""
    database = store_at(url, store)
    with (
        closing(database.connect_writer()) as writing,
        _leases(database) as one,
        connected(url) as other,
        writing.transaction(),
    ):
        _taken(one).fence(writing)
        other.execute("SET lock_timeout = '100ms'")
        other.execute(f"SET search_path = plugstatus_{store.short_name}".encode())
        other.execute("UPDATE leases SET expire_time = now()")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("UPDATE leases SET holder = 'other'")


def test_a_fence_waits_for_who_is_taking_it(database: Database, url: str, writing: Any) -> None:
    """And raises then: what it saw before was not the last word."""
    raised: list[Exception] = []
    with _leases(database) as one, connected(url) as other:
        term = _taken(one)

        def fenced() -> None:
            try:
                with writing.transaction():
                    term.fence(writing)
            except errors.CheckpointMoved as error:
                raised.append(error)

        thread = threading.Thread(target=fenced)
        with other.transaction():
            other.execute("UPDATE plugstatus_views.leases SET holder = 'other'")
            thread.start()
            until(lambda: _waits(url), DEADLINE_S, "the fence waits")
        thread.join(DEADLINE_S)

    assert len(raised) == 1


def _waits(url: str) -> bool:
    with connected(url) as looking:
        found = looking.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'plugstatus' AND wait_event_type = 'Lock'"
        )
        return found.fetchone() is not None


def test_renewing_waits_for_no_transaction(database: Database, writing: Any) -> None:
    """However long the holder's own one takes, the lease is renewed meanwhile."""
    with _leases(database, 2.0) as one, writing.transaction():
        term = _taken(one)
        term.fence(writing)
        wanted = [one.renew(term) for _ in range(3)]

    assert wanted == [False] * 3


def test_who_looks_waits_for_no_transaction(database: Database, writing: Any) -> None:
    """A lease that is kept is seen to be, while its holder's transaction is open."""
    with _leases(database) as one, _leases(database, 2.0) as other, writing.transaction():
        term = _taken(one)
        term.fence(writing)

        assert other.take("x") is None


def test_a_transaction_of_a_former_holder_is_ended(
    database: Database, url: str, writing: PostgresConnection
) -> None:
    """Whoever takes a lease that has run out does not wait for it; what it wrote is undone."""
    with _leases(database) as one, _leases(database, 2.0) as other:
        term = _taken(one)
        writing.execute("BEGIN")
        term.fence(writing)
        writing.execute("UPDATE views SET live_slot = 'b'")
        _run_out(url)
        taken = other.take("x")
        with pytest.raises(writing.faults):
            writing.execute("COMMIT")
    with connected(url) as connection:
        slot = connection.execute("SELECT live_slot FROM plugstatus_views.views").fetchall()

    assert taken is not None
    assert slot == [("a",)]


def test_in_the_middle_of_a_pipeline_too(tmp_path: Path, url: str) -> None:
    """Where PostgreSQL's own timeouts do not run: behind a statement whose end has not come.

    A client that is cut off while it sends many statements together leaves its session so.
    """
    with Line(tmp_path / "line", url) as line:
        behind = store_at(line.url, Store.VIEWS).connect_writer()
        with _leases(store_at(url, Store.VIEWS)) as one, connected(url) as looking:
            term = _taken(one)
            behind.execute("BEGIN")
            term.fence(behind)
            rows = [(f"x{n}", "y" * 2_000) for n in range(5_000)]
            sending = threading.Thread(target=_sent, args=(behind, rows))
            sending.start()
            until(lambda: _is_at_work(looking), DEADLINE_S, "it has begun")
            line.hold_requests()
            until(line.holds_requests, DEADLINE_S, "it is cut off")
            _run_out(url)
            with _leases(store_at(url, Store.VIEWS), 2.0) as other:
                taken = other.take("x")
        line.lose()
        sending.join(DEADLINE_S)

    assert taken is not None


def _sent(connection: Any, rows: list[tuple[str, str]]) -> None:
    with pytest.raises(connection.faults):
        connection.executemany(
            "INSERT INTO leases (name, holder, expire_time) VALUES ($1, $2, now())", rows
        )


def _is_at_work(looking: Any) -> bool:
    found = looking.execute(
        "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'INSERT INTO leases (name, holder, exp%' "
        "AND datname = current_database() AND state = 'active'"
    )
    return found.fetchone() is not None


def test_asked_for_it_is_handed_over(database: Database) -> None:
    """The holder hears that another one wants it; once let go, it is that one's."""
    with _leases(database) as one, _leases(database) as other, _leases(database) as third:
        term = _taken(one)
        before = one.renew(term)
        other.want("x")
        after = one.renew(term)
        one.release(term)
        pushed_in = third.take("x")
        handed = other.take("x")

    assert (before, after) == (False, True)
    assert pushed_in is None
    assert handed is not None


def test_released_names_leave_nothing(database: Database, url: str) -> None:
    """Turns have names of requests: they do not pile up."""
    with _leases(database) as leases:
        for n in range(5):
            leases.release(_taken(leases, f"x{n}"))
    with connected(url) as connection:
        assert connection.execute("SELECT * FROM plugstatus_views.leases").fetchall() == []


async def test_turns_of_two_processes(database: Database) -> None:
    """The second one's begins when the first one's is over; another name's at once."""
    told: list[str] = []
    first, second = (LeasedTurns(Leases(database, LONG_S), 0.1, 0.01) for _ in range(2))

    async def wait_for_it() -> None:
        async with second.turn("x"):
            told.append("second")

    async with asyncio.timeout(DEADLINE_S):
        async with first.turn("x"):
            waiting = asyncio.create_task(wait_for_it())
            async with second.turn("y"):
                told.append("another name")
            told.append("first")
        await waiting
    first.close()
    second.close()

    assert told == ["another name", "first", "second"]


async def test_a_turn_nobody_renews_is_over(database: Database) -> None:
    """That of a process that died ends with its lease, and its fence raises from then on."""
    died, other = Leases(database, SHORT_S), LeasedTurns(Leases(database, LONG_S), 0.1, 0.01)
    term = await asyncio.to_thread(_taken, died)
    async with asyncio.timeout(DEADLINE_S), other.turn("x") as fence:
        with closing(database.connect_writer()) as connection:
            with connection.transaction():
                fence(connection)
            with pytest.raises(errors.CheckpointMoved), connection.transaction():
                term.fence(connection)
    died.close()
    other.close()
