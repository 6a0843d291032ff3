"""The database's faults as ours."""

from types import TracebackType

from service.database.database import Connection
from service.errors import RetryLater


class Translated:
    """A context manager, and no generator's: one is around every read."""

    __slots__ = ("_connection", "_raised", "_what")

    def __init__(self, connection: Connection, raised: type[RetryLater], what: str) -> None:
        """`raised`, with a sentence about `what`, in place of what the database raises."""
        self._connection = connection
        self._raised = raised
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, self._connection.faults):
            told = self._connection.explained(error)
            raise self._raised(f"{self._what} cannot be used: {told}") from error
