"""The benchmark table.

python -m benchmarks                every line
python -m benchmarks --quick        with few pairs, for a first look
python -m benchmarks ingest         one group of lines
python -m benchmarks --write docs   also as performance.json and performance.svg in that folder
"""

import argparse
from importlib import import_module
from pathlib import Path

from benchmarks import h2load, report
from benchmarks.pairs import PAIRS, Row

_GROUPS = ("ingest", "projecting", "questions", "watching")
_LONG = ("peers", "size")
"""Groups too, and only when they are named."""
_TABLES = ("resources", "sustained", "stalled_watcher", "deployments")
_QUICK = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("groups", nargs="*", choices=[*_GROUPS, *_LONG, *_TABLES, []])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    h2load.require()
    rows: list[Row] = []
    print(report.head(), flush=True)
    for name in [name for name in given.groups or _GROUPS if name not in _TABLES]:
        # Only what is asked for is imported: the peers are not installed as a rule.
        for row in import_module(f"benchmarks.{name}").rows(_QUICK if given.quick else PAIRS):
            rows.append(row)
            print(report.line(row), flush=True)
    if given.write:
        report.write_json(given.write / "performance.json", rows)
        report.write_svg(given.write / "performance.svg", rows)
    for name in given.groups if given.groups or given.quick else _TABLES:
        if name in _TABLES:
            table = import_module(f"benchmarks.{name}")
            print((table.__doc__ or "").strip())
            print("\n".join(["", *table.run()]), flush=True)


if __name__ == "__main__":
    main()
