"""Where a request ends: what httptools leaves open of HTTP/1.1's framing (RFC 9112, section 6).

httptools itself refuses Content-Length beside Transfer-Encoding, several lengths, bad chunk
sizes, bare line feeds, folded lines and blanks before a colon.
"""

import re
from collections.abc import Sequence
from urllib.parse import unquote

import httptools
import msgspec
from litestar.types import HTTPScope

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} ")
_HASH = ord("#")
"""As a number: to look for a byte as bytes takes ten times as long."""

Headers = Sequence[tuple[bytes, bytes]]

_ASGI = {"version": "3.0", "spec_version": "2.3"}
_VERSIONS = frozenset({"1.0", "1.1"})


class Framed(msgspec.Struct, frozen=True, gc=False):
    """What a head says of the body."""

    length: int | None
    """As declared; None when the body is chunked, or there is none."""
    expects_continue: bool


def of_request(method: bytes, version: str, headers: Headers) -> Framed | None:
    """None unless every recipient would see the same request, which ends at the same byte.

    Coded transfers end like chunked ones but would leave us an encoded body; HTTP/1.0 knows no
    chunks; CONNECT would turn the connection into a tunnel; and with several hosts, or none in
    HTTP/1.1, a proxy before us may have meant another one (RFC 9112, section 3.2).
    """
    hosts = 0
    length = None
    expects_continue = False
    transfer = b""
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            # httptools has checked it.
            length = int(value)
        elif name == b"transfer-encoding":
            transfer += value.lower() + b","
        elif name == b"expect":
            expects_continue |= value.lower() == b"100-continue"
    if (
        method == b"CONNECT"
        or version not in _VERSIONS
        or (hosts != 1 and (hosts or version == "1.1"))
        or (transfer and (version == "1.0" or transfer != b"chunked,"))
    ):
        return None
    return Framed(length, expects_continue)


def scope_of(method: bytes, version: str, url: bytes, headers: Headers, scheme: str) -> HTTPScope:
    """The request as ASGI applications see it."""
    raw_path, query = _target(url)
    path = raw_path.decode("ascii")
    scope: HTTPScope = {  # type: ignore[typeddict-item]
        "type": "http",
        "asgi": _ASGI,
        "http_version": version,
        "method": method.decode("ascii"),
        "scheme": scheme,
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
    }
    return scope


def _target(url: bytes) -> tuple[bytes, bytes]:
    """Path and query."""
    if url.startswith(b"/") and _HASH not in url:
        # Nearly always. To look for the parts of an absolute one takes twice as long.
        path, _, query = url.partition(b"?")
        return path, query
    target = httptools.parse_url(url)
    return target.path or b"/", target.query or b""


def without_upgrade(method: bytes, url: bytes, version: str, headers: Headers) -> bytes:
    """The head again, without the offer to speak another protocol.

    An offer may be ignored (RFC 9110, section 7.8), but httptools takes what follows such a head
    for the other protocol. Java's HttpClient offers h2c with every request over plain HTTP.
    """
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    lines += [b"%s: %s" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])


def with_known_method(request: bytes) -> bytes | None:
    """The beginning of a request with a method that httptools knows and no route takes.

    httptools knows a fixed list, and calls a request with another method no HTTP at all; to a
    route the one is as good as the other. None if it does not begin with a method.
    """
    method = _METHOD.match(request)
    return None if method is None else b"UNLOCK " + request[method.end() :]
