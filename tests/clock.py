"""A clock that tests set."""

from service.clock import US_PER_S


class FakeClock:
    """Stands still until it is told otherwise. Wall time may step back, monotonic time not."""

    def __init__(self, now_us: int = 1_700_000_000 * US_PER_S) -> None:
        self._now_us = now_us
        self._monotonic_s = 0.0

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        assert seconds >= 0
        self._now_us += round(seconds * US_PER_S)
        self._monotonic_s += seconds

    def step(self, seconds: float) -> None:
        """Set the wall clock, forwards or back, as an operator or NTP would."""
        self._now_us += round(seconds * US_PER_S)
