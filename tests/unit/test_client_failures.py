"""Errors as the client tells them, without the package that defines their details."""

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from service.client.failures import failed
from tests.calls import DOMAIN

INFO = ErrorInfo(
    reason="AMBIGUOUS_MESSAGE_ID", domain=DOMAIN, metadata={"instances": "a,b", "limit": "3"}
)
BAD = BadRequest(
    field_violations=[
        BadRequest.FieldViolation(field="message_id", description="is empty"),
        BadRequest.FieldViolation(field="instance", description="ünknown"),
    ]
)


def _trailer(*details: Message) -> bytes:
    status = Status(code=3, message="in words")
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return bytes(status.SerializeToString())


def _error(*trailers: tuple[str, str | bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(*trailers),
        details="in words",
    )


def test_details_in_any_order() -> None:
    """Reason, metadata and violations are read, whatever else stands between them."""
    trailer = _trailer(BAD, RetryInfo(), INFO)
    failure = failed(_error(("x", "y"), ("grpc-status-details-bin", trailer)))

    assert (failure.code, str(failure)) == (grpc.StatusCode.INVALID_ARGUMENT, "in words")
    assert failure.reason == "AMBIGUOUS_MESSAGE_ID"
    assert failure.metadata == {"instances": "a,b", "limit": "3"}
    assert failure.violations == (("message_id", "is empty"), ("instance", "ünknown"))


@pytest.mark.parametrize(
    "trailers",
    [
        [],
        [("grpc-status-details-bin", b"")],
        [("grpc-status-details-bin", b"\xff\xff garbled")],
        [("grpc-status-details-bin", _trailer(ErrorInfo(reason="X", domain="example.com")))],
    ],
    ids=["none", "empty", "garbled", "somebody else's"],
)
def test_no_details_of_ours(trailers: list[tuple[str, str | bytes]]) -> None:
    """The failure stays what it is, without a reason."""
    failure = failed(_error(*trailers))

    assert (failure.code, failure.reason, failure.metadata) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "",
        {},
    )
