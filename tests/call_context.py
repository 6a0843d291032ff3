"""What gRPC says of a call, where a handler is called without gRPC."""

from typing import NamedTuple


class CallContext(NamedTuple):
    time_left_s: float | None = None
    """None: the caller set no deadline."""

    def time_remaining(self) -> float | None:
        return self.time_left_s

    def peer(self) -> str:
        return "here"
