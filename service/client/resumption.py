"""How a watch goes on: what it asks for next, and what ended the stream before."""

import grpc

from service.client.cursor_file import Bookmark
from service.client.failures import CallFailed
from service.client.updates import (
    CaughtUp,
    Changes,
    FellBehind,
    Opened,
    Progress,
    SnapshotBegin,
    SnapshotEnd,
    Update,
)
from service.gen.plugchat.status.v1 import status_pb2 as pb

_Code = grpc.StatusCode

_PASSING_CODES = frozenset(
    {
        _Code.UNAVAILABLE,
        _Code.INTERNAL,
        _Code.UNKNOWN,
        _Code.ABORTED,
        # Not by us: a server or a proxy that goes away may end its streams so.
        _Code.CANCELLED,
    }
)
_PASSING_REASONS = frozenset({"TOO_MANY_WATCHERS", "LIMIT_EXCEEDED"})
_CURED_BY_SNAPSHOT = frozenset({"CURSOR_EXPIRED", "CURSOR_DIVERGED", "CURSOR_AHEAD"})
_REBUILT = "VIEWS_REBUILT"


class Ended(Exception):
    """A stream is over, and another one is worth a try."""

    def __init__(self, reason: str, message: str, *, at_once: bool = False) -> None:
        self.reason = reason
        self.at_once = at_once
        """Nothing is out of order: the next stream need not wait."""
        super().__init__(message)


class Resumption:
    """Where a watch stands. Every request it makes asks for the same, only from elsewhere."""

    def __init__(
        self, request: pb.WatchStatusesRequest, views_generation: int, *, resync: bool
    ) -> None:
        self.cursor = ""
        """Everything up to here was handed out; empty before the first Opened."""
        self.views_generation = views_generation
        """What was handed out is of this one; 0: not known."""
        self._first = pb.WatchStatusesRequest()
        self._first.CopyFrom(request)
        self._resync = resync
        self._snapshot_due = False
        self._asked_for: str | None = None

    def go_on_from(self, bookmark: Bookmark) -> None:
        """Start there instead of where the request says."""
        self.cursor, self.views_generation = bookmark

    def request(self) -> pb.WatchStatusesRequest:
        """What to ask the server for next."""
        request = pb.WatchStatusesRequest()
        request.CopyFrom(self._first)
        if self._snapshot_due:
            request.snapshot = True
        elif self.cursor:
            request.cursor = self.cursor
        self._asked_for = request.WhichOneof("start")
        return request

    def taken(self, response: pb.WatchStatusesResponse) -> Update:
        """What a frame says; the watch stands behind it. Raises Ended for a last one."""
        frame = response.WhichOneof("frame")
        if frame == "opened":
            return self._opened(response)
        self.cursor = cursor = response.cursor
        match frame:
            case "changes":
                return Changes(cursor, response.changes.changes)
            case "snapshot_end":
                return SnapshotEnd(cursor)
            case "caught_up":
                return CaughtUp(cursor)
            case "fell_behind":
                return FellBehind(cursor)
            case "closing":
                raise self._closing(response.closing)
            case _:
                # Progress, and whatever a newer server may send: the cursor counts.
                return Progress(cursor)

    def after(self, failure: CallFailed) -> Ended:
        """How the stream ended, if the watch can go on. Raises the failure if it can't."""
        if self._resync and failure.reason in _CURED_BY_SNAPSHOT:
            self._snapshot_due = True
            return Ended(failure.reason, str(failure), at_once=True)
        if failure.code in _PASSING_CODES or failure.reason in _PASSING_REASONS:
            return Ended(failure.reason or failure.code.name, str(failure))
        raise failure

    def _opened(self, response: pb.WatchStatusesResponse) -> Update:
        known, generation = self.views_generation, response.opened.views_generation
        if self._resync and self._asked_for == "cursor" and known not in (0, generation):
            self._snapshot_due = True
            raise Ended(
                _REBUILT,
                f"the views are of generation {generation}, and what was seen of {known}",
                at_once=True,
            )
        self.cursor, self.views_generation = response.cursor, generation
        if self._asked_for == "snapshot":
            self._snapshot_due = False
            return SnapshotBegin(response.cursor, generation)
        return Opened(response.cursor, generation)

    def _closing(self, closing: pb.Closing) -> Ended:
        try:
            reason = pb.ClosingReason.Name(closing.reason).removeprefix("CLOSING_REASON_")
        except ValueError:
            reason = str(closing.reason)
        if self._resync and reason == _REBUILT:
            self._snapshot_due = True
        return Ended(reason, "the server has closed the stream", at_once=True)
