"""Calls of a kind, counted and limited together: no kind and no token is in another's way."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from service.api.access import Caller
from service.errors import LimitExceeded


class Limit(NamedTuple):
    """One of the configuration's limits."""

    name: str
    most: int


class Lane:
    def __init__(
        self, in_all: Limit, of_token: Limit | None, full: type[LimitExceeded] = LimitExceeded
    ) -> None:
        """`of_token`: those of one token. `full` is raised if there are too many in all."""
        self._in_all = in_all
        self._of_token = of_token
        self._full = full
        self._taken = 0
        self._taken_by: Counter[bytes] = Counter()

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Raises LimitExceeded if there is none."""
        self.take(caller)
        try:
            yield
        finally:
            self.give_back(caller)

    def take(self, caller: Caller) -> None:
        """A place, until `give_back`. Raises LimitExceeded if there is none."""
        if self._taken >= self._in_all.most:
            raise self._full(*self._in_all)
        token = caller.digest
        if self._of_token is not None and token:
            if self._taken_by[token] >= self._of_token.most:
                raise LimitExceeded(*self._of_token, "all are taken with this token")
            self._taken_by[token] += 1
        self._taken += 1

    def give_back(self, caller: Caller) -> None:
        self._taken -= 1
        token = caller.digest
        if self._of_token is not None and token:
            self._taken_by[token] -= 1
            if not self._taken_by[token]:
                del self._taken_by[token]
