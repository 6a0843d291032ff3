"""Time as an argument: wall time to record, monotonic time to measure and wait."""

import time
from typing import Protocol

US_PER_S = 1_000_000


class Clock(Protocol):
    """Where every part of the service gets its time from."""

    def now_us(self) -> int:
        """Wall time in microseconds since 1970-01-01 UTC. May step backwards."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start. Never steps backwards; for durations only."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic_s = staticmethod(time.monotonic)

    def now_us(self) -> int:
        return time.time_ns() // 1_000
