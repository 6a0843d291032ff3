"""What a request's head is made into."""

import httptools
import pytest

from service.ingress import framing


@pytest.mark.parametrize(
    "url",
    [
        b"/",
        b"/a",
        b"/a?b",
        b"/a?b?c=/d",
        b"/?",
        b"/?x",
        b"//a/b?c",
        b"/a#b?c",
        b"/a?b#c",
        b"/a:1/@b?c",
        b"http://a",
        b"http://a/b?c",
        b"http://a?b",
    ],
)
def test_every_form_of_an_address_is_parted_alike(url: bytes) -> None:
    """Path and query are what httptools makes of them, whichever way they are looked for."""
    expected = httptools.parse_url(url)

    scope = framing.scope_of(b"POST", "1.1", url, [], "http")

    assert (expected.path or b"/", expected.query or b"") == (
        scope["raw_path"],
        scope["query_string"],
    )
