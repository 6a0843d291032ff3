"""Page tokens: where a listing goes on, as an opaque string.

A token is bound to the log, the rpc and the arguments it was given for, so that another listing's
token is refused instead of skipping rows without a word:

    "1" · 8 bytes of SHA-256 over log, rpc and arguments · the last row's key as JSON · CRC-32

in URL-safe base64 without padding. It holds the key and no state of the server's, so it lasts for
as long as the log does.
"""

import base64
import binascii
import hashlib
from typing import Any, Protocol
from zlib import crc32

import msgspec

from service import errors
from service.domain.events import Place, Position

_VERSION = b"1"
_SCOPE_BYTES = 8
_CHECKSUM_BYTES = 4
_NOT_ARGUMENTS = ("page_size", "page_token")


class PagedRequest(Protocol):
    """Any List request; also a proto message."""

    page_token: str


class PageTokens:
    """Tokens of one log's listings."""

    def __init__(self, log_identity: str) -> None:
        self._log = bytes.fromhex(log_identity)

    def behind(self, request: PagedRequest, *key: int | str) -> str:
        """The token of the page behind the row with that key."""
        data = _VERSION + self._scope(request) + msgspec.json.encode(key)
        data += crc32(data).to_bytes(_CHECKSUM_BYTES, "big")
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    # Each of these reads the key out of the request's page_token, None if it has none, and raises
    # PageTokenInvalid if that is not a token of this very listing.

    def place(self, request: PagedRequest) -> Place | None:
        key = self._key(request, tuple[int, int])
        return Place(Position(key[0]), key[1]) if key else None

    def position(self, request: PagedRequest) -> Position | None:
        key = self._key(request, tuple[int])
        return Position(key[0]) if key else None

    def name(self, request: PagedRequest) -> str | None:
        key = self._key(request, tuple[str])
        return str(key[0]) if key else None

    def _key(self, request: PagedRequest, shape: Any) -> Any:
        text = request.page_token
        if not text:
            return None
        try:
            padded = text.encode("ascii") + b"=" * (-len(text) % 4)
            data = base64.b64decode(padded, altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raise errors.PageTokenInvalid from None
        body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        head = _VERSION + self._scope(request)
        if crc32(body).to_bytes(_CHECKSUM_BYTES, "big") != checksum or not body.startswith(head):
            raise errors.PageTokenInvalid
        try:
            return msgspec.json.decode(body[len(head) :], type=shape)
        except msgspec.DecodeError:
            raise errors.PageTokenInvalid from None

    def _scope(self, request: Any) -> bytes:
        arguments = type(request)()
        arguments.CopyFrom(request)
        for name in _NOT_ARGUMENTS:
            arguments.ClearField(name)
        named = request.DESCRIPTOR.full_name.encode()
        encoded = arguments.SerializeToString(deterministic=True)
        return hashlib.sha256(b"\0".join([self._log, named, encoded])).digest()[:_SCOPE_BYTES]
