"""Of several faults the first in the promised order is the answer."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from tests import ingress_site, raw_http
from tests.raw_http import Answer

TOO_LONG = 2 * 1024 * 1024

# Each request has its own fault and every later one; the body that is announced never comes, so
# an answer shows that none was waited for.
_UNTIL_LENGTH = [
    (404, b"GET /instancia/no%2Fo/status?token=bad HTTP/1.1", b"text/plain"),
    (404, b"POST /instancia/unserved/status?token=bad HTTP/1.1", b"text/plain"),
    (405, b"PUT /instancia/acme/status?token=bad HTTP/1.1", b"text/plain"),
    (401, b"POST /instancia/acme/status?token=bad HTTP/1.1", b"text/plain"),
    (415, b"POST /instancia/acme/status?token=good HTTP/1.1", b"text/plain"),
    (413, b"POST /instancia/acme/status?token=good HTTP/1.1", b"application/json"),
]


async def _answer_to(folder: Path, *parts: bytes, **limits: Any) -> Answer:
    values = {"WEBHOOK_TOKEN": "good", "INSTANCES": "acme"}
    async with (
        ingress_site.running(folder, values, **limits) as site,
        raw_http.connected(site.ingress.http_bind) as client,
    ):
        await client.send(*parts)
        answer = await client.answer()
        assert site.events() == []
        return answer


@pytest.mark.parametrize(("status", "line", "media_type"), _UNTIL_LENGTH)
async def test_the_head_is_judged_in_order(
    tmp_path: Path, status: int, line: bytes, media_type: bytes
) -> None:
    """404, 405, 401, 415, 413 by length: each hides the later ones, and waits for no body."""
    headers = [b"Host: x", b"Content-Type: " + media_type, b"Content-Length: %d" % TOO_LONG]
    answer = await _answer_to(tmp_path, b"\r\n".join([line, *headers, b"", b""]))

    assert answer.status == status


async def test_a_slow_body_is_408_before_it_is_too_large_or_wrong(tmp_path: Path) -> None:
    """A body that stops arriving is late, whatever its first bytes would have meant."""
    head = raw_http.head(b"Content-Length: 100", path=b"/instancia/acme/status?token=good")
    answer = await _answer_to(tmp_path, head, b"not json", request_s=0.2)

    assert answer.status == 408


async def test_a_body_too_large_is_413_before_it_is_400(tmp_path: Path) -> None:
    """Over the limit as it arrives, or as it is inflated, hides that it is no JSON."""
    path = b"/instancia/acme/status?token=good"
    chunked = raw_http.head(b"Transfer-Encoding: chunked", path=path)
    inflating = raw_http.post(gzip.compress(b"[" * TOO_LONG), b"Content-Encoding: gzip", path=path)
    arriving = await _answer_to(tmp_path, chunked, raw_http.chunks(b"[" * TOO_LONG))
    inflated = await _answer_to(tmp_path, inflating)

    assert (arriving.status, inflated.status) == (413, 413)


async def test_a_wrong_body_is_400_though_nothing_can_be_recorded(tmp_path: Path) -> None:
    """A fault of the body is told even when the log could not take it."""
    request = raw_http.post(b"[]", path=b"/instancia/acme/status?token=good")
    answer = await _answer_to(tmp_path, request, waiting_events_max=0)

    assert answer.status == 400
