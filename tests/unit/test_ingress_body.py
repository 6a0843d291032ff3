"""The body check: exactly RFC 8259 objects in UTF-8, however odd, and only so deep."""

import gzip
import json
import re
import threading
import time
import zlib
from typing import Any, NoReturn

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from service.config import Limits
from service.ingress import body, problems

DEPTH_MAX = Limits().body_depth_max
BYTES_MAX = Limits().body_bytes_max


def accepted(content: bytes, depth_max: int = DEPTH_MAX) -> bool:
    """Is the body taken? A refusal must be a 400."""
    status = 200
    try:
        body.type_of(content, depth_max)
    except problems.Refused as refused:
        status = refused.problem.status
    assert status in {200, 400}
    return status == 200


def refusal(act: Any, *arguments: Any) -> int:
    """The status an act is refused with."""
    with pytest.raises(problems.Refused) as caught:
        act(*arguments)
    return caught.value.problem.status


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b' \t\r\n{"a" : 1 } \n',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":"\\\\\\ud800\\\\"}',
        b'{"a":"\\u0000"}',
        b'{"a":"\\ud83d\\ude00 \\ud83d"}',
        b'{"a":' + b"9" * 5_000 + b"}",
        b'{"a":-0.0e-99999}',
        b'{"a":1,"a":2}',
        '{"é":"日本 😀"}'.encode(),
        b'{"a":"' + b"x" * (BYTES_MAX - 8) + b'"}',
    ],
    ids=lambda content: repr(content[:24]),
)
def test_odd_but_valid_bodies_are_accepted(content: bytes) -> None:
    """Whatever RFC 8259 allows in an object is taken, however odd."""
    assert accepted(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"[]",
        b"null",
        b'"{}"',
        b"{} {}",
        b"{}x",
        b"{",
        b'{"a":}',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":01}',
        b'{"a":.5}',
        b'{"a":"\\x41"}',
        b'{"a":"\\ud80"}',
        b'{"a":"\\ud800" "\\q"}',
        b'{"a":"\n"}',
        b'{"a":"\x00"}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\x80"}',
        b'{"a":\\ud800}',
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        b"{} // comment",
        b'{"type":"A","b":"\xc3"}',
    ],
    ids=repr,
)
def test_what_is_not_a_json_object_in_utf8_is_refused(content: bytes) -> None:
    """Anything else is refused: other values, trailing bytes, extensions, BOM, broken UTF-8."""
    assert not accepted(content)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_exact(opening: bytes, closing: bytes) -> None:
    """A body nested 1,000 deep is taken, and one of 1,001 is not."""
    innermost = b"1" if closing == b"}" else b""

    def deep(levels: int) -> bytes:
        return b'{"a":' + opening * (levels - 1) + innermost + closing * (levels - 1) + b"}"

    assert accepted(deep(DEPTH_MAX))
    assert not accepted(deep(DEPTH_MAX + 1))


def test_brackets_in_strings_are_no_depth() -> None:
    """Only brackets outside of strings count, whatever is escaped inside."""
    assert accepted(b'{"a":"' + b'[{\\"[\\\\' * 2_000 + b'"}')


def test_many_brackets_side_by_side_are_no_depth() -> None:
    """Breadth is no depth: thousands of small values beside each other are taken."""
    assert accepted(b'{"a":[' + b"[{}]," * 20_000 + b"[]]}")


def test_depth_is_counted_across_slices() -> None:
    """The count goes on where a slice ended: a deep place is found wherever it stands."""
    breadth = b"[{}]," * 40_000
    fits = b'{"a":[' + breadth + b"[" * (DEPTH_MAX - 2) + b"]" * (DEPTH_MAX - 2) + b"]}"
    too_deep = b'{"a":[' + breadth + b"[" * (DEPTH_MAX - 1) + b"]" * (DEPTH_MAX - 1) + b"]}"

    assert accepted(fits)
    assert not accepted(too_deep)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * BYTES_MAX,
        b'{"a":' * (BYTES_MAX // 5),
        b"[" * 1_001 + b'"\\' * (BYTES_MAX // 2 - 1_000),
        b"[" * 1_001 + b'"' * (BYTES_MAX - 1_001),
        b'{"a":"' + b"\\ud800" * (BYTES_MAX // 6 - 2) + b'"}',
        b'{"a":"' + b"\\" * (BYTES_MAX - 9) + b'"}',
    ],
    ids=["arrays", "objects", "escapes", "quotes", "surrogates", "backslashes"],
)
def test_a_hostile_mebibyte_is_checked_in_bounded_time(content: bytes) -> None:
    """No body of the greatest size costs more than a moment: the check is linear."""
    began_s = time.perf_counter()
    accepted(content)

    assert time.perf_counter() - began_s < 5.0


def test_a_deep_body_fits_a_small_stack() -> None:
    """Depth is counted before anything recurses, so a thread with little stack survives it."""
    results: list[bool] = []
    size_before = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=lambda: results.append(accepted(b"[" * BYTES_MAX)))
        thread.start()
    finally:
        threading.stack_size(size_before)
    thread.join()

    assert results == [False]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"type":"A"}', "A"),
        (b"{}", None),
        (b'{"type":5}', None),
        (b'{"type":null}', None),
        (b'{"type":["A"]}', None),
        (b'{"type":"A","type":"B"}', "B"),
        (b'{"type":"A","type":5}', None),
        (b'{"a":{"type":"A"}}', None),
        (b'{"ty\\u0070e":"A"}', "A"),
        (b'{"type":"\\u0041"}', "A"),
        (b'{"x":"\\udc00","type":"A","type":"B"}', "B"),
        (b'{"x":"\\udc00","type":5}', None),
        (b'{"type":""}', ""),
    ],
)
def test_the_type_is_the_last_string_of_that_name(content: bytes, expected: str | None) -> None:
    """The type is read from the object itself, and of duplicate keys the last counts."""
    assert body.type_of(content, DEPTH_MAX) == expected


