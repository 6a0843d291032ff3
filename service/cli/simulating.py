"""`simulate`: made-up callbacks against a running ingress."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click
import httpx

from service import config
from service.cli.failures import Unreachable
from service.plugchat import simulate as simulated

_CONNECTIONS_MAX = 64
_TIMEOUT_S = 30.0


@click.command()
@click.option("--messages", default=100, show_default=True, type=click.IntRange(1, 10_000_000))
@click.option(
    "--rate",
    default=50.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Callbacks a second.",
)
@click.option("--instance", default="simulated", show_default=True, metavar="NAME")
@click.option("--seed", default=None, type=int, help="Makes a run repeatable. [default: random]")
@click.option(
    "--http",
    "base_url",
    default=None,
    metavar="URL",
    help="The ingress. [default: http://, at PLUGSTATUS_HTTP_BIND]",
)
@click.option(
    "--webhook-token",
    envvar="PLUGSTATUS_WEBHOOK_TOKEN",
    show_envvar=True,
    default="",
    metavar="TOKEN",
    help="Sent as ?token=. [default: none]",
)
def simulate(
    messages: int,
    rate: float,
    instance: str,
    seed: int | None,
    base_url: str | None,
    webhook_token: str,
) -> None:
    """Post realistic callbacks to a running ingress: disordered, repeated, sometimes odd.

    About three callbacks a message. Exit code 1 if one of them was not recorded.
    """
    seed = time.time_ns() % 2**32 if seed is None else seed
    bodies = simulated.callbacks(messages, seed, simulated.now_ms())
    click.echo(f"simulating {messages} messages of {instance}, seed {seed}", err=True)
    url = f"{base_url or _default_base_url()}/instancia/{instance}/status"
    token = webhook_token.split(",")[0].strip()
    try:
        outcomes, seconds = asyncio.run(_post_all(url, token, bodies, rate))
    except ExceptionGroup as group:
        unreachable, others = group.split(Unreachable)
        if unreachable is None or others is not None:
            raise
        # Every post that was under way says the same.
        raise unreachable.exceptions[0] from None
    posted = sum(outcomes.values())
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    click.echo(f"{posted} callbacks in {seconds:.1f} s: {told}")
    if set(outcomes) - {"recorded", "spooled", "ignored"}:
        raise click.exceptions.Exit(1)


def _default_base_url() -> str:
    default = next(s.default for s in config.SETTINGS if s.name == "HTTP_BIND")
    return f"http://{os.environ.get('PLUGSTATUS_HTTP_BIND') or default}"


async def _post_all(
    url: str, token: str, bodies: Iterator[dict[str, Any]], rate: float
) -> tuple[Counter[str], float]:
    """Post at the rate, with at most so many requests under way; count the outcomes."""
    outcomes: Counter[str] = Counter()
    limits = httpx.Limits(max_connections=_CONNECTIONS_MAX)
    places = asyncio.Semaphore(_CONNECTIONS_MAX)
    begun_s = time.monotonic()
    async with (
        httpx.AsyncClient(limits=limits, timeout=_TIMEOUT_S, trust_env=False) as client,
        asyncio.TaskGroup() as posts,
    ):

        async def post(body: dict[str, Any]) -> None:
            try:
                outcomes[await _post(client, url, token, body)] += 1
            finally:
                places.release()

        for number, body in enumerate(bodies):
            ahead_s = begun_s + number / rate - time.monotonic()
            if ahead_s > 0:
                await asyncio.sleep(ahead_s)
            await places.acquire()
            posts.create_task(post(body))
    return outcomes, time.monotonic() - begun_s


async def _post(client: httpx.AsyncClient, url: str, token: str, body: dict[str, Any]) -> str:
    parameters = {"token": token} if token else None
    try:
        response = await client.post(
            url,
            params=parameters,
            content=simulated.encoded(body),
            headers={"Content-Type": "application/json"},
        )
    except httpx.ConnectError:
        raise Unreachable(f"no ingress answers at {url}: start `plugstatus serve`") from None
    except httpx.HTTPError as error:
        return type(error).__name__
    if response.status_code != httpx.codes.OK:
        return f"refused with {response.status_code}"
    return str(response.json()["outcome"])
