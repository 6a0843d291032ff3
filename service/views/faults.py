"""The database's faults as ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from service import errors
from service.database.database import Connection


@contextmanager
def translated(connection: Connection) -> Iterator[None]:
    try:
        yield
    except connection.faults as error:
        raise errors.ViewsUnavailable(
            f"the views cannot be used: {connection.explained(error)}"
        ) from error
