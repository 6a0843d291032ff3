"""A bare grpc.aio server that writes ready frames, as fast as they are taken.

python -m benchmarks.sides.frames FILE

The file holds frames, each behind its length in four bytes. `All` writes them and ends. `Fan`
writes them each time `Go` is called, to every stream that is open.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio


def stored(frames: list[bytes]) -> bytes:
    """The file's content."""
    return b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)


def _loaded(content: bytes) -> list[bytes]:
    frames, at = [], 0
    while at < len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "big")
        frames.append(content[at + 4 : end])
        at = end
    return frames


async def serve(frames: list[bytes]) -> None:
    going: set[asyncio.Queue[None]] = set()

    async def write_all(_request: bytes, context: Any) -> None:
        for frame in frames:
            await context.write(frame)

    async def fan(_request: bytes, context: Any) -> None:
        told: asyncio.Queue[None] = asyncio.Queue()
        going.add(told)
        try:
            await context.write(b"open")
            while True:
                await told.get()
                for frame in frames:
                    await context.write(frame)
        finally:
            going.discard(told)

    async def go(_request: bytes, _context: Any) -> bytes:
        for told in going:
            told.put_nowait(None)
        return b""

    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "All": grpc.unary_stream_rpc_method_handler(write_all),
        "Fan": grpc.unary_stream_rpc_method_handler(fan),
        "Go": grpc.unary_unary_rpc_method_handler(go),
    }
    handler = grpc.method_handlers_generic_handler("bench.Frames", handlers)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(_loaded(Path(sys.argv[1]).read_bytes())))
