"""How a process that serves collects garbage."""

import gc


def calm_collection() -> None:
    """To be called once it has started: what is there by then stays, and is not looked at again.

    Callbacks make few cycles; with the default thresholds, collecting costs a tenth of ingest.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
