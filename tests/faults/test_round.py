"""A short round of faults: a real server, restarted twice, with watchers of every manner."""

import random
from pathlib import Path

from tests.faults.promises import judged
from tests.faults.round import SHORT, played
from tests.faults.torture import again, summary


def test_every_promise_is_kept_through_faults(tmp_path: Path) -> None:
    """Through a stall, SIGKILL in a snapshot, a rebuild and SIGTERM no promise is broken."""
    seed = random.randrange(1, 2**32)
    print(again(seed, short=True))
    history = played(seed, SHORT, tmp_path)
    print(summary(history))
    frames = {frame.kind for stream in history.streams for frame in stream.frames}

    assert [] == [str(violation) for violation in judged(history)]
    assert [one.signal for one in history.outages] == ["SIGKILL", "SIGTERM", "SIGTERM"]
    assert {"snapshot_end", "caught_up", "fell_behind", "progress", "closing"} <= frames
    assert history.stalls
