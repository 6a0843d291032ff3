"""The benchmark table.

python -m benchmarks                every line that takes no million of events
python -m benchmarks --quick        with few pairs, for a first look
python -m benchmarks ingest         one group of lines
python -m benchmarks --write docs   also as performance.json and performance.svg in that folder,
                                    in place of what is there of these groups
"""

import argparse
from importlib import import_module
from pathlib import Path

from benchmarks import h2load, report
from benchmarks.pairs import PAIRS, Row

_GROUPS = ("ingest", "projecting", "questions", "watching")
_LONG = ("peers", "size")
"""Only when they are named."""
_TABLES = ("resources", "sustained", "stalled_watcher", "deployments")
"""What has no other side."""
_QUICK = 5


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("groups", nargs="*", choices=[*_GROUPS, *_LONG, *_TABLES, []])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    h2load.require()
    measured: dict[str, list[Row]] = {}
    print(report.head(), flush=True)
    for name in given.groups or (_GROUPS if given.quick else (*_GROUPS, *_TABLES)):
        # Only what is asked for is imported: the peers are not installed as a rule.
        module = import_module(f"benchmarks.{name}")
        if name not in _TABLES:
            measured[name] = []
            for row in module.rows(_QUICK if given.quick else PAIRS):
                measured[name].append(row)
                print(report.line(row), flush=True)
        if hasattr(module, "run"):
            print("\n".join(["", (module.__doc__ or "").strip(), "", *module.run()]), flush=True)
    if given.write:
        report.write(given.write, measured, (*_GROUPS, *_LONG))


if __name__ == "__main__":
    main()
