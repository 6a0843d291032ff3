"""Two sides measured in turns, so that whatever else the machine does happens to both.

A slice is short (under 0.3 s) and so is a pair; the sides take turns at going first. What counts is
the median of the pairs' ratios: of neighbours in time, not of two medians from different moments.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

PAIRS = 15


class Slice(NamedTuple):
    per_s: float
    latencies_us: list[int]
    """One for each operation; empty if they were not taken."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    against: str
    ours_per_s: float
    """Median."""
    other_per_s: float
    ratio: float
    quartiles: tuple[float, float]
    floor: float | None
    """What it has to reach; None where nothing is asked. Where times are compared, the most."""
    cpu_us: float | None
    """Of our processes, for one operation."""
    latencies_us: dict[str, float] = field(default_factory=dict)
    """Ours, by percentile."""
    times: bool = False
    """Compared are medians of times, in microseconds: less is better."""


def measured(
    what: str,
    ours: Callable[[], Slice],
    against: str,
    other: Callable[[], Slice],
    *,
    floor: float | None,
    pairs: int = PAIRS,
    cpu_us: Callable[[], float] | None = None,
) -> Row:
    """Both sides warm up with a slice that does not count."""
    mine, theirs = _taken(ours, other, pairs)
    ratios = [one.per_s / two.per_s for one, two in zip(mine, theirs, strict=True)]
    lower, middle, upper = statistics.quantiles(ratios, n=4)
    return Row(
        what=what,
        against=against,
        ours_per_s=statistics.median(one.per_s for one in mine),
        other_per_s=statistics.median(one.per_s for one in theirs),
        ratio=middle,
        quartiles=(lower, upper),
        floor=floor,
        cpu_us=cpu_us() if cpu_us is not None else None,
        latencies_us=percentiles([us for one in mine for us in one.latencies_us]),
    )


def measured_times(
    what: str,
    ours: Callable[[], Slice],
    against: str,
    other: Callable[[], Slice],
    *,
    ceiling: float,
    pairs: int = PAIRS,
) -> Row:
    """The same for how long something takes: ratios are of the slices' medians."""
    mine, theirs = _taken(ours, other, pairs)
    medians = [
        tuple(statistics.median(side.latencies_us) for side in pair)
        for pair in zip(mine, theirs, strict=True)
    ]
    lower, middle, upper = statistics.quantiles([one / two for one, two in medians], n=4)
    return Row(
        what=what,
        against=against,
        ours_per_s=statistics.median(one for one, _ in medians),
        other_per_s=statistics.median(two for _, two in medians),
        ratio=middle,
        quartiles=(lower, upper),
        floor=ceiling,
        cpu_us=None,
        latencies_us=percentiles([us for one in mine for us in one.latencies_us]),
        times=True,
    )


def _taken(
    ours: Callable[[], Slice], other: Callable[[], Slice], pairs: int
) -> tuple[list[Slice], list[Slice]]:
    ours()
    other()
    mine: list[Slice] = []
    theirs: list[Slice] = []
    for number in range(pairs):
        turns = [(ours, mine), (other, theirs)]
        for side, taken in turns if number % 2 else reversed(turns):
            taken.append(side())
    return mine, theirs


def percentiles(latencies_us: list[int]) -> dict[str, float]:
    """p50, p99 and p99.9; empty without any."""
    if not latencies_us:
        return {}
    ordered = sorted(latencies_us)
    return {
        name: float(ordered[min(len(ordered) - 1, int(len(ordered) * share))])
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
    }
