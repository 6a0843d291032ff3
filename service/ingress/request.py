"""What a callback's head says: the instance, the token given, the body announced."""

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote_to_bytes

import msgspec

from service import config
from service.ingress import problems

# One pass, because an attacker's query can hold 16,000 parameters. Both the name and the value
# may be percent-encoded, though neither needs to be.
_TOKEN_PARAMETER = re.compile(
    rb"(?:\A|&)(?:t|%74)(?:o|%6[fF])(?:k|%6[bB])(?:e|%65)(?:n|%6[eE])(?:=([^&]*))?(?=&|\Z)"
)
_TOKEN = b"token="
_AMPERSAND, _PERCENT = b"&%"
"""As numbers: to look for a byte as bytes takes ten times as long."""


class Announced(msgspec.Struct, frozen=True, gc=False):
    """The body as the head announces it."""

    gzip: bool
    length: int | None
    """None when the body is chunked, or there is none."""


_PATH_BYTES_MAX = 3 * len(f"/instancia/{'i' * 128}/status")
"""Of an instance's path, were every character of it percent-encoded."""


def instance_of(raw_path: bytes) -> str | None:
    """The instance of `/instancia/{instance}/status`, or None for any other path.

    The path is split before it is percent-decoded: `a%2Fb` is one segment, and no instance.
    """
    return _instance_of(raw_path) if len(raw_path) <= _PATH_BYTES_MAX else None


# The same few come all the time.
@lru_cache(maxsize=1_024)
def _instance_of(raw_path: bytes) -> str | None:
    segments = raw_path.split(b"/")
    if b"%" in raw_path:
        segments = [unquote_to_bytes(segment) for segment in segments]
    if len(segments) != 4 or segments[0] or segments[1] != b"instancia" or segments[3] != b"status":
        return None
    instance = segments[2].decode("latin-1")
    return instance if config.is_instance(instance) else None


def tokens_given(query: bytes) -> list[bytes]:
    """The value of every `token` parameter of a query, decoded, in order."""
    if query.startswith(_TOKEN) and _AMPERSAND not in query and _PERCENT not in query:
        # Nearly always it is the one parameter, as it is. The search takes three times as long.
        return [query.removeprefix(_TOKEN)]
    return [unquote_to_bytes(value) for value in _TOKEN_PARAMETER.findall(query)]


def announced(headers: Iterable[tuple[bytes, bytes]]) -> Announced:
    """Raises Refused with 415 unless the body is said to be JSON, plain or in one gzip."""
    content_types = encodings = 0
    content_type, encoding, length = b"", b"identity", None
    for name, value in headers:
        if name == b"content-type":
            content_types += 1
            content_type = value
        elif name == b"content-encoding":
            encodings += 1
            encoding = value.strip().lower()
        elif name == b"content-length":
            length = int(value)
    if content_types != 1 or not _is_json(content_type):
        raise problems.Refused(problems.NOT_JSON_TYPE)
    if encodings > 1 or encoding not in {b"gzip", b"identity"}:
        raise problems.Refused(problems.NOT_GZIP)
    return Announced(encoding == b"gzip", length)


@lru_cache(maxsize=64)
def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"
