"""Time as an argument: wall time to record, monotonic time to measure and wait."""

import time
from datetime import UTC, datetime
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

    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def monotonic_s(self) -> float:
        return time.monotonic()


def utc_text(time_us: int) -> str:
    """`2026-01-31T12:00:00.000000Z` for microseconds since 1970."""
    seconds, fraction_us = divmod(time_us, US_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction_us:06d}Z"
