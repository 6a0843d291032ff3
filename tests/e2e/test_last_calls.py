"""Calls that are made just as a server stops."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import grpc.aio

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, error_info
from tests.server_process import ServerProcess


async def test_who_calls_as_the_server_stops_is_told(server: ServerProcess) -> None:
    """Unary calls and streams without a pause around SIGTERM: each is answered as ever until it is
    told SHUTTING_DOWN. None is merely cut off."""
    ends: Counter[str] = Counter()
    apis = [Api(server.grpc) for _ in range(4)]
    calling = asyncio.Event()

    async def outcome(call: Awaitable[object]) -> str:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name} {error_info(error).reason}"
        return "opened"

    async def keep_calling(make: Callable[[], Awaitable[object]]) -> None:
        while not ends["UNAVAILABLE SHUTTING_DOWN"]:
            ends[await outcome(make())] += 1
            calling.set()

    async def opened(api: Api) -> None:
        stream = api.watch(pb.WatchStatusesRequest(from_now=True))
        await stream.next()
        stream.cancel()

    async with asyncio.TaskGroup() as group:
        for api in apis:
            for make in (partial(api.get, "unknown"), partial(opened, api)):
                for _ in range(3):
                    group.create_task(keep_calling(make))
        await calling.wait()
        server.signal(signal.SIGTERM)
    for api in apis:
        await api.channel.close()
    code = await asyncio.to_thread(server.wait)

    assert code == 0
    assert set(ends) <= {"NOT_FOUND MESSAGE_NOT_FOUND", "opened", "UNAVAILABLE SHUTTING_DOWN"}
    assert ends["UNAVAILABLE SHUTTING_DOWN"]
