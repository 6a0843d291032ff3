"""A failed call, with the reason the server gave."""

from collections.abc import Mapping

import grpc
import grpc.aio
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

_DETAILS = "grpc-status-details-bin"


class CallFailed(Exception):
    """What the server, or the way to it, answered instead of a response."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        metadata: Mapping[str, str],
        violations: tuple[tuple[str, str], ...],
    ) -> None:
        self.code = code
        self.reason = reason
        """A name of ErrorReason without its prefix; empty if the server gave none."""
        self.metadata = metadata
        self.violations = violations
        """(field, fault) of each field that broke its bounds."""
        super().__init__(message)


def failed(error: grpc.aio.AioRpcError) -> CallFailed:
    """The same failure, with its details unpacked."""
    info, bad_request = ErrorInfo(), BadRequest()
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS and isinstance(value, bytes):
            for detail in Status.FromString(value).details:
                detail.Unpack(info)
                detail.Unpack(bad_request)
    violations = tuple((v.field, v.description) for v in bad_request.field_violations)
    return CallFailed(
        error.code(), info.reason, error.details() or "", dict(info.metadata), violations
    )
