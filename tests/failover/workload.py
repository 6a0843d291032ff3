"""What a cluster is put to while its machines die, and how it is judged."""

from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self


class Verdict(NamedTuple):
    """How what was acknowledged compares with what is there."""

    acknowledged: int
    lost: Sequence[str]
    """What was acknowledged and is not there; a few words each."""
    in_doubt: int
    """Writes without an answer, which may be there or not."""


class Workload(Protocol):
    """Runs from enter to exit, through every fault. Moments are of time.monotonic."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def await_acknowledged(self, more: int, deadline_s: float) -> None:
        """Until so many more writes were acknowledged than now. Raises TimeoutError."""

    def went_on(self, since_s: float, deadline_s: float) -> float:
        """When the first write was acknowledged that had begun after that moment, which it waits
        for. Raises TimeoutError."""

    def verdict(self) -> Verdict:
        """Of all that was acknowledged up to now, while it runs. Raises TimeoutError."""
