"""The one table from the service's errors to gRPC codes and reasons.

Every error carries `google.rpc.ErrorInfo` in `grpc-status-details-bin`, as AIP-193 asks
(https://google.aip.dev/193): domain `plugchat.status.v1`, and a name of the proto's ErrorReason
without its prefix. Trailers hold 8 KiB in all, so what is listed in them is bounded.
"""

from collections.abc import Mapping
from typing import NamedTuple

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from service import errors
from service.gen.plugchat.status.v1 import status_pb2 as pb

DOMAIN = "plugchat.status.v1"
VIOLATIONS_MAX = 10
_TEXT_CHARACTERS_MAX = 512
"""Of any text in a trailer."""

_PREFIX = "ERROR_REASON_"
_Code = grpc.StatusCode

_TABLE: dict[type[errors.PlugstatusError], tuple[grpc.StatusCode, int | None]] = {
    # Of the standard health service, whose errors are not ours to give a reason.
    errors.ServiceUnknown: (_Code.NOT_FOUND, None),
    errors.TokenMissing: (_Code.UNAUTHENTICATED, pb.ERROR_REASON_TOKEN_MISSING),
    errors.TokenInvalid: (_Code.UNAUTHENTICATED, pb.ERROR_REASON_TOKEN_INVALID),
    errors.RoleRequired: (_Code.PERMISSION_DENIED, pb.ERROR_REASON_ROLE_REQUIRED),
    errors.InstanceDenied: (_Code.PERMISSION_DENIED, pb.ERROR_REASON_INSTANCE_DENIED),
    errors.FieldsInvalid: (_Code.INVALID_ARGUMENT, pb.ERROR_REASON_FIELD_INVALID),
    errors.CursorInvalid: (_Code.INVALID_ARGUMENT, pb.ERROR_REASON_CURSOR_INVALID),
    errors.CursorForeign: (_Code.FAILED_PRECONDITION, pb.ERROR_REASON_CURSOR_FOREIGN),
    errors.CursorDiverged: (_Code.FAILED_PRECONDITION, pb.ERROR_REASON_CURSOR_DIVERGED),
    errors.CursorAhead: (_Code.FAILED_PRECONDITION, pb.ERROR_REASON_CURSOR_AHEAD),
    errors.CursorExpired: (_Code.OUT_OF_RANGE, pb.ERROR_REASON_CURSOR_EXPIRED),
    errors.MessageNotFound: (_Code.NOT_FOUND, pb.ERROR_REASON_MESSAGE_NOT_FOUND),
    errors.AmbiguousMessageId: (
        _Code.FAILED_PRECONDITION,
        pb.ERROR_REASON_AMBIGUOUS_MESSAGE_ID,
    ),
    errors.WebhookNotFound: (_Code.NOT_FOUND, pb.ERROR_REASON_WEBHOOK_NOT_FOUND),
    errors.RequestIdReused: (_Code.INVALID_ARGUMENT, pb.ERROR_REASON_REQUEST_ID_REUSED),
    errors.PageTokenInvalid: (_Code.INVALID_ARGUMENT, pb.ERROR_REASON_PAGE_TOKEN_INVALID),
    errors.LogUnavailable: (_Code.UNAVAILABLE, pb.ERROR_REASON_LOG_UNAVAILABLE),
    errors.ViewsUnavailable: (_Code.UNAVAILABLE, pb.ERROR_REASON_VIEWS_UNAVAILABLE),
    errors.ViewsBehind: (_Code.UNAVAILABLE, pb.ERROR_REASON_VIEWS_BEHIND),
    errors.WaitTimedOut: (_Code.DEADLINE_EXCEEDED, pb.ERROR_REASON_WAIT_TIMED_OUT),
    errors.ShuttingDown: (_Code.UNAVAILABLE, pb.ERROR_REASON_SHUTTING_DOWN),
    errors.WatcherStalled: (_Code.UNAVAILABLE, pb.ERROR_REASON_WATCHER_STALLED),
    errors.TooManyWatchers: (_Code.RESOURCE_EXHAUSTED, pb.ERROR_REASON_TOO_MANY_WATCHERS),
    errors.LimitExceeded: (_Code.RESOURCE_EXHAUSTED, pb.ERROR_REASON_LIMIT_EXCEEDED),
    errors.CredentialsMissing: (
        _Code.FAILED_PRECONDITION,
        pb.ERROR_REASON_PLUGCHAT_CREDENTIALS_MISSING,
    ),
    errors.ProviderUnauthorized: (
        _Code.FAILED_PRECONDITION,
        pb.ERROR_REASON_PLUGCHAT_UNAUTHORIZED,
    ),
    errors.ProviderMethodNotAllowed: (
        _Code.FAILED_PRECONDITION,
        pb.ERROR_REASON_PLUGCHAT_METHOD_NOT_ALLOWED,
    ),
    errors.ProviderUnsupportedMediaType: (
        _Code.FAILED_PRECONDITION,
        pb.ERROR_REASON_PLUGCHAT_UNSUPPORTED_MEDIA_TYPE,
    ),
    errors.ProviderRejected: (_Code.FAILED_PRECONDITION, pb.ERROR_REASON_PLUGCHAT_REJECTED),
    errors.ProviderRateLimited: (
        _Code.RESOURCE_EXHAUSTED,
        pb.ERROR_REASON_PLUGCHAT_RATE_LIMITED,
    ),
    errors.ProviderUnavailable: (_Code.UNAVAILABLE, pb.ERROR_REASON_PLUGCHAT_UNAVAILABLE),
}


