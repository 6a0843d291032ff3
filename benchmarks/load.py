"""A steady load of callbacks, in a process of its own so that it takes no turn of the measurer's.

    python -m benchmarks.load http://127.0.0.1:8080 RATE SECONDS

It ends by itself.
"""

import asyncio
import json
import random
import sys
import time

import httpx

_CONNECTIONS = 4
_MESSAGES = 20_000


async def _post_until(client: httpx.AsyncClient, end_s: float, period_s: float) -> None:
    next_s = time.monotonic()
    while next_s < end_s:
        body = {
            "type": "MessageStatusCallback",
            "status": random.choice(["SENT", "RECEIVED", "READ"]),
            "ids": [f"3EB0{random.randrange(_MESSAGES):016X}" for _ in range(5)],
            "phone": "5511900000102",
        }
        answer = await client.post(
            "/instancia/bench/status",
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
        answer.raise_for_status()
        next_s += period_s
        await asyncio.sleep(max(0.0, next_s - time.monotonic()))


async def _load(url: str, rate: float, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        period_s = _CONNECTIONS / rate
        await asyncio.gather(*(_post_until(client, end_s, period_s) for _ in range(_CONNECTIONS)))


if __name__ == "__main__":
    asyncio.run(_load(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
