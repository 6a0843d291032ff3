"""Which of several processes projects.

The leader's lease only saves the others their work. What keeps a former leader from writing is the
fence of its term, asked in every transaction of the views, and the checkpoint it has to start from.
"""

import threading
from contextlib import suppress
from typing import Protocol

import structlog

from service import errors
from service.database.database import Fence, unfenced
from service.database.lease import Leases, Term

_log = structlog.get_logger(__name__)
_LEASE = "projector"


class Leadership(Protocol):
    """Asked by the projector's thread."""

    def lead(self) -> Fence | None:
        """The fence of a term that is this process's, now or since before; None: another leads.

        Raises StoreUnusable if that cannot be said.
        """
        ...

    def want(self) -> None:
        """Ask the leader to let this process lead. Raises StoreUnusable if that cannot be done."""
        ...

    @property
    def leads(self) -> bool:
        """As far as is known here."""
        ...

    @property
    def wanted(self) -> bool:
        """Another process has asked to lead."""
        ...

    def step_down(self) -> None:
        """Let another one lead. Never raises. Idempotent."""
        ...


class SoleLeader:
    """Where only one process can write the views."""

    leads = True
    wanted = False

    def lead(self) -> Fence:
        return unfenced

    def want(self) -> None:
        """Nobody else leads."""

    def step_down(self) -> None:
        """Nobody else would lead."""


class LeasedLeadership:
    """Keeps a lease in the views' database, with a thread of its own while this process leads."""

    def __init__(self, leases: Leases, renew_s: float) -> None:
        self._leases = leases
        self._renew_s = renew_s
        self._term: Term | None = None
        self._wanted = False
        self._lock = threading.Lock()
        self._stepping_down = threading.Event()
        self._keeper: threading.Thread | None = None

    def lead(self) -> Fence | None:
        with self._lock:
            if self._term is None:
                term = self._leases.take(_LEASE)
                if term is None:
                    return None
                _log.info("leading")
                self._begin(term)
                return term.fence
            return self._term.fence

    def want(self) -> None:
        with self._lock:
            self._leases.want(_LEASE)

    @property
    def leads(self) -> bool:
        return self._term is not None

    @property
    def wanted(self) -> bool:
        return self._wanted

    def step_down(self) -> None:
        self._stepping_down.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None
        with self._lock:
            if self._term is not None:
                with suppress(errors.StoreUnusable):
                    self._leases.release(self._term)
                self._ended()
            self._leases.close()

    def _begin(self, term: Term) -> None:
        if self._keeper is not None:
            self._keeper.join()
        self._term, self._wanted = term, False
        self._stepping_down = threading.Event()
        self._keeper = threading.Thread(
            target=self._keep, args=(term, self._stepping_down), name="projector-lease"
        )
        self._keeper.start()

    def _keep(self, term: Term, stepping_down: threading.Event) -> None:
        while not stepping_down.wait(self._renew_s):
            with self._lock:
                try:
                    self._wanted = self._leases.renew(term)
                except errors.StoreUnusable as error:
                    _log.warning("the lease is not renewed, trying again", reason=str(error))
                except errors.CheckpointMoved:
                    self._ended()
                    return

    def _ended(self) -> None:
        _log.info("leading no more")
        self._term, self._wanted = None, False
