"""Where a request ends, and how large its parts may be: HTTP/1.1 as the wire has it."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import ingress_site
from tests.ingress_site import BODY, Site
from tests.raw_http import chunks, connected, head, post

MIB = 1024 * 1024


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with ingress_site.running(tmp_path) as running:
        yield running


async def test_a_request_in_single_bytes_is_recorded(site: Site) -> None:
    """However a request is cut into segments, it is the same request."""
    request = post(BODY)
    async with connected(site.ingress.http_bind) as client:
        await client.send(*(request[i : i + 1] for i in range(len(request))))

        assert (await client.answer()).status == 200
    assert site.contents() == [BODY]


async def test_a_chunked_body_is_recorded(site: Site) -> None:
    """Chunks and their extensions are framing, not content."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(
            head(b"Transfer-Encoding: chunked"), b"2;x=y\r\n{}\r\n", b"1\r\n \r\n0\r\n\r\n"
        )

        assert (await client.answer()).status == 200
    assert site.contents() == [b"{} "]


async def test_a_chunked_body_over_the_limit_is_413_while_it_arrives(site: Site) -> None:
    """The limit holds without a length: the answer comes though the body never ends."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(head(b"Transfer-Encoding: chunked"))
        await client.send(*[b"10000\r\n" + b" " * 0x10000 + b"\r\n"] * 17)
        answer = await client.answer()

        assert answer.status == 413
        assert answer.headers["connection"] == "close"
    assert site.events() == []


async def test_a_body_in_tiny_chunks_cannot_cost_many_times_its_size(site: Site) -> None:
    """A mebibyte in chunks of one byte, six on the wire each, is cut off with 413."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(head(b"Transfer-Encoding: chunked"))
        await client.send(*[b"1\r\n \r\n" * 20_000] * 50)

        assert (await client.answer()).status == 413


async def test_a_peer_that_expects_100_continue_is_told_to_go_on(site: Site) -> None:
    """100 Continue is sent when the head was found good, and only then."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(b"", b"Expect: 100-continue", length=len(BODY)))
        going_on = await client.answer()
        await client.send(BODY)
        recorded = await client.answer()
        await client.send(post(b"", b"Expect: 100-continue", length=len(BODY), path=b"/nowhere"))
        refused = await client.answer()

        assert (going_on.status, recorded.status, refused.status) == (100, 200, 404)
        assert refused.headers["connection"] == "close"


async def test_nobody_is_told_to_go_on_behind_an_answer(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """A body that is refused as it begins gets its answer alone, and is no defect of ours."""
    head_with_fault = head(b"Expect: 100-continue", b"Transfer-Encoding: chunked") + b"Z\r\n"
    async with connected(site.ingress.http_bind) as client:
        await client.send(head_with_fault)

        assert (await client.answer()).status == 400
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(BODY))

        assert (await client.answer()).status == 200
    assert "failed" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "request_bytes",
    [
        head(b"X: " + b"a" * 33_000),
        head(*[b"X: a"] * 8_000),
        head(path=b"/" + b"a" * 33_000),
        b"POST / HTTP/1.1\r\nX:" + b" " * 200_000,
        b"POST /" + b"a" * 200_000,
        b"POST / HTTP/1.1\r\n" + b"a" * 200_000,
    ],
    ids=["one header", "many headers", "path", "blanks", "endless path", "endless name"],
)
async def test_a_head_over_32_kib_is_431(site: Site, request_bytes: bytes) -> None:
    """Whatever makes the head large, it is refused, and the connection closed."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(request_bytes)
        answer = await client.answer()

        assert answer.status == 431
        assert answer.headers["content-type"] == "application/problem+json"
        assert await client.closed() == b""


async def test_a_head_in_tiny_pieces_is_bounded_as_well(site: Site) -> None:
    """A header that grows segment by segment is refused once it is too large."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(b"POST / HTTP/1.1\r\nX: ", *[b"a" * 100] * 400)

        assert (await client.answer()).status == 431


async def test_a_head_of_nearly_32_kib_is_taken(site: Site) -> None:
    """The bound leaves room for every head below it."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(BODY, b"X: " + b"a" * (32 * 1024 - 200)))

        assert (await client.answer()).status == 200


async def test_a_large_body_does_not_count_as_the_next_head(site: Site) -> None:
    """A head that begins in the segment that ends a large body is measured by itself."""
    body = b'{"a":"' + b"x" * 100_000 + b'"}'
    request = post(BODY)
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(body) + request[:40])
        first = await client.answer()
        await client.send(request[40:])
        second = await client.answer()

    assert (first.status, second.status) == (200, 200)


