"""Failovers of the PostgreSQL that deploy/patroni sets up: what was acknowledged is not lost.

python -m tests.failover --rounds 4
python -m tests.failover --rounds 4 --seed 7                 the same decisions once more
python -m tests.failover --rounds 50 --quick                 leases run out at once
python -m tests.failover --faults killed crashed paused      in turn
python -m tests.failover --faults unheard --asynchronous     loses rows, as it should
"""

import argparse
import random
import signal
import sys
import tempfile
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

from tests.failover.account import Unavailable
from tests.failover.cluster import Cluster
from tests.failover.rounds import DEFAULT, FAULTS, played
from tests.failover.rows import Rows
from tests.failover.service import Service
from tests.failover.workload import Workload

WORKLOADS: dict[str, Callable[[Cluster, Path], Workload]] = {
    "service": Service,
    "rows": lambda cluster, _: Rows(cluster.url()),
}
_SHOWN = 10


def main() -> int:
    """The exit code: 1 once something was lost or did not come back, 2 if nothing can be played."""
    arguments = _arguments()
    # As an exception, so that everything is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    seed = arguments.seed or random.randrange(1, 2**32)
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="plugstatus-failover-") as folder:
        try:
            cluster = Cluster(
                Path(folder), bin_dir=arguments.bin_dir, synchronous=not arguments.asynchronous
            )
        except Unavailable as reason:
            print(reason, file=sys.stderr)
            return 2
        with cluster:
            return _rounds(cluster, Path(folder), arguments, random.Random(seed))


def _rounds(
    cluster: Cluster, folder: Path, arguments: argparse.Namespace, dice: random.Random
) -> int:
    faults = islice(cycle(arguments.faults), arguments.rounds)
    try:
        with WORKLOADS[arguments.workload](cluster, folder / "service") as workload:
            for number, fault in enumerate(faults, 1):
                result = played(cluster, workload, FAULTS[fault], dice, quick=arguments.quick)
                print(f"round {number}: {result}", flush=True)
                if lost := result.verdict.lost:
                    print(f"lost: {', '.join(lost[:_SHOWN])}", file=sys.stderr)
                    return _failed(cluster)
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return _failed(cluster)
    return 0


def _failed(cluster: Cluster) -> int:
    folder = Path(tempfile.mkdtemp(prefix="plugstatus-failover-"))
    cluster.save_logs(folder)
    print(f"logs: {folder}", file=sys.stderr)
    return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.failover", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help="decide as in an earlier run")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=DEFAULT, help="in turn")
    parser.add_argument("--workload", choices=WORKLOADS, default="service")
    parser.add_argument("--quick", action="store_true", help="a dead primary's lease ends with it")
    parser.add_argument("--asynchronous", action="store_true", help="a cluster that may lose rows")
    parser.add_argument("--bin-dir", type=Path, help="of another PostgreSQL 18")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
