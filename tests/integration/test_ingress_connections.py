"""What one peer can do to a connection, and what it cannot do to others."""

import asyncio
import contextlib
import gzip
import socket
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests import ingress_site, raw_http
from tests.clock import FakeClock
from tests.ingress_site import BODY, PATIENCE_S, Site
from tests.raw_http import connected, post

MIB = 1024 * 1024


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with ingress_site.running(tmp_path) as running:
        yield running


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[Site]:
    """A site that waits a fifth of a second where others wait seconds."""
    async with ingress_site.running(
        tmp_path, request_s=0.2, idle_connection_s=0.2, linger_s=0.2
    ) as running:
        yield running


async def test_requests_follow_each_other_on_one_connection(site: Site) -> None:
    """A connection is kept: each request gets its answer, and the date is there."""
    async with connected(site.ingress.http_bind) as client:
        for _ in range(3):
            await client.send(post(BODY))
            answer = await client.answer()

            assert answer.status == 200
            assert "date" in answer.headers
            assert "server" not in answer.headers


async def test_a_burst_of_connections_waits_to_be_accepted(site: Site) -> None:
    """None is dropped while the loop is busy, which a peer would feel a second later."""
    with contextlib.ExitStack() as stack:
        peers = [
            stack.enter_context(socket.create_connection(site.ingress.http_bind, timeout=0.9))
            for _ in range(500)
        ]
        # The loop had no turn until here: the system alone has answered.
        await site.connections(len(peers))
        assert site.metric("plugstatus_http_connections") == 500


async def test_pipelined_requests_are_answered_in_order(site: Site) -> None:
    """Requests sent ahead of the answers are recorded and answered one after another."""
    bodies = [b'{"n":%d}' % n for n in range(10)]
    async with connected(site.ingress.http_bind) as client:
        await client.send(b"".join(post(body) for body in bodies[:5]) + post(b"no"))
        await client.send(*(post(body) for body in bodies[5:]))
        statuses = [(await client.answer()).status for _ in range(11)]

    assert statuses == [200] * 5 + [400] + [200] * 5
    assert site.contents() == bodies


async def test_too_many_pipelined_requests_end_the_connection(site: Site) -> None:
    """What was taken is answered in order; the rest is neither read nor recorded."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(BODY) * 500)
        answers = await client.closed()
    answered = answers.count(b"HTTP/1.1 200 ")

    assert 1 <= answered <= 20
    assert answers.count(b"HTTP/1.1 ") == answered
    assert answers.count(b"connection: close") == 1
    assert len(site.events()) == answered


@pytest.mark.parametrize("size", [2 * MIB, 12 * MIB])
async def test_a_peer_that_sends_on_can_read_an_early_answer(site: Site, size: int) -> None:
    """413 by length is read whole, not lost in a reset, though the body was sent to its end."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(b" " * size))
        answer = await client.answer()

        assert answer.status == 413
        assert answer.headers["connection"] == "close"
        assert await client.closed() == b""


async def test_a_peer_that_stays_after_an_early_answer_is_cut_off(hasty: Site) -> None:
    """The connection ends soon after, though the peer has read the answer and does not close."""
    async with connected(hasty.ingress.http_bind) as client:
        await client.send(post(length=2 * MIB))
        answer = await client.answer()
        end = await client.closed()
        await hasty.connections(0)

    assert (answer.status, end) == (413, b"")


async def test_a_peer_that_never_stops_sending_is_cut_off(tmp_path: Path) -> None:
    """Behind an early answer only so many bytes are read; then the connection ends."""
    async with (
        ingress_site.running(tmp_path, linger_bytes_max=MIB, linger_s=60.0) as site,
        connected(site.ingress.http_bind) as client,
    ):
        await client.send(post(length=2 * MIB))
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_flood(client, bytes(10_000)), raw_http.PATIENCE_S)


