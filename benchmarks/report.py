"""The table: as text, as JSON, and as a picture."""

import json
import os
import platform
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
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
_FULL = 2.0
"""What is at the end of the longest bar; 1 is what a line has to reach."""


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


def write(folder: Path, groups: Mapping[str, Sequence[Row]], order: Sequence[str]) -> None:
    """As `performance.json`, in place of what it holds of these groups; all of it as a picture."""
    path = folder / "performance.json"
    known = json.loads(path.read_text())["groups"] if path.exists() else {}
    known |= {name: [asdict(row) for row in rows] for name, rows in groups.items()}
    known = {name: known[name] for name in order if name in known}
    path.write_text(json.dumps({"machine": machine(), "groups": known}, indent=1) + "\n")
    rows = [Row(**row) for group in known.values() for row in group]
    (folder / "performance.svg").write_text(_picture(rows))


def _picture(rows: Sequence[Row]) -> str:
    """How far each line is of what it has to reach, with the quartiles; a mark where that is."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" '
        f'height="{_LINE * len(rows) + 20}" font-family="sans-serif" font-size="13">'
    ]
    for number, row in enumerate(rows):
        parts += _bar(row, 10 + _LINE * number)
    return "\n".join([*parts, "</svg>", ""])


def _bar(row: Row, top: int) -> Iterable[str]:
    floor = row.floor or 1.0

    def at(ratio: float) -> float:
        reached = floor / ratio if row.times else ratio / floor
        return _LEFT + _BAR * min(reached, _FULL) / _FULL

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
    asked = f" of {'at most ' if row.times else ''}{row.floor:g}" if row.floor is not None else ""
    yield f'<text x="{_LEFT + _BAR + 16}" y="{top + 33}">{row.ratio:.2f}{asked}</text>'
