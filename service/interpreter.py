"""What a process that serves asks of Python itself."""

import asyncio
import gc
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from service.config import Limits


def allow_depth(limits: Limits) -> None:
    """The JSON parsers take a level of recursion for each level of nesting they accept."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), limits.recursion_max))


def take_short_turns() -> None:
    """For a process with busy threads: whoever waits for Python is let in after 0.2 ms, not 5.

    What folds would keep the answers to callbacks waiting: with both at work a tenth more of them
    come in. Alone it makes no difference.
    """
    sys.setswitchinterval(0.0002)


@contextmanager
def loading() -> Iterator[None]:
    """For imports: nothing of what is loaded becomes garbage, and looking for it takes a fifth of
    the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def run(work: Coroutine[Any, Any, None], *, takes_tls: bool) -> None:
    """To its end, on a loop of its own. `takes_tls`: it accepts connections of HTTPS.

    On uvloop a call costs a fifth less, and a callback a tenth. But there what comes in before TLS
    has taken over an accepted connection is lost, however early the connection is paused
    (uvloop 0.23, seen 2026-11-23).
    """
    (asyncio.run if takes_tls else uvloop.run)(work)


def calm_collection() -> None:
    """To be called once it has started: what is there by then stays, and is not looked at again.

    Callbacks make few cycles; with the default thresholds, collecting costs a tenth of ingest.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