_OF_STORES = (errors.LogUnavailable, errors.ViewsUnavailable)
_LATER = "the service's store cannot be used now: try again later"


class Answer(NamedTuple):
    """An error as it goes over the wire."""

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, bytes], ...]


def answer(error: errors.PlugstatusError) -> Answer:
    """What the caller is told. Raises KeyError for an error no caller should ever see."""
    code, reason = _TABLE[type(error)]
    if reason is None:
        return Answer(code, str(error), ())
    name = pb.ErrorReason.Name(pb.ErrorReason.ValueType(reason)).removeprefix(_PREFIX)
    details = [_packed(ErrorInfo(reason=name, domain=DOMAIN, metadata=_metadata(error)))]
    if isinstance(error, errors.FieldsInvalid):
        details.append(_packed(_bad_request(error)))
    if is_of_a_store(error):
        return _answer(code, _LATER, details)
    return _answer(code, str(error), details)


def is_of_a_store(error: errors.PlugstatusError) -> bool:
    """Does it say what a database said, who may name hosts, users and files?"""
    return isinstance(error, _OF_STORES) and error.__cause__ is not None


def internal(error_id: str) -> Answer:
    """A defect of ours: the caller gets an id to ask about, and nothing else."""
    info = ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"error_id": error_id})
    return _answer(
        _Code.INTERNAL, f"internal error {error_id}: the server's log has it", [_packed(info)]
    )


def _answer(code: grpc.StatusCode, message: str, details: list[AnyMessage]) -> Answer:
    text = message[:_TEXT_CHARACTERS_MAX]
    status = Status(code=code.value[0], message=text, details=details)
    return Answer(code, text, (("grpc-status-details-bin", status.SerializeToString()),))


def _metadata(error: errors.PlugstatusError) -> Mapping[str, str]:
    match error:
        case errors.AmbiguousMessageId():
            return {"instances": ",".join(error.instances)}
        case errors.LimitExceeded():
            return {"limit": error.limit, "limit_max": f"{error.limit_max:g}"}
        case errors.ProviderError() if error.status_code:
            return {"status_code": str(error.status_code)}
        case _:
            return {}


def _bad_request(error: errors.FieldsInvalid) -> BadRequest:
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=field, description=fault[:_TEXT_CHARACTERS_MAX])
            for field, fault in error.violations[:VIOLATIONS_MAX]
        ]
    )


def _packed(detail: ErrorInfo | BadRequest) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed
