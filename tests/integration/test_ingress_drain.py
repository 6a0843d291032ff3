"""A drain: nothing that arrived is lost, nothing waits for long, and it happens once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from service import errors
from tests import ingress_site
from tests.ingress_site import BODY, Site
from tests.raw_http import RawHttp, connected, post


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with ingress_site.running(tmp_path, drain_body_s=0.3, drain_answers_s=0.6) as running:
        yield running


async def used(client: RawHttp) -> RawHttp:
    """A kept connection the server knows of: one request was answered on it."""
    await client.send(post(BODY))
    assert (await client.answer()).status == 200
    return client


async def test_idle_connections_are_closed_and_no_others_taken(site: Site) -> None:
    """A drain of an idle server is over at once, and the port is free again."""
    bind = site.ingress.http_bind
    async with connected(bind) as client:
        await used(client)
        began_s = time.monotonic()
        await site.ingress.drain()
        lasted_s = time.monotonic() - began_s
        end = await client.closed()
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection(bind.host, bind.port)

    assert lasted_s < 0.3
    assert end == b""


async def test_a_body_that_arrives_in_time_is_recorded(site: Site) -> None:
    """A request whose body is still arriving when the drain begins may finish, and is the last."""
    async with connected(site.ingress.http_bind) as client:
        await used(client)
        await client.send(post(BODY[:9], length=len(BODY)))
        # Another connection's answer shows that the server has seen what was sent before.
        await site.post()
        draining = asyncio.create_task(site.ingress.drain())
        await client.send(BODY[9:])
        answer = await client.answer()
        end = await client.closed()
        await draining

    assert (answer.status, answer.headers["connection"], end) == (200, "close", b"")
    assert len(site.events()) == 3


@pytest.mark.parametrize(
    "begun", [post(BODY[:9], length=len(BODY)), post(BODY)[:30]], ids=["body", "head"]
)
async def test_a_request_that_does_not_arrive_is_503(site: Site, begun: bytes) -> None:
    """After `drain_body_s` an unfinished request is refused, and nothing of it is stored."""
    async with connected(site.ingress.http_bind) as client:
        await used(client)
        await client.send(begun)
        await site.post()
        draining = asyncio.create_task(site.ingress.drain())
        answer = await client.answer()
        end = await client.closed()
        await draining

    assert (answer.status, end) == (503, b"")
    assert answer.headers["retry-after"]
    assert len(site.events()) == 2


async def test_callbacks_that_wait_for_their_transaction_are_answered(site: Site) -> None:
    """Requests that had arrived, pipelined ones too, get their answers though the drain began."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected(site.ingress.http_bind)) for _ in range(5)
        ]
        for client in clients:
            await used(client)
        with closing(site.outsider()) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            for client in clients:
                await client.send(post(BODY) * 2)
            # Refused before it needs the log: everything sent earlier has been seen.
            await site.post(path="/nowhere")
            draining = asyncio.create_task(site.ingress.drain())
            await asyncio.wait([draining], timeout=0.05)
            outsider.execute("ROLLBACK")
        answers = [await client.answer() for client in clients for _ in range(2)]
        await draining

    assert {answer.status for answer in answers} == {200}
    assert [answer.headers.get("connection") for answer in answers] == [None, "close"] * 5
    assert len(site.events()) == 15


async def test_callbacks_whose_transaction_takes_too_long_are_503(site: Site) -> None:
    """A drain waits for a transaction only so long; then the callback is not known recorded."""
    async with connected(site.ingress.http_bind) as client:
        await used(client)
        with closing(site.outsider()) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            await client.send(post(BODY))
            await site.post(path="/nowhere")
            await site.ingress.drain()
            answer = await client.answer()
            outsider.execute("ROLLBACK")

    assert answer.status == 503
    assert answer.headers["connection"] == "close"


async def test_a_drain_may_be_asked_for_twice(site: Site) -> None:
    """Together or one after the other, and a caller that gives up does not stop it."""
    impatient = asyncio.create_task(site.ingress.drain())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(site.ingress.drain(), site.ingress.close())
    await site.ingress.close()

    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection(*site.ingress.http_bind)


async def test_an_address_in_use_is_named(site: Site, tmp_path: Path) -> None:
    """A second server on an address is refused with the variable to change, and holds nothing."""
    taken = str(site.ingress.http_bind)
    second = tmp_path / "second"
    second.mkdir()
    for values, variable in (
        ({"HTTP_BIND": taken}, "PLUGSTATUS_HTTP_BIND"),
        ({"OPS_BIND": taken}, "PLUGSTATUS_OPS_BIND"),
    ):
        with pytest.raises(errors.AddressInUse, match=f"{variable}: .*{taken}"):
            async with ingress_site.running(second, values):
                pass

    assert (await site.post()).status_code == 200


async def test_a_drained_address_can_be_taken_again_at_once(site: Site, tmp_path: Path) -> None:
    """A restart does not wait for old connections to be forgotten."""
    async with connected(site.ingress.http_bind) as client:
        await used(client)
        await site.ingress.drain()
    second = tmp_path / "second"
    second.mkdir()
    values = {"HTTP_BIND": str(site.ingress.http_bind)}
    async with ingress_site.running(second, values) as again:
        assert (await again.post()).status_code == 200
