"""Every text in a body, wherever it stands: what erasure searches."""

import json
import re
from collections.abc import Iterator
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")|(-?[0-9][0-9.eE+-]*)', re.DOTALL)


def texts(content: bytes) -> list[str]:
    """All strings, member names and numbers of a JSON body, escapes undone.

    As reports spell them: without NUL, and with U+FFFD for lone surrogates; but numbers and texts
    are whole, and every one of several members with one name is there. What is not JSON at all is
    one text.
    """
    plain = content.decode(errors="replace")
    try:
        # As a float, a number would lose the digits of a phone or an id.
        body = json.loads(plain, parse_int=str, parse_float=str, object_pairs_hook=list)
    except ValueError:
        return [_clean(plain)]
    except RecursionError:
        # Deeper than this process may go, which depends on who asks.
        return [_clean(plain), *map(_clean, _tokens(plain))]
    return [_clean(text) for text in _walked(body)]


def _walked(body: Any) -> Iterator[str]:
    """Without recursion: bodies may nest deeper than calls may."""
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, str):
            yield value


def _tokens(plain: str) -> Iterator[str]:
    """The strings and numbers of what may be JSON, without regard to what they are in."""
    for found in _TOKEN.finditer(plain):
        if found[2]:
            yield found[2]
            continue
        try:
            yield json.loads(found[1])
        except ValueError:
            yield found[1]


def _clean(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text).replace("\0", "")
