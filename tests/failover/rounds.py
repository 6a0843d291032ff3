"""Rounds of faults: each lets the workload run, strikes the primary, and judges what is left."""

import random
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from tests.failover.cluster import Cluster
from tests.failover.node import Node
from tests.failover.workload import Verdict, Workload

_FAILOVER_S = 90.0
"""A lease of 20 seconds, what clients take to give a primary up, and much more."""
_HEALED_S = 120.0
_UNHEARD_S = 1.0


class Fault(NamedTuple):
    """What befalls a primary, and what it takes until the cluster is whole again."""

    told: str
    strike: Callable[[Node], None]
    mend: Callable[[Node], None]
    stands: bool = True
    """The primary does not move behind the strike, so that its lease has to run out."""


def _kill_with_disk(primary: Node) -> None:
    primary.kill()
    primary.remove_data()


def _kill_unheard(primary: Node) -> None:
    """No standby gets its last second. A quorum confirms nothing in it; without one all of it is
    confirmed, and lost."""
    primary.pause_senders()
    threading.Event().wait(_UNHEARD_S)
    _kill_with_disk(primary)


def _nothing(_: Node) -> None:
    """Patroni mends it."""


FAULTS = {
    "killed": Fault("killed", Node.kill, Node.start),
    "disk": Fault("killed, its disk gone", _kill_with_disk, Node.start),
    "crashed": Fault("crashed", Node.crash, _nothing, stands=False),
    "paused": Fault("paused", Node.pause, Node.resume),
    "unheard": Fault("killed unheard, its disk gone", _kill_unheard, Node.start),
}
DEFAULT = ("killed", "disk")


class Round(NamedTuple):
    """What came of one."""

    fault: str
    struck: str
    """The node that was the primary."""
    followed: str
    """The node that was next."""
    outage_s: float
    """From the strike until a write that began behind it was acknowledged."""
    healed_s: float
    """From the mending until all three nodes are whole."""
    verdict: Verdict

    def __str__(self) -> str:
        return (
            f"{self.struck} {self.fault}; writes went on after {self.outage_s:.1f} s, on "
            f"{self.followed}; healed in {self.healed_s:.1f} s; "
            f"{self.verdict.acknowledged} acknowledged, {len(self.verdict.lost)} lost, "
            f"{self.verdict.in_doubt} in doubt"
        )


def played(
    cluster: Cluster, workload: Workload, fault: Fault, dice: random.Random, *, quick: bool
) -> Round:
    """The workload runs, and the cluster is whole. `quick` waits for no lease to run out.

    Raises TimeoutError.
    """
    workload.await_acknowledged(dice.randrange(100, 1_000), _FAILOVER_S)
    primary = cluster.await_primary()
    fault.strike(primary)
    struck_s = time.monotonic()
    if quick and fault.stands:
        cluster.expire_lease()
    outage_s = workload.went_on(struck_s, _FAILOVER_S) - struck_s
    followed = cluster.await_primary(other_than=primary)
    # Before the old primary is back: what only that one has is lost.
    verdict = workload.verdict()
    mended_s = time.monotonic()
    fault.mend(primary)
    cluster.await_healed(_HEALED_S)
    healed_s = time.monotonic() - mended_s
    if not verdict.lost:
        verdict = workload.verdict()
    return Round(fault.told, primary.name, followed.name, outage_s, healed_s, verdict)
