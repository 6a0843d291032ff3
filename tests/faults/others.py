"""Those of a round who do not watch: they post, wait for statuses, and look after the server."""

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import httpx

from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.faults.bodies import INSTANCES, Bodies, Body, large_id
from tests.faults.history import End, Sample, Wait
from tests.faults.stage import Stage, now_s
from tests.faults.waits import LATE_S
from tests.faults.watching import reason_of

_SAMPLE_S = 0.2
_LARGE_IDS = 2_000
_OWN_BODIES = 10_000_000
_WAITED_FOR = (pb.STATUS_SENT, pb.STATUS_RECEIVED, pb.STATUS_READ, pb.STATUS_PLAYED)
_WAIT_LATE_S = 15.0
_WAIT_BEGINS_S = 0.03
"""Most waits are under way by then."""

_LAST_WAITS = 8


async def posting(stage: Stage, bodies: Iterator[Body]) -> None:
    """Post what several share, one after the other; what is not answered is not posted again."""
    async with stage.client() as http:
        for body in bodies:
            await stage.until(lambda: stage.posted < stage.most, float("inf"))
            post = await stage.post(http, body)
            stage.posted += 1
            stage.moved()
            if post.answered_s is None:
                await stage.up_again()


async def waiting(stage: Stage, number: int, ids: tuple[str, ...]) -> None:
    """Wait for one message after the other: known ones, ones to come, and ones that never come.

    Now and then it is one that nobody else tells of, and only once the wait has begun.
    """
    dice = stage.dice(f"waiter {number}")
    own = Bodies(stage.dice(f"waiter {number}'s bodies"), 0, first=_OWN_BODIES * (number + 1))
    async with stage.client() as http:
        while not stage.finishing:
            if dice.random() < 0.3:
                body = own.about(f"W{number}-{dice.random()}")
                await _wait_and_post(stage, http, body, dice.random() * _WAIT_BEGINS_S)
            else:
                wait = _any_wait(dice, ids)
                leaves_after_s = wait.timeout_s * dice.random()
                await _wait(stage, wait, leaves_after_s if dice.random() < 0.2 else None)
        # Nothing goes wrong any more, so these are answered.
        for last in range(_LAST_WAITS):
            body = own.about(f"W{number}-{last}")
            await _wait_and_post(stage, http, body, dice.random() * _WAIT_BEGINS_S)


def _any_wait(dice: random.Random, ids: tuple[str, ...]) -> Wait:
    to_come = large_id(dice.randrange(_LARGE_IDS))
    request = pb.WaitForStatusRequest(
        message_id=dice.choice((*dice.sample(ids, 6), to_come, "absent")),
        instance=dice.choice(("", *INSTANCES, *INSTANCES)),
        at_least=dice.choice(_WAITED_FOR),
        ignore_failure=dice.random() < 0.5,
    )
    return Wait(request, 0.0, dice.choice((0.2, 1.0, 3.0)))


async def _wait_and_post(stage: Stage, http: httpx.AsyncClient, body: Body, after_s: float) -> None:
    """Wait for a message that is told of when the wait is under way, or has just been asked for."""
    request = pb.WaitForStatusRequest(
        message_id=body.said[0].key[1], instance=body.instance, at_least=pb.STATUS_READ
    )
    waiting = asyncio.ensure_future(_wait(stage, Wait(request, 0.0, LATE_S + 4.0)))
    await asyncio.wait({waiting}, timeout=after_s)
    await stage.post(http, body)
    await waiting


async def _wait(stage: Stage, wait: Wait, leaves_after_s: float | None = None) -> None:
    wait.asked_s = now_s()
    stage.history.waits.append(wait)
    async with stage.channel() as channel:
        stub = cast("Any", stubs.MessageStatusServiceStub(channel))
        call = stub.WaitForStatus(wait.request, timeout=wait.timeout_s)
        answer = asyncio.ensure_future(_answer(call))
        await asyncio.wait({answer}, timeout=leaves_after_s or wait.timeout_s + _WAIT_LATE_S)
        if not answer.done():
            wait.end = End(now_s(), "cancelled" if leaves_after_s else "stuck")
            call.cancel()
            await asyncio.wait({answer})
            answer.cancelled() or answer.exception()
            return
        try:
            wait.message = answer.result().message
            wait.end = End(now_s(), "ok")
        except grpc.aio.AioRpcError as error:
            details = str(error.details())
            wait.end = End(now_s(), "error", error.code().name, reason_of(error), details)
            if wait.end.code in ("UNAVAILABLE", "CANCELLED"):
                await stage.up_again()


async def _answer(call: Any) -> pb.WaitForStatusResponse:
    response: pb.WaitForStatusResponse = await call
    return response


async def sampling(stage: Stage) -> None:
    """Ask the server again and again what waits for its watchers."""
    async with stage.channel() as channel:
        while not stage.finishing:
            await sample(stage, channel)
            await stage.pause(_SAMPLE_S)


async def sample(stage: Stage, channel: grpc.aio.Channel) -> None:
    """Nothing is recorded while the server is away."""
    run, admin = stage.run, cast("Any", stubs.AdminServiceStub(channel))
    try:
        status: pb.GetServiceStatusResponse = await admin.GetServiceStatus(
            pb.GetServiceStatusRequest(), timeout=5
        )
        grown_to = rss_bytes(stage.server.pid)
    except (grpc.aio.AioRpcError, OSError):
        return
    stage.history.samples.append(
        Sample(
            at_s=now_s(),
            queued_bytes=max((one.queued_bytes for one in status.watchers), default=0),
            queue_bytes_max=status.watcher_queue_bytes_max,
            rss_bytes=grown_to,
            run=run,
        )
    )


def rss_bytes(pid: int) -> int:
    """The memory that a process has in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
