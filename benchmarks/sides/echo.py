"""A bare grpc.aio server: whatever is asked, the answer is so many bytes.

python -m benchmarks.sides.echo BYTES asyncio|uvloop
"""

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio
import uvloop


async def main() -> None:
    answer = bytes(int(sys.argv[1]))

    async def echo(_request: bytes, _context: Any) -> bytes:
        return answer

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    {"asyncio": asyncio.run, "uvloop": uvloop.run}[sys.argv[2]](main())
