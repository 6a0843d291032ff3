"""A callback's body: inflated within bounds, and checked without building its values.

Checked means strict UTF-8 without BOM, JSON as RFC 8259 has it, an object, and nested at most so
deep. msgspec does it in one pass, with two gaps that are closed here: it does not look at the
UTF-8 of strings it skips, and it refuses lone surrogate escapes, which RFC 8259 (section 8.2)
allows. A body that it refuses is looked at once more with other characters in their place; the
standard library's parser would take them, but it builds all values, which can hold the process
for 0.2 s.

msgspec recurses, so depth is counted first: it never needs more of the stack than the depth
allowed. Python's recursion limit must be above that by as much as the caller's stack is deep; a
body that does not fit counts as too deep.
"""

import re
import zlib
from itertools import accumulate

import msgspec

from service.ingress import problems

_GZIP_WINDOW_BITS = 31
"""The greatest window, and a gzip header and trailer around it (zlib's manual, inflateInit2)."""

# Nothing is ever tried twice, and a string without an end ends with the body: linear whatever
# is sent.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
# As long as what replaces it, so that every backslash keeps its place and its meaning, whether or
# not it is itself escaped.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_REPLACEMENT = rb"\\ufffd"
_BRACKETS = b"[]{}"
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in _BRACKETS)
_STEPS = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")
"""An opening bracket is a step of +1 and a closing one of -1, as signed bytes."""

_SLICE_BYTES = 64 * 1024
"""Brackets that are counted in one call, which takes about 2 ms and lets no other thread run."""


class _Typed(msgspec.Struct, gc=False):
    """What nearly all bodies are."""

    type: str | None = None


class _Members(msgspec.Struct, gc=False):
    type: msgspec.Raw = msgspec.Raw(b"")


_typed = msgspec.json.Decoder(_Typed)
_members = msgspec.json.Decoder(_Members)
_string = msgspec.json.Decoder(str)


def inflated(compressed: bytes, bytes_max: int) -> bytes:
    """The content of exactly one gzip member; at most one byte over the limit is ever held.

    Raises Refused: 413 over the limit; 400 if it is damaged, cut short, or anything follows it.
    """
    inflater = zlib.decompressobj(wbits=_GZIP_WINDOW_BITS)
    try:
        content = inflater.decompress(compressed, bytes_max + 1)
    except zlib.error:
        raise problems.Refused(problems.BAD_GZIP) from None
    if len(content) > bytes_max:
        raise problems.Refused(problems.BODY_TOO_LARGE)
    if not inflater.eof or inflater.unused_data:
        raise problems.Refused(problems.BAD_GZIP)
    return content


def inflated_at_once(compressed: bytes, bytes_max: int) -> bytes | None:
    """The content, if it is small; else None, which says nothing yet of what is wrong with it."""
    inflater = zlib.decompressobj(wbits=_GZIP_WINDOW_BITS)
    try:
        content = inflater.decompress(compressed, bytes_max)
    except zlib.error:
        raise problems.Refused(problems.BAD_GZIP) from None
    return content if inflater.eof and not inflater.unused_data else None


def type_of(content: bytes, depth_max: int) -> str | None:
    """The `type` of a checked body; None if there is none, or it is not a string.

    Of several members of that name the last counts. The object itself is the first level. Where
    the body holds a lone surrogate escape, surrogate escapes in the type become U+FFFD.
    Raises Refused with 400.
    """
    if _is_deeper(content, depth_max):
        raise problems.Refused(problems.TOO_DEEP)
    try:
        return _type_of(content)
    except RecursionError:
        raise problems.Refused(problems.TOO_DEEP) from None
    except ValueError:
        raise problems.Refused(problems.BAD_JSON) from None


def _type_of(content: bytes) -> str | None:
    """Raises ValueError if the content is not a JSON object in UTF-8."""
    if not content.isascii():
        content.decode()
    try:
        return _typed.decode(content).type
    except msgspec.DecodeError:
        return _type_of_rare(content)


def _type_of_rare(content: bytes) -> str | None:
    """The same, where the type may be no string, or a surrogate is alone somewhere."""
    try:
        raw = bytes(_members.decode(content).type)
    except msgspec.DecodeError:
        raw = bytes(_members.decode(_SURROGATE.sub(_REPLACEMENT, content)).type)
    return _string.decode(raw) if raw[:1] == b'"' else None


def _is_deeper(content: bytes, depth_max: int) -> bool:
    """Is it nested deeper than that? Counted in slices, without recursion.

    Exact for valid JSON, and never too little for what a parser reads of invalid JSON: up to its
    first fault both see the same strings.
    """
    # Nearly all bodies are so short that they cannot be.
    if len(content) <= depth_max or content.count(b"[") + content.count(b"{") <= depth_max:
        return False
    steps = memoryview(_STRING.sub(b"", content).translate(_STEPS, _NOT_BRACKETS)).cast("b")
    depth = 0
    for start in range(0, len(steps), _SLICE_BYTES):
        part = steps[start : start + _SLICE_BYTES]
        if max(accumulate(part, initial=depth)) > depth_max:
            return True
        depth += sum(part)
    return False
