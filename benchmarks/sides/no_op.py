"""What the stack itself allows: a handler mounted in Litestar that reads, checks and answers."""

import asyncio
import socket

import msgspec
import uvicorn
from litestar import Litestar, asgi
from litestar.types import Receive, Scope, Send


class _Members(msgspec.Struct, gc=False):
    type: msgspec.Raw = msgspec.Raw(b"")


_decoder = msgspec.json.Decoder(_Members)
_ANSWER = b'{"outcome":"recorded","cursor":"AXTAXIb1RU_6AAAAAAAAAAH_____ZaOxyKB0tWo"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]


@asgi("/instancia", is_mount=True, copy_scope=False)
async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        body, more = body + message["body"], message["more_body"]
    _decoder.decode(body)
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER, "more_body": False})


def main() -> None:
    # Named, because asyncio looks at the protocol before it sets TCP_NODELAY.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(2_048)
    application = Litestar([answer], openapi_config=None, logging_config=None)
    settings = uvicorn.Config(
        application,
        http="httptools",
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )
    print(f"127.0.0.1:{listening.getsockname()[1]}", flush=True)
    asyncio.run(uvicorn.Server(settings).serve([listening]))


if __name__ == "__main__":
    main()
