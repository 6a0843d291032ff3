"""An application under uvicorn, as it comes, on a port that the system chose."""

import socket
from typing import Any

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


def mounted(handler: ASGIRouteHandler) -> Litestar:
    return Litestar([handler], openapi_config=None, logging_config=None)


async def serve(app: Any, taken: socket.socket) -> None:
    """`app`: an ASGI application."""
    settings = uvicorn.Config(
        app,
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
    await uvicorn.Server(settings).serve([taken])