def _oracle(content: bytes) -> Any:
    """What the standard library reads, strictly; raises ValueError."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    decoded = json.loads(
        content.decode(), parse_int=_Digits, parse_float=_Digits, parse_constant=refuse
    )
    if not isinstance(decoded, dict):
        raise ValueError("not an object")  # noqa: TRY004
    return decoded


class _Digits(str):
    __slots__ = ()


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec=None), max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
_documents = st.builds(
    lambda value, ascii_: json.dumps(value, ensure_ascii=ascii_).encode("utf-8", "surrogatepass"),
    st.dictionaries(st.sampled_from(["type", "a", "\ud800", "é"]), _values) | _values,
    st.booleans(),
)
_pieces = [
    *(b"{", b"}", b"[", b"]", b":", b",", b'"'),
    *(b"\\", b"\\\\", b'\\"', b"\\ud800", b"\\udc00", b"u", b'"type"', b'"A"'),
    *(b"1", b"0", b"-", b"e9", b".5", b"null", b"true", b"NaN", b" ", b"\n"),
    *(b"\x00", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\xef\xbb\xbf"),
]
_fragments = st.lists(st.sampled_from(_pieces), max_size=24).map(b"".join)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    document = bytearray(draw(_documents))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(document)))
        document[place : place + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(document)


@given(_documents | _fragments | _damaged() | st.binary(max_size=40))
@example(b'{"a":"\\\\ud800"}')
@example(b'{"a":"\\\\\\ud800\\ud800"}')
@example(b'{"type":"A","a":"\\uD83D\\uDE00\\uDE00"}')
def test_the_check_agrees_with_the_standard_library(content: bytes) -> None:
    """A body is taken exactly when Python's json reads an object from it, with the same type."""
    try:
        expected = _oracle(content)
    except ValueError:
        assert not accepted(content)
        return
    type_ = body.type_of(content, DEPTH_MAX)
    expected_type = expected.get("type")

    if isinstance(expected_type, _Digits) or not isinstance(expected_type, str):
        assert type_ is None
    elif re.search("[\ud800-\udfff\U00010000-\U0010ffff]", expected_type):
        assert type_ is not None
    else:
        assert type_ == expected_type


@given(st.integers(1, 12), _documents)
def test_the_depth_agrees_with_a_recursive_count(depth_max: int, content: bytes) -> None:
    """Depth as counted in one pass is depth as counted by recursion."""

    def depth_of(value: Any) -> int:
        return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0

    assume(content[:1] == b"{")
    lists = json.loads(
        content.decode(errors="replace"), object_pairs_hook=lambda pairs: [v for _, v in pairs]
    )

    assert body._is_deeper(content, depth_max) == (depth_of(lists) > depth_max)


def test_inflation_returns_what_was_compressed() -> None:
    """One gzip member gives its content back, up to exactly the limit."""
    content = b"x" * 1_000

    assert body.inflated(gzip.compress(content), 1_000) == content


def test_inflation_stops_at_the_limit() -> None:
    """One byte more than the limit is 413, and a bomb is not inflated any further."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024))

    assert refusal(body.inflated, gzip.compress(b"x" * 1_001), 1_000) == 413
    assert refusal(body.inflated, bomb, 1_000) == 413


@pytest.mark.parametrize(
    "compressed",
    [
        b"",
        b"{}",
        gzip.compress(b"{}")[:-1],
        gzip.compress(b"{}")[:5],
        gzip.compress(b"{}") + b"\0",
        gzip.compress(b"{}") + gzip.compress(b""),
        gzip.compress(b"{}")[:-5] + b"\0" + gzip.compress(b"{}")[-4:],
        zlib.compress(b"{}"),
    ],
    ids=["empty", "plain", "cut", "cut head", "trailing", "second member", "bad crc", "zlib"],
)
def test_what_is_not_one_whole_gzip_member_is_refused(compressed: bytes) -> None:
    """Cut short, damaged, followed by anything, or another format: 400."""
    assert refusal(body.inflated, compressed, 1_000) == 400
