"""Hears of changes that other processes have made.

What is heard is a hint and nothing more: whoever is told looks at the store, and looks at it now
and again anyway. So a connection that is lost, or a notification, costs time and never a change.
"""

import threading
from collections.abc import Callable, Mapping

import structlog

from service import errors
from service.database.database import Database

_log = structlog.get_logger(__name__)


class Listener:
    """A thread with a connection of its own."""

    def __init__(
        self, database: Database, heard: Mapping[str, Callable[[], None]], retry_s: float
    ) -> None:
        """`heard` is called by channel, on the listener's thread: keep it short."""
        self._database = database
        self._heard = heard
        self._retry_s = retry_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Idempotent."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                connection = self._database.connect_writer()
            except errors.StoreUnusable:
                # Whoever reads or writes the store tells of it.
                self._stopping.wait(self._retry_s)
                continue
            try:
                for channel in connection.listen([*self._heard], self._stopping.is_set):
                    self._heard[channel]()
            except connection.faults as error:
                _log.warning("notifications are not heard, trying again", reason=str(error))
                self._stopping.wait(self._retry_s)
            finally:
                connection.close()
