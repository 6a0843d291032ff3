"""Where reads run: on the loop as long as that is quick, else on threads."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from service import errors
from service.database.readers import ReaderPool


class Reader:
    """What a read is given; it says where that is."""

    usable = True

    def close(self) -> None:
        """Holds nothing."""


def _pool(*, embedded: bool) -> ReaderPool[Reader]:
    return ReaderPool("reader", Reader, 1, errors.ViewsUnavailable, embedded=embedded)


@pytest.fixture
def embedded() -> Iterator[ReaderPool[Reader]]:
    with closing(_pool(embedded=True)) as pool:
        yield pool


def _thread(_: Reader) -> int:
    return threading.get_ident()


def _slow(_: Reader) -> None:
    until_s = time.monotonic() + 0.01
    while time.monotonic() < until_s:
        pass


async def test_a_short_read_of_an_embedded_store_runs_on_the_loop(
    embedded: ReaderPool[Reader],
) -> None:
    """Handing it over would cost more than it; a longer read is handed over all the same."""
    short = await embedded.run_short(_thread)
    long = await embedded.run(_thread)

    assert short == threading.get_ident() != long


async def test_a_short_read_of_another_process_leaves_the_loop_alone() -> None:
    """It waits for that one, however little it reads."""
    with closing(_pool(embedded=False)) as pool:
        assert await pool.run_short(_thread) != threading.get_ident()


async def test_slow_reads_leave_the_loop(embedded: ReaderPool[Reader]) -> None:
    """Two in a row have waited for the disk, and those behind them run on threads; one alone may
    only have waited for the processor."""
    await embedded.run_short(_slow)
    after_one = await embedded.run_short(_thread)
    await embedded.run_short(_slow)
    await embedded.run_short(_slow)

    assert after_one == threading.get_ident()
    assert await embedded.run_short(_thread) != threading.get_ident()


async def test_a_short_read_raises_what_it_raises(embedded: ReaderPool[Reader]) -> None:
    """And the pool goes on."""

    def broken(_: Reader) -> None:
        raise errors.MessageNotFound("1")

    with pytest.raises(errors.MessageNotFound):
        await embedded.run_short(broken)
    assert await embedded.run_short(lambda _: 7) == 7
