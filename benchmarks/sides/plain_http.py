"""A Litestar application under uvicorn, as it comes, on a port that the system chose."""

import socket

import uvicorn
from litestar import Litestar
from litestar.handlers import ASGIRouteHandler


def listening() -> socket.socket:
    """Named by its protocol, because asyncio looks at that before it sets TCP_NODELAY."""
    taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.bind(("127.0.0.1", 0))
    taken.listen(2_048)
    return taken


def address_of(taken: socket.socket) -> str:
    return f"127.0.0.1:{taken.getsockname()[1]}"


async def serve(handler: ASGIRouteHandler, taken: socket.socket) -> None:
    settings = uvicorn.Config(
        Litestar([handler], openapi_config=None, logging_config=None),
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
    await uvicorn.Server(settings).serve([taken])
