"""The benchmark table.

python -m benchmarks                every line
python -m benchmarks --quick        with few pairs, for a first look
python -m benchmarks ingest         one group of lines
python -m benchmarks --write docs   also as performance.json and performance.svg in that folder
"""

import argparse
from pathlib import Path

from benchmarks import (
    deployments,
    h2load,
    ingest,
    projecting,
    questions,
    report,
    resources,
    stalled_watcher,
    watching,
)
from benchmarks.pairs import PAIRS, Row

_GROUPS = {
    "ingest": ingest.rows,
    "projecting": projecting.rows,
    "questions": questions.rows,
    "watching": watching.rows,
}
_TABLES = {"resources": resources, "stalled": stalled_watcher, "deployments": deployments}
_QUICK = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("groups", nargs="*", choices=[*_GROUPS, *_TABLES, []])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    h2load.require()
    rows: list[Row] = []
    print(report.head(), flush=True)
    for name in [name for name in _GROUPS if not given.groups or name in given.groups]:
        for row in _GROUPS[name](_QUICK if given.quick else PAIRS):
            rows.append(row)
            print(report.line(row), flush=True)
    if given.write:
        report.write_json(given.write / "performance.json", rows)
        report.write_svg(given.write / "performance.svg", rows)
    for name in given.groups if given.groups or given.quick else _TABLES:
        if name in _TABLES:
            print((_TABLES[name].__doc__ or "").strip())
            print("\n".join(["", *_TABLES[name].run()]), flush=True)


if __name__ == "__main__":
    main()
