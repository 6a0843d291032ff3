"""Who runs several processes of the service, as one of them sees him."""

from typing import Protocol


class Parent(Protocol):
    """Whoever runs this process as one of several: sends nothing, and can be read once it ends."""

    def send(self, addresses: dict[str, str], /) -> None:
        """Listening there."""
        ...

    def fileno(self) -> int: ...
