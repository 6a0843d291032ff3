"""Waiting for what other processes do, with an end."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

PACE_S = 0.05
"""Between two looks."""


def until(look: Callable[[], _T | None], deadline_s: float, what: str) -> _T:
    """The first answer that is neither None nor False. Raises TimeoutError that says what."""
    nobody_sets_it = threading.Event()
    until_s = time.monotonic() + deadline_s
    while not (answer := look()):
        if time.monotonic() >= until_s:
            raise TimeoutError(f"not within {deadline_s:g} s: {what}")
        nobody_sets_it.wait(PACE_S)
    return answer
