"""How long to wait before trying again."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to try again, and when a stream that says nothing counts as lost.

    Exponential backoff with full jitter: the wait before a new attempt is drawn evenly from 0 to a
    bound, so that many clients of one server do not come back at the same moment. The bound is
    `initial_s` after the first failure and grows by `multiplier` with each one that follows, up to
    `max_s`.
    """

    initial_s: float = 0.25
    multiplier: float = 2.0
    max_s: float = 10.0
    silent_intervals: float = 4.0
    """A watch that is sent nothing for so many progress intervals opens another stream."""
    draw: Callable[[float, float], float] = random.uniform
    """Draws a wait between two bounds, in seconds."""


class Backoff:
    """The waits of one series of attempts."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._bound_s = 0.0

    def reset(self) -> None:
        """An attempt has succeeded: the next failure is a first one again."""
        self._bound_s = 0.0

    def next_s(self, *, at_once: bool = False) -> float:
        """How long to wait after one more failure; `at_once`: not at all after a first one."""
        first = not self._bound_s
        longer_s = self._policy.initial_s if first else self._bound_s * self._policy.multiplier
        self._bound_s = min(longer_s, self._policy.max_s)
        return 0.0 if first and at_once else self._policy.draw(0.0, self._bound_s)
