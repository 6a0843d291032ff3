"""The table: as text, as JSON, and as a picture."""

import json
import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from benchmarks.pairs import Row
from benchmarks.processes import cores

_HEAD = "".join(
    [
        f"{'what':52}{'ours/s':>10}{'other/s':>10}{'ratio':>7}  {'quartiles':11}{'floor':>6}",
        f"{'CPU µs':>8}   p50/p99/p99.9 ms",
    ]
)
_WIDTH, _LINE, _LEFT, _BAR = 900, 46, 20, 520
_FULL = 1.2
"""The ratio at the end of the longest bar."""


def head() -> str:
    return _HEAD


def line(row: Row) -> str:
    lower, upper = row.quartiles
    floor = f"{row.floor:.2f}" if row.floor is not None else "-"
    cpu = f"{row.cpu_us:.0f}" if row.cpu_us is not None else "-"
    taken = "/".join(f"{us / 1e3:.1f}" for us in row.latencies_us.values()) or "-"
    return (
        f"{row.what:52}{_value(row, row.ours_per_s):>10}{_value(row, row.other_per_s):>10}"
        f"{row.ratio:>7.2f}  {lower:.2f}..{upper:.2f}  {floor:>6}{cpu:>8}   {taken}\n"
        f"    against {row.against}"
    )


def _value(row: Row, value: float) -> str:
    return f"{value / 1e3:.2f} ms" if row.times else f"{value:,.0f}"


def machine() -> dict[str, str | int]:
    """Where it was measured, as far as it matters, without its name."""
    return {
        "cores": cores(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "kernel": os.uname().release,
    }


def write_json(path: Path, rows: Iterable[Row]) -> None:
    content = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=1) + "\n")


def write_svg(path: Path, rows: Sequence[Row]) -> None:
    """A bar for each ratio with its quartiles, and a mark at what it has to reach."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" '
        f'height="{_LINE * len(rows) + 20}" font-family="sans-serif" font-size="13">'
    ]
    for number, row in enumerate(rows):
        parts += _bar(row, 10 + _LINE * number)
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _bar(row: Row, top: int) -> Iterable[str]:
    def at(ratio: float) -> float:
        return _LEFT + _BAR * min(ratio, _FULL) / _FULL

    lower, upper = row.quartiles
    middle = top + 28
    yield f'<text x="{_LEFT}" y="{top + 12}">{escape(row.what)} <tspan fill="#777">against '
    yield f"{escape(row.against)}</tspan></text>"
    yield f'<rect x="{_LEFT}" y="{top + 20}" width="{at(row.ratio) - _LEFT:.0f}" height="16" '
    yield 'fill="#2a7f62"/>'
    yield f'<line x1="{at(lower):.0f}" x2="{at(upper):.0f}" y1="{middle}" y2="{middle}" '
    yield 'stroke="#000" stroke-width="2"/>'
    if row.floor is not None:
        yield f'<line x1="{at(row.floor):.0f}" x2="{at(row.floor):.0f}" y1="{top + 17}" '
        yield f'y2="{top + 39}" stroke="#c00" stroke-width="2"/>'
    yield f'<text x="{_LEFT + _BAR + 16}" y="{top + 33}">{row.ratio:.2f}</text>'
