"""The shortest way from a post to a stream: one process that appends the body to a file, syncs it,
writes it to every open stream, and answers.

Prints the HTTP address and the gRPC address, with a blank between.
"""

import asyncio
import os
import tempfile
from typing import Any

import grpc
import grpc.aio
import uvloop
from litestar import asgi
from litestar.types import Receive, Scope, Send

from benchmarks.sides import plain_http


async def serve(file: int) -> None:
    open_streams: set[asyncio.Queue[bytes]] = set()

    @asgi("/instancia", is_mount=True, copy_scope=False)
    async def receive_callback(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert message["type"] == "http.request"
        body = message["body"]
        os.write(file, body)
        os.fdatasync(file)
        for one in open_streams:
            one.put_nowait(body)
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
        )
        await send({"type": "http.response.body", "body": b"ok", "more_body": False})

    async def watch(_request: bytes, context: Any) -> None:
        mine: asyncio.Queue[bytes] = asyncio.Queue()
        open_streams.add(mine)
        try:
            await context.write(b"open")
            while True:
                await context.write(await mine.get())
        finally:
            open_streams.discard(mine)

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(watch)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Frames", {"Watch": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    taken = plain_http.listening()
    print(f"{plain_http.address_of(taken)} 127.0.0.1:{port}", flush=True)
    await plain_http.serve(plain_http.mounted(receive_callback), taken)


if __name__ == "__main__":
    with tempfile.TemporaryFile(buffering=0) as appended:
        uvloop.run(serve(appended.fileno()))
