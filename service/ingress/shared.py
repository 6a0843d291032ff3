"""What the connections of a server share."""

from typing import Generic, TypeVar

from service.ingress.cycle import Application

ConnectionT = TypeVar("ConnectionT")


class Shared(Generic[ConnectionT]):
    """Touched by the server's loop only."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.connections: set[ConnectionT] = set()
        """The open ones."""
        self.headers = b""
        """Of every answer, as they are sent."""
