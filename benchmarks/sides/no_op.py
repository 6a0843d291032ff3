"""What the stack itself allows: a handler mounted in Litestar that reads, checks and answers."""

import msgspec
import uvloop
from litestar import asgi
from litestar.types import Receive, Scope, Send

from benchmarks.sides import plain_http


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
    taken = plain_http.listening()
    print(plain_http.address_of(taken), flush=True)
    uvloop.run(plain_http.serve(plain_http.mounted(answer), taken))


if __name__ == "__main__":
    main()
