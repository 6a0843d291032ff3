"""A failed call, with the reason the server gave."""

from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from service.client.rpc_status import BadRequest, ErrorInfo, Status, detail

_DETAILS = "grpc-status-details-bin"
_DOMAIN = "plugchat.status.v1"


class CallFailed(Exception):
    """What the server, or the way to it, answered instead of a response.

    Decide by `code` and `reason`; the text is for people.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        metadata: Mapping[str, str] | None = None,
        violations: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.code = code
        self.reason = reason
        """A name of ErrorReason without its prefix; empty if the server gave none."""
        self.metadata = metadata or {}
        """What ErrorReason says of it, such as the instances that share an id."""
        self.violations = violations
        """(field, fault) of each field that broke its bounds."""
        super().__init__(message)


def failed(error: grpc.aio.AioRpcError) -> CallFailed:
    """The same failure, with its details unpacked."""
    info, bad_request = _details(error)
    # What stands between may add details of its own; their reasons mean nothing here.
    reason, metadata = (info.reason, info.metadata) if info.domain == _DOMAIN else ("", {})
    violations = tuple((v.field, v.description) for v in bad_request.field_violations)
    return CallFailed(error.code(), reason, error.details() or "", dict(metadata), violations)


def _details(error: grpc.aio.AioRpcError) -> tuple[Any, Any]:
    """ErrorInfo and BadRequest, empty where there is none."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            try:
                status = Status.FromString(value)
                return detail(status, ErrorInfo), detail(status, BadRequest)
            except DecodeError:
                # A garbled trailer hides the reason, and must not hide the failure.
                break
    return ErrorInfo(), BadRequest()