async def test_the_rest_of_a_short_body_is_read_behind_an_early_answer(site: Site) -> None:
    """A refused request whose body is short and still arriving does not end the connection."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(length=len(BODY), path=b"/nowhere"))
        refused = await client.answer()
        await client.send(BODY[:5], BODY[5:] + post(BODY))
        recorded = await client.answer()

    assert (refused.status, recorded.status) == (404, 200)
    assert "connection" not in refused.headers


async def test_a_slow_head_is_408_and_others_do_not_feel_it(hasty: Site) -> None:
    """A head that stops is given up; meanwhile and afterwards others are answered."""
    async with connected(hasty.ingress.http_bind) as client:
        await client.send(b"POST /instancia/acme/status HTTP/1.1\r\nHost: x\r\n")
        others = await hasty.post()
        answer = await client.answer()

        assert (others.status_code, answer.status) == (200, 408)
        assert await client.closed() == b""


async def test_a_dripping_head_does_not_gain_time(hasty: Site) -> None:
    """Time counts from the first byte: sending a little, again and again, does not help."""
    async with connected(hasty.ingress.http_bind) as client:
        await client.send(b"POST / HTTP/1.1\r\n")
        answering = asyncio.create_task(client.answer())
        while not answering.done():
            await client.send(b"X: y\r\n")
            await asyncio.wait([answering], timeout=0.02)

        assert answering.result().status == 408


async def test_a_slow_body_is_408_and_nothing_is_stored(hasty: Site) -> None:
    """A body that stops short is given up, even when what came would be whole JSON."""
    async with connected(hasty.ingress.http_bind) as client:
        await client.send(post(BODY, length=len(BODY) + 1))
        answer = await client.answer()

        assert answer.status == 408
        assert await client.closed() == b""
    assert hasty.events() == []
    assert hasty.metric("plugstatus_http_cut_off_total", code="408") == 1


async def test_a_connection_that_sends_nothing_is_closed(hasty: Site) -> None:
    """Silence from the beginning is cut off like a slow head, without an answer."""
    async with connected(hasty.ingress.http_bind) as client:
        assert await client.closed() == b""


async def test_an_idle_connection_is_closed(hasty: Site) -> None:
    """A kept-alive connection that nobody uses ends after its time."""
    async with connected(hasty.ingress.http_bind) as client:
        await client.send(post(BODY))
        answer = await client.answer()

        assert answer.status == 200
        assert await client.closed() == b""


@pytest.mark.parametrize("requests", [1, 4])
async def test_a_peer_that_does_not_read_is_cut_off(hasty: Site, requests: int) -> None:
    """A peer that takes no answer holds its connection no longer than one that sends nothing."""
    for code in range(60_000):
        hasty.metrics.http_cut_off.labels(str(code))
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        peer.connect(hasty.ingress.ops_bind)
        await hasty.connections(1)
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * requests)
        await hasty.connections(0)

    assert (await hasty.post()).status_code == 200


async def test_connections_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    """One too many gets 503 and the end; once another has gone there is room again."""
    async with ingress_site.running(tmp_path, http_connections_max=2) as site:
        bind = site.ingress.http_bind
        async with connected(bind) as first, connected(bind) as second:
            await first.send(post(BODY))
            await second.send(post(BODY))
            taken = [(await first.answer()).status, (await second.answer()).status]
            async with connected(bind) as third:
                refused = await third.answer()
                end = await third.closed()
            await first.send(post(BODY))
            taken.append((await first.answer()).status)
            first.abort()
            await second.send(post(BODY, b"Connection: close"))
            await second.answer()
            await second.closed()
        async with connected(bind) as fourth:
            await fourth.send(post(BODY))
            taken.append((await fourth.answer()).status)

    assert (refused.status, refused.headers["retry-after"], end) == (503, "1", b"")
    assert taken == [200, 200, 200, 200]


@pytest.mark.parametrize("sent", [b"", b"POST /instancia", post(BODY)[:-1]])
async def test_silent_and_slow_peers_make_room(tmp_path: Path, sent: bytes) -> None:
    """When all places are taken, who has sent nothing whole for longest loses his."""
    clock = FakeClock()
    async with (
        ingress_site.running(tmp_path, clock=clock, http_connections_max=3) as site,
        contextlib.AsyncExitStack() as stack,
    ):
        bind = site.ingress.http_bind
        async with connected(bind) as third, connected(bind) as first:
            await first.send(sent)
            # What was sent before has arrived once this is answered.
            await third.send(post(BODY))
            await third.answer()
            clock.advance(0.5)
            second = await stack.enter_async_context(connected(bind))
            await second.send(sent)
            await site.connections(3)
            clock.advance(1.5)
            statuses = []
            for _ in range(2):
                async with connected(bind) as another:
                    await another.send(post(BODY, b"Connection: close"))
                    statuses.append((await another.answer()).status)
                    await another.closed()
            ends = [await first.closed()]
            await third.send(post(BODY))
            statuses.append((await third.answer()).status)

    assert ends == [b""]
    assert statuses == [200, 200, 200]


async def test_a_kept_connection_makes_room_only_after_a_while(tmp_path: Path) -> None:
    """Its peer may be about to use it again."""
    clock = FakeClock()
    async with ingress_site.running(tmp_path, clock=clock, http_connections_max=1) as site:
        bind = site.ingress.http_bind
        statuses = []
        async with connected(bind) as kept:
            await kept.send(post(BODY))
            statuses.append((await kept.answer()).status)
            clock.advance(2)
            async with connected(bind) as another:
                statuses.append((await another.answer()).status)
            clock.advance(4)
            async with connected(bind) as another:
                await another.send(post(BODY))
                statuses.append((await another.answer()).status)
            end = await kept.closed()

    assert statuses == [200, 503, 200]
    assert end == b""


async def test_large_bodies_are_bounded_together(tmp_path: Path) -> None:
    """What is inflated and checked beside the loop is bounded; beyond it callbacks get 503."""
    bomb = gzip.compress(b'{"a":"' + b" " * 1_000_000 + b'"}')
    headers = {"Content-Encoding": "gzip"}
    async with ingress_site.running(tmp_path, large_bodies_max=2) as site:
        answers = await asyncio.gather(*(site.post(bomb, **headers) for _ in range(30)))
        after = await site.post(bomb, **headers)
        small = await site.post(gzip.compress(BODY), **headers)
    statuses = Counter(answer.status_code for answer in answers)

    assert set(statuses) == {200, 503}
    assert {one.headers.get("retry-after") for one in answers if one.status_code == 503} == {"1"}
    assert (after.status_code, small.status_code) == (200, 200)
    assert len(site.events()) == statuses[200] + 2


async def test_overload_is_shed_before_it_queues(tmp_path: Path) -> None:
    """While one callback waits for too long already, new ones are told at once to come again."""
    async with ingress_site.running(tmp_path, waiting_s_max=0.2) as site:
        with contextlib.closing(site.outsider()) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            posts: list[asyncio.Future[httpx.Response]] = []
            shed: set[asyncio.Future[httpx.Response]] = set()
            async with asyncio.timeout(PATIENCE_S):
                while not shed:
                    posts.append(asyncio.ensure_future(site.post()))
                    shed, _ = await asyncio.wait({posts[-1]}, timeout=0.1)
            still_wait = [post for post in posts[:-1] if not post.done()]
            outsider.execute("ROLLBACK")
            recorded = {(await post).status_code for post in still_wait}
        (refused,) = (post.result() for post in shed)
        after = await site.post()

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert len(still_wait) == len(posts) - 1
    assert recorded == {200}
    assert after.status_code == 200


async def test_unfinished_bodies_are_bounded_together(tmp_path: Path) -> None:
    """Many large bodies at once cannot take all memory: one too many gets 503."""
    async with ingress_site.running(tmp_path, bodies_bytes_max=100_000) as site:
        bind = site.ingress.http_bind
        async with connected(bind) as first, connected(bind) as second:
            await first.send(post(b" " * 60_000, length=90_000))
            # Its answer shows that the server has seen what was sent before it.
            await site.post()
            await second.send(post(b" " * 60_000, length=90_000))
            refused = await second.answer()
            await first.send(b" " * 29_998 + b"{}")
            recorded = await first.answer()

    assert (refused.status, recorded.status) == (503, 200)


async def test_a_peer_that_leaves_while_its_callback_is_recorded_disturbs_nobody(
    site: Site,
) -> None:
    """The event is recorded all the same, and others are answered."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(BODY))
        client.abort()
    answers = await asyncio.gather(*(site.post() for _ in range(5)))

    assert {answer.status_code for answer in answers} == {200}


async def test_answers_leave_at_once(site: Site) -> None:
    """Connections have TCP_NODELAY: without it each answer on a kept one waits 40 ms."""
    async with connected(site.ingress.http_bind) as client:
        await client.send(post(BODY))
        await client.answer()
        assert site.ingress._callbacks is not None
        (connection,) = site.ingress._callbacks._shared.connections
        accepted = connection.transport.get_extra_info("socket")
        without_delay = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert without_delay


async def _flood(client: raw_http.RawHttp, request: bytes) -> None:
    while True:
        await client.send(request)
