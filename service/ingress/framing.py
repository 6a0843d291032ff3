"""Where a request ends: what httptools leaves open of HTTP/1.1's framing (RFC 9112, section 6).

httptools itself refuses Content-Length beside Transfer-Encoding, several lengths, bad chunk
sizes, bare line feeds, folded lines and blanks before a colon.
"""

import re
from collections.abc import Sequence

_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} ")

Headers = Sequence[tuple[bytes, bytes]]

_VERSIONS = frozenset({"1.0", "1.1"})


def is_clear(method: bytes, version: str, headers: Headers) -> bool:
    """Would every recipient see the same request, which ends at the same byte?

    Coded transfers end like chunked ones but would leave us an encoded body; HTTP/1.0 knows no
    chunks; CONNECT would turn the connection into a tunnel; and with several hosts, or none in
    HTTP/1.1, a proxy before us may have meant another one (RFC 9112, section 3.2).
    """
    encodings = [value for name, value in headers if name == b"transfer-encoding"]
    hosts = sum(name == b"host" for name, _ in headers)
    return (
        method != b"CONNECT"
        and version in _VERSIONS
        and (hosts == 1 or (hosts == 0 and version == "1.0"))
        and (not encodings or (version == "1.1" and [e.lower() for e in encodings] == [b"chunked"]))
    )


def content_length(headers: Headers) -> int | None:
    """The declared length, which httptools has checked; None if there is none."""
    return next((int(value) for name, value in headers if name == b"content-length"), None)


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
