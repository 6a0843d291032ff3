"""What a process that serves asks of Python itself."""

import gc
import sys

from service.config import Limits


def allow_depth(limits: Limits) -> None:
    """The JSON parsers take a level of recursion for each level of nesting they accept."""
    sys.setrecursionlimit(max(sys.getrecursionlimit(), limits.recursion_max))


def calm_collection() -> None:
    """To be called once it has started: what is there by then stays, and is not looked at again.

    Callbacks make few cycles; with the default thresholds, collecting costs a tenth of ingest.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
