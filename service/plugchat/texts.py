"""Every text in a body, wherever it stands: what erasure searches."""

import json
from collections.abc import Iterator
from typing import Any


def texts(content: bytes) -> list[str]:
    """All strings, member names and numbers of a JSON body, escapes undone and NUL left out.

    Numbers as they were spelt, and every one of several members with one name. What is not JSON
    at all is one text.
    """
    plain = content.decode(errors="replace")
    try:
        # As a float, a number would lose the digits of a phone or an id.
        body = json.loads(plain, parse_int=str, parse_float=str, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return [plain]
    return [text.replace("\0", "") for text in _walked(body)]


def _walked(body: Any) -> Iterator[str]:
    """Without recursion: bodies may nest deeper than calls may."""
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, str):
            yield value