async def test_trailers_are_no_headers(site: Site) -> None:
    """Fields behind the last chunk cannot change what the head said."""
    trailer = b"Content-Encoding: gzip\r\nContent-Type: text/plain\r\n\r\n"
    async with connected(site.ingress.http_bind) as client:
        request = head(b"Transfer-Encoding: chunked") + chunks(BODY)[:-2] + trailer
        await client.send(request + post(BODY))

        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 200


async def test_endless_trailers_are_cut_off(site: Site) -> None:
    """Trailers are bounded like a head."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(head(b"Transfer-Encoding: chunked") + chunks(BODY)[:-2])
        await client.send(*[b"X: " + b"a" * 1_000 + b"\r\n"] * 50)

        assert (await client.answer()).status == 431
    assert site.events() == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + chunks(b"{}"),
        head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + chunks(b"{}"),
        head(b"Content-Length: 2", b"Content-Length: 2") + b"{}",
        head(b"Content-Length: 2", b"Content-Length: 3") + b"{} ",
        head(b"Content-Length: 2, 2") + b"{}",
        head(b"Content-Length: +2") + b"{}",
        head(b"Content-Length: -2") + b"{}",
        head(b"Content-Length : 2") + b"{}",
        head(b"Transfer-Encoding: gzip, chunked") + chunks(b"{}"),
        head(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked") + chunks(b"{}"),
        head(b"Transfer-Encoding: chunked, identity") + chunks(b"{}"),
        head(b"Transfer-Encoding: xchunked") + chunks(b"{}"),
        head(b"Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
        head(b"Transfer-Encoding: chunked") + b"0x2\r\n{}\r\n0\r\n\r\n",
        head(b"Transfer-Encoding: chunked") + b"2\r\n{}x\r\n0\r\n\r\n",
        head(b"Transfer-Encoding: chunked") + b"2\n{}\n0\n\n",
        head(b"Transfer-Encoding: chunked") + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        head(b"Transfer-Encoding: chunked").replace(b"1.1", b"1.0") + chunks(b"{}"),
        head(b"Host: other", b"Content-Length: 2") + b"{}",
        head(b"Content-Length: 2").replace(b"Host:", b"Hast:") + b"{}",
        head(b"X: a\r\n folded", b"Content-Length: 2") + b"{}",
        head(b"X: a\nContent-Length: 2") + b"{}",
        head(b"X: a\0b", b"Content-Length: 2") + b"{}",
        post(b"{}").replace(b"\r\n", b"\n"),
        post(b"{}").replace(b"HTTP/1.1", b"HTTP/2.0"),
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /a b HTTP/1.1\r\n\r\n",
    ],
    ids=repr,
)
async def test_ambiguous_framing_is_400_and_the_end(site: Site, request_bytes: bytes) -> None:
    """What two parsers could end at different bytes is refused, with whatever follows it."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(request_bytes + post(BODY))
        answers = await client.closed()

    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 1
    assert site.events() == []


async def test_a_bad_request_behind_a_waiting_one_ends_the_connection(site: Site) -> None:
    """The request before it is answered in its place, and nothing is answered out of turn."""
    bad = head(b"Transfer-Encoding: chunked") + b"zz\r\n"
    async with connected(site.ingress.http_bind) as client:
        with closing(site.outsider()) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            await client.send(post(BODY) + bad)
            # Refused before it needs the log: everything sent earlier has been seen.
            await site.post(path="/nowhere")
            outsider.execute("ROLLBACK")
        answer = await client.answer()
        end = await client.closed()

    assert (answer.status, answer.headers["connection"], end) == (200, "close", b"")
    assert site.contents() == [BODY]


async def test_an_offered_upgrade_is_ignored(site: Site) -> None:
    """The body of a request that offers another protocol is its body, and no next request."""
    offer = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"]
    inner = b'{"a":"' + post(b"{}").replace(b"\r\n", b"\\r\\n").replace(b'"', b"'") + b'"}'
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(b"", *offer, length=len(inner)), inner[:9], inner[9:])
        await client.send(post(inner, *offer) + post(BODY))
        statuses = [(await client.answer()).status for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert site.contents() == [inner, inner, BODY]


async def test_a_method_nobody_knows_is_405_and_ends_nothing(site: Site) -> None:
    """A method is case-sensitive and may be any token; the connection is kept."""
    async with connected(site.ingress.http_bind) as client:
        for method in (b"post", b"BREW", b"X-!#"):
            await client.send(post(BODY).replace(b"POST", method, 1))
            answer = await client.answer()

            assert (answer.status, answer.headers["allow"]) == (405, "POST")
        await client.send(post(BODY))

        assert (await client.answer()).status == 200


async def test_http_1_0_is_answered_and_closed(site: Site) -> None:
    """A peer of HTTP/1.0 gets its answer, and then the end."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        answer = await client.answer()

        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.closed() == b""
