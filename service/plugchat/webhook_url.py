"""Which addresses PlugChat may be told to call, and how they are shown. Pure.

An address is taken only in the one spelling that nobody reads differently: ASCII as RFC 3986
has it. So no full-width digit, ideographic dot, backslash, blank or control character can make
another host of it after somebody's normalisation. A host name with other letters is written
with its A-labels (`xn--…`), which are taken as they are; the rest is percent-encoded.

A webhook's secret stands in its query, so the query is never recorded or shown: see `redacted`.
"""

import hashlib
import re
from collections.abc import Collection, Iterator
from urllib.parse import unquote

REDACTED = "REDACTED"

_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_PARTS = re.compile(r"https://(?P<authority>[^/?#]+)(?P<rest>.*)", re.IGNORECASE)
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_PORT = re.compile(r"[0-9]{1,5}")
_HOST_CHARACTERS_MAX = 253
"""RFC 1035, section 2.3.4, without the length octets."""

# A host whose last label is a number is an IPv4 address, in whatever of the spellings that
# inet_aton knows (2130706433, 0x7f.1, 0177.0.0.1, 127.1), or nothing at all: no top-level
# domain is a number. https://url.spec.whatwg.org/#ends-in-a-number-checker.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")

_BARE_CHARACTERS_MAX = 8
"""A longer name without a value is rather a token with its base64 padding: `?c2VjcmV0…=`."""

_SEPARATORS = re.compile(r"([&;])")
_SUSPICIOUS = re.compile(r"[=&;?#\x00-\x20\x7f]")


def violations(
    url: str, *, allowed_hosts: Collection[str] | None, characters_max: int
) -> list[tuple[str, str]]:
    """What keeps the address from being used, as (field, fault) pairs; none if it can be.

    `allowed_hosts` are in lower case without trailing dots; None allows every host. A fault
    shows nothing of the address.
    """
    return [("url", fault) for fault in _faults(url, allowed_hosts, characters_max)]


def redacted(url: str) -> str:
    """The address with every value and bare key of its query replaced by REDACTED.

    For addresses without violations. `&` and `;` both separate; empty pieces stay empty. The
    name of a value stays, unless a secret may hide in it: a name that percent-decodes to
    something with a separator, or a long one without a value.
    """
    head, mark, query = url.partition("?")
    pieces = _SEPARATORS.split(query)
    pieces[::2] = map(_redacted_pair, pieces[::2])
    return head + mark + "".join(pieces)


def sha256(url: str) -> str:
    """Lower-case hex SHA-256 of the whole address: tells whether two were the same."""
    return hashlib.sha256(url.encode()).hexdigest()


def _faults(url: str, allowed_hosts: Collection[str] | None, characters_max: int) -> Iterator[str]:
    if not 1 <= len(url) <= characters_max:
        yield f"must have 1 to {characters_max} characters"
        return
    if not _CHARACTERS.fullmatch(url):
        yield (
            "has a character that an address cannot hold as it is: write the host with A-labels "
            "(xn--…) and percent-encode the rest"
        )
        return
    parts = _PARTS.fullmatch(url)
    if parts is None:
        yield "must be https://, a host name, and what follows it"
        return
    if "#" in parts["rest"]:
        yield "must not have a fragment"
    authority = parts["authority"]
    if "@" in authority:
        yield "must not have user information"
        authority = authority.rpartition("@")[2]
    yield from _authority_faults(authority, allowed_hosts)


def _authority_faults(authority: str, allowed_hosts: Collection[str] | None) -> Iterator[str]:
    if "[" in authority or "]" in authority:
        yield "must have a host name, not an IP address"
        return
    host, colon, port = authority.partition(":")
    if colon and not (_PORT.fullmatch(port) and 1 <= int(port) <= 65_535):
        yield "must have a port of 1 to 65535, or none"
    # One trailing dot only says that the name is complete.
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        yield "must have a host name, not an IP address"
    elif len(name) > _HOST_CHARACTERS_MAX or not all(map(_LABEL.fullmatch, labels)):
        yield "must have a valid host name"
    elif labels[-1] == "localhost":
        yield "must not point at localhost, nor at a name under it"
    elif allowed_hosts is not None and name not in allowed_hosts:
        yield "must point at one of the hosts in PLUGSTATUS_WEBHOOK_HOSTS"


def _redacted_pair(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not pair:
        return ""
    bare = not equals or (not value.strip("=") and (value or len(name) > _BARE_CHARACTERS_MAX))
    if bare:
        return REDACTED
    shown = REDACTED if _SUSPICIOUS.search(_decoded(name)) else name
    return f"{shown}={REDACTED}"


def _decoded(text: str) -> str:
    """Percent-decoded until nothing changes, since whoever reads it may decode it twice."""
    while (decoded := unquote(text)) != text:
        text = decoded
    return text
