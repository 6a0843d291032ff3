"""What `wait` does about a server that goes away, is full, or answers too late."""

import time

import grpc
import pytest

from service.client import CallFailed, RetryPolicy
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.client_site import SILENT, Fails, WaitStep, scripted

Code = grpc.StatusCode
READ = pb.STATUS_READ


async def test_asks_for_what_it_was_told() -> None:
    """Every argument arrives; the answer is the message as it is, FAILED too."""
    async with scripted(waits=[pb.STATUS_FAILED]) as (server, client):
        message = await client.wait("M", READ, instance="acme", ignore_failure=True)

    assert message.status == pb.STATUS_FAILED
    assert server.wait_requests == [
        pb.WaitForStatusRequest(message_id="M", instance="acme", at_least=READ, ignore_failure=True)
    ]


@pytest.mark.parametrize("patient", [False, True])
async def test_tries_again_within_its_time(patient: bool) -> None:
    """What passes is waited out, also by an impatient caller whose server was there at first."""
    passing: list[WaitStep] = [
        Fails(Code.UNAVAILABLE),
        Fails(Code.CANCELLED),
        Fails(Code.UNAVAILABLE, "SHUTTING_DOWN"),
        Fails(Code.UNAVAILABLE, "VIEWS_UNAVAILABLE"),
        Fails(Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"),
    ]
    async with scripted(waits=[*passing, READ]) as (server, client):
        message = await client.wait("M", READ, patient=patient)

    assert message.status == READ
    assert len(server.wait_requests) == len(passing) + 1


@pytest.mark.parametrize(
    "fails",
    [
        Fails(Code.FAILED_PRECONDITION, "AMBIGUOUS_MESSAGE_ID"),
        Fails(Code.DEADLINE_EXCEEDED, "WAIT_TIMED_OUT"),
        Fails(Code.INTERNAL, "INTERNAL"),
        Fails(Code.RESOURCE_EXHAUSTED),
    ],
    ids=str,
)
async def test_raises_everything_else(fails: Fails) -> None:
    """At once, with its code and reason."""
    async with scripted(waits=[fails]) as (server, client):
        with pytest.raises(CallFailed) as caught:
            await client.wait("M", READ)

    assert (caught.value.code, caught.value.reason) == (fails.code, fails.reason)
    assert len(server.wait_requests) == 1


async def test_an_answer_that_does_not_come() -> None:
    """The reason is WAIT_TIMED_OUT, whoever noticed that the time is up."""
    begun_s = time.monotonic()
    async with scripted(waits=[SILENT]) as (_, client):
        with pytest.raises(CallFailed) as caught:
            await client.wait("M", READ, timeout_s=0.05)
    lasted_s = time.monotonic() - begun_s

    assert (caught.value.code, caught.value.reason) == (Code.DEADLINE_EXCEEDED, "WAIT_TIMED_OUT")
    assert lasted_s < 5


async def test_a_server_that_is_away_at_the_end() -> None:
    """It is tried to the end, however long the backoff; then its last failure is raised."""
    retry = RetryPolicy(initial_s=600.0, max_s=600.0, draw=lambda _, bound: bound)
    away: list[WaitStep] = [Fails(Code.UNAVAILABLE, "SHUTTING_DOWN")] * 10
    async with scripted(waits=away, retry=retry) as (server, client):
        with pytest.raises(CallFailed) as caught:
            await client.wait("M", READ, timeout_s=0.5)

    assert caught.value.reason == "SHUTTING_DOWN"
    assert 2 <= len(server.wait_requests) <= 4
