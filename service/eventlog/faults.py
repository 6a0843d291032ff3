"""The database's faults as ours."""

from service import errors
from service.database.database import Connection
from service.database.faults import Translated


def translated(connection: Connection) -> Translated:
    return Translated(connection, errors.LogUnavailable, "the event log")
