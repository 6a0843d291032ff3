"""Every error answer, in one table, as problem documents (RFC 9457).

A document says what to change and nothing about the request: no query, no token, no text of an
exception. `type` is left out, which means about:blank, so `title` is the status phrase
(RFC 9457, section 4.2.1).
"""

from http import HTTPStatus

import msgspec

Headers = list[tuple[bytes, bytes]]


class Problem:
    """One kind of error answer; encoded once, sent often."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        """Further headers by name, `_` for `-`."""
        document = {"title": status.phrase, "status": int(status), "detail": detail}
        self.status = int(status)
        self.body = msgspec.json.encode(document)
        self.headers: Headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(self.body)),
            *((name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()),
        ]


class Refused(Exception):
    """Ends a request with a problem. Never leaves this package."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.status)


NOT_FOUND = Problem(HTTPStatus.NOT_FOUND, "Nothing is here, or the instance is not served.")
ONLY_POST = Problem(HTTPStatus.METHOD_NOT_ALLOWED, "A callback is posted.", allow="POST")
ONLY_GET = Problem(HTTPStatus.METHOD_NOT_ALLOWED, "This is only read.", allow="GET, HEAD")
TOKEN_REFUSED = Problem(
    HTTPStatus.UNAUTHORIZED,
    "The query must carry exactly one valid ?token=.",
    # No registered scheme puts a token in the query; a challenge is required all the same
    # (RFC 9110, section 15.5.2).
    www_authenticate='Token realm="plugstatus"',
)
NOT_JSON_TYPE = Problem(
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "The Content-Type must be application/json.",
    accept="application/json",
)
NOT_GZIP = Problem(
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "The Content-Encoding must be gzip or identity, once.",
    accept_encoding="gzip, identity",
)
BODY_TOO_LARGE = Problem(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is larger than a callback may be."
)
TOO_SLOW = Problem(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time.")
HEAD_TOO_LARGE = Problem(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request line and headers are too large."
)
NOT_HTTP = Problem(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP/1.1.")
BAD_REQUEST = Problem(HTTPStatus.BAD_REQUEST, "The request cannot be understood.")
BAD_GZIP = Problem(HTTPStatus.BAD_REQUEST, "The body is not exactly one whole gzip member.")
BAD_JSON = Problem(
    HTTPStatus.BAD_REQUEST, "The body is not a JSON object (RFC 8259) in UTF-8 without BOM."
)
TOO_DEEP = Problem(HTTPStatus.BAD_REQUEST, "The body is nested too deep.")
NOT_RECORDED = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "The callback is not known to be recorded: post it again, which does no harm.",
    retry_after="5",
)
DRAINING = Problem(HTTPStatus.SERVICE_UNAVAILABLE, "This server is shutting down.", retry_after="1")
TOO_BUSY = Problem(
    HTTPStatus.SERVICE_UNAVAILABLE, "Too much is under way: try again.", retry_after="1"
)
INTERNAL = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "A fault of this server; it was logged.")
