"""What a watch leaves behind, how far ahead it reads, and when it gives up at once."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from service.client import CallFailed, Changes, RetryPolicy, StatusClient, Update, Watch
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.client_site import (
    DEADLINE_S,
    QUICK,
    SILENT,
    Fails,
    ScriptedServer,
    Step,
    changes,
    kinds,
    only_tasks_of,
    opened,
    scripted,
)

NOW = pb.WatchStatusesRequest(from_now=True)
LOST = Fails(grpc.StatusCode.UNAVAILABLE)
LONG = RetryPolicy(initial_s=600.0, max_s=600.0, draw=lambda _, bound: bound)

WAITING: dict[str, tuple[Step, list[str]]] = {
    "in a stream": (SILENT, ["Opened", "Changes"]),
    "between two": (LOST, ["Opened", "Changes", "Interrupted"]),
}


@asynccontextmanager
async def _waiting(
    where: str,
) -> AsyncIterator[tuple[ScriptedServer, StatusClient, Watch, "asyncio.Task[Any]"]]:
    """A watch whose next update is asked for by a task and does not come; no task is left."""
    last, told = WAITING[where]
    async with scripted([opened("c0"), changes("c1"), last], retry=LONG) as (server, client):
        before = len(asyncio.all_tasks())
        watch = client.watch(NOW)
        updates = watch.updates()
        assert kinds([await anext(updates) for _ in told]) == told
        asking = asyncio.ensure_future(_next(updates))
        await asyncio.sleep(0)
        yield server, client, watch, asking
        if last is SILENT:
            await server.left.wait()
        await only_tasks_of(before)


async def _next(updates: AsyncIterator[Update]) -> Update | None:
    """None once the watch is closed."""
    return await anext(updates, None)


@pytest.mark.parametrize("where", WAITING)
async def test_a_cancelled_task_ends_the_stream(where: str) -> None:
    """The stream is cancelled, and nothing of it is left."""
    async with _waiting(where) as (_, _, _, asking):
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize("where", WAITING)
@pytest.mark.parametrize("closed", ["watch", "client"])
async def test_closing_ends_the_iteration(where: str, closed: str) -> None:
    """Closed by another task, or with its client, it hands out nothing more, then and later."""
    async with _waiting(where) as (_, client, watch, asking):
        await (watch if closed == "watch" else client).close()
        ended = await asking
        rest = [change async for change in watch]

    assert ended is None
    assert rest == []


async def _fails(watch: Watch) -> None:
    async with watch:
        async for _ in watch:
            raise ZeroDivisionError


async def test_an_error_in_the_body_ends_the_stream() -> None:
    """Leaving the watch is enough."""
    async with scripted([opened("c0"), changes("c1"), SILENT]) as (server, client):
        before = len(asyncio.all_tasks())
        with pytest.raises(ZeroDivisionError):
            await _fails(client.watch(NOW))
        await server.left.wait()
        await only_tasks_of(before)


async def test_iterated_over_again_it_goes_on() -> None:
    """Left by a break, in the middle of a frame or by a timeout: nothing is missing or repeated."""
    async with (
        scripted(
            [opened("c0"), changes("c1", "c2", "c3"), SILENT], [opened("c3"), changes("c4"), SILENT]
        ) as (server, client),
        client.watch(NOW) as watch,
    ):
        seen = []
        async for change in watch:
            seen.append(change)
            break
        seen.append(await anext(watch))
        rest = await anext(watch.updates())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(watch)
        fourth = await anext(watch)

    assert isinstance(rest, Changes)
    assert [c.cursor for c in (*seen, *rest.changes, fourth)] == ["c1", "c2", "c3", "c4"]
    assert rest.cursor == "c3"
    assert server.requests[1].cursor == "c3"


async def test_reads_no_further_than_it_is_asked() -> None:
    """While the consumer holds a change, the server's writes come to a stop."""
    frame = changes("c1")
    frame.changes.changes[0].message.provider_status = "x" * 1_000_000
    total = 200
    async with (
        scripted([opened("c0"), *[frame] * total], waits=[pb.STATUS_READ] * 10_000) as (
            server,
            client,
        ),
        client.watch(NOW) as watch,
    ):
        await anext(watch)
        sent, unmoved = -1, 0
        while unmoved < 100:
            # Gives the server its turns; that many without a frame are a standstill.
            await client.wait("m", pb.STATUS_READ)
            unmoved = unmoved + 1 if server.sent == sent else 0
            sent = server.sent
        held = sent
        read = 1
        while read < total:
            await anext(watch)
            read += 1

    assert held < total / 4
    assert server.sent == total + 1


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def test_an_impatient_watch_gives_up_at_once() -> None:
    """When nothing listens, and when the first stream is not opened; not later."""
    target = f"127.0.0.1:{_free_port()}"
    async with asyncio.timeout(DEADLINE_S), StatusClient(target) as nowhere:
        with pytest.raises(CallFailed) as absent:
            await anext(nowhere.watch(NOW, patient=False))
    full = Fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS")
    async with scripted([full], [opened("c0"), full], [opened("c0"), changes("c1")]) as (_, client):
        with pytest.raises(CallFailed) as refused:
            await anext(client.watch(NOW, patient=False))
        later = await anext(client.watch(NOW, patient=False))

    assert (absent.value.code, absent.value.reason) == (grpc.StatusCode.UNAVAILABLE, "")
    assert refused.value.reason == "TOO_MANY_WATCHERS"
    assert later.cursor == "c1"


async def test_a_patient_watch_waits_for_the_server() -> None:
    """It may be asked for before there is one."""
    port = _free_port()
    server = grpc.aio.server()
    ScriptedServer([opened("c0"), changes("c1"), SILENT]).add_to(server)
    async with (
        asyncio.timeout(DEADLINE_S),
        StatusClient(f"127.0.0.1:{port}", retry=QUICK) as client,
        client.watch(NOW) as watch,
    ):
        missed = await anext(watch.updates())
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        change = await anext(watch)
    await server.stop(grace=None)

    assert "UNAVAILABLE" in str(missed)
    assert change.cursor == "c1"
