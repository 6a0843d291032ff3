"""Every text of a body is found, however it is spelt and wherever it stands."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.plugchat.texts import texts

PHONE = "5511987654321"
ESCAPED = "".join(f"\\u{ord(one):04x}" for one in PHONE)
DEPTHS = (1, 10, 999)

storable = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
bodies: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | storable,
    lambda inner: st.lists(inner) | st.dictionaries(storable, inner),
    max_leaves=30,
)


def written(value: Any) -> Iterator[str]:
    """The texts of a value that was dumped, read by recursion."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from written(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from written(inner)
    elif isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        yield str(value)


@contextmanager
def recursion_limit(limit: int) -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


@given(bodies, st.booleans(), st.sampled_from([None, 2]))
def test_all_texts_are_found(body: Any, ascii_only: bool, indent: int | None) -> None:
    """Strings, names and integers of any JSON, escaped or not, are all there and nothing else."""
    content = json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode()

    assert sorted(texts(content)) == sorted(written(body))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f'{{"phone":"{PHONE}"}}', PHONE),
        (f'{{"phone":{PHONE}}}', PHONE),
        (f'{{"phone":-{PHONE}.50e3}}', f"-{PHONE}.50e3"),
        (f'{{"phone":"{ESCAPED}"}}', PHONE),
        (f'{{"{ESCAPED}":1}}', PHONE),
        (f'{{"a":"{PHONE}","a":"b"}}', PHONE),
        (f'{{"a":{{"{PHONE}":{{}},"{PHONE}":[]}}}}', PHONE),
        (f'{{"a":"tel {PHONE}@lid!"}}', f"tel {PHONE}@lid!"),
        ('{"a":"5511\\u0000987654321"}', PHONE),
        ('{"a":"\\u0000"}', ""),
        ('{"a":"x\\ud800y"}', "x\ufffdy"),
        ('{"a":"\\ud83d\\ude00"}', "\U0001f600"),
        ('{"a":' + "9" * 10_000 + "}", "9" * 10_000),
        ('{"a":1e400}', "1e400"),
        (f'"{PHONE}"', PHONE),
        (PHONE, PHONE),
        (f"call {PHONE}", f"call {PHONE}"),
        ('{"a":"' + PHONE, '{"a":"' + PHONE),
    ],
)
def test_spellings(content: str, expected: str) -> None:
    """Whatever the spelling, the text comes out as reports would show it."""
    assert expected in texts(content.encode())


def test_bytes_that_are_no_utf_8_hide_nothing() -> None:
    """A body that no decoder takes is still searched."""
    assert PHONE in texts(b"\xff\xfe" + PHONE.encode())[0]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("limit", [200, 6_000], ids=["shallow process", "as served"])
def test_depth_hides_nothing(depth: int, limit: int) -> None:
    """A nested text is found also where the process may not nest as deep itself."""
    forms = [f'"{ESCAPED}"', PHONE, f'{{"{ESCAPED}":null}}', f'[1,"\\"{ESCAPED}\\\\"]']
    hidden = []
    for form in forms:
        content = ('{"a":[' * depth + form + "]}" * depth).encode()
        with recursion_limit(limit):
            if not any(PHONE in text for text in texts(content)):
                hidden.append(form)

    assert hidden == []
