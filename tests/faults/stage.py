"""What all who take part in a round share: the server, the record, and what they wait for."""

import asyncio
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path

import grpc.aio
import httpx

from service.database.sqlite import SqliteDatabase
from service.eventlog.reader import StoredLogReader
from service.wire.cursor import CursorCodec
from tests.faults.bodies import Body
from tests.faults.history import History, Post
from tests.fold_model import Place
from tests.server_process import ServerProcess

PACE_S = 0.05
"""Between two tries while the server is away."""

CHANNEL_OPTIONS = (
    # Each stream has a connection of its own, so that one that is not read holds up no other.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)

# Below those that the system gives to clients: one of these could take a stopped server's port.
_PORTS = range(20_000, 30_000)


def now_s() -> float:
    return time.monotonic()


def free_port() -> int:
    """A port that nobody listens on."""
    for port in random.sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


class Stage:
    """One round's. All of it belongs to one loop."""

    def __init__(self, history: History, server: ServerProcess) -> None:
        """`server` runs, and its log is not empty."""
        self.server = server
        self._http, self._grpc = server.http, server.grpc
        self.history = history
        log = StoredLogReader(SqliteDatabase(server.data_dir / "events.db"))
        self.history.log_identity = log.identity
        log.close()
        self.codec = CursorCodec(self.history.log_identity)
        self.up = True
        self.run = 1
        """Counts the starts of the server."""
        self.stalling = False
        """Those who may stall do so."""
        self.holding = False
        """Nobody leaves a stream of its own accord."""
        self.finishing = False
        """All is posted; everybody reads up to `last`."""
        self.over = False
        """Streams that end now are not followed by others."""
        self.last: Place = (0, 0)
        self.posted = 0
        self.most = 0
        """So many callbacks may be posted before more goes wrong."""
        self.considered: dict[str, Place] = {}
        """By watcher: how far it has come."""
        self._moved = asyncio.Event()

    def dice(self, name: str) -> random.Random:
        """All that an actor of that name decides."""
        return random.Random(f"{self.history.seed}:{name}")

    def moved(self) -> None:
        """Something that somebody waits for may have happened."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def up_again(self) -> None:
        """Behind an error: wait until the server is there."""
        await self.until(lambda: self.over, PACE_S)
        await self.until(lambda: self.up or self.over, float("inf"))

    async def until(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until it holds; False if it does not in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def pause(self, pause_s: float) -> None:
        """Let so much time pass, unless the round comes to its end."""
        await self.until(lambda: self.finishing, pause_s)

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self._grpc, options=CHANNEL_OPTIONS)

    def place(self, cursor: str) -> Place | None:
        """Of an ordinary cursor."""
        decoded = self.codec.decode(cursor)
        return None if decoded.snapshot else (decoded.place.position, decoded.place.index)

    def came(self, watcher: str, cursor: str) -> None:
        """A watcher received that cursor."""
        place = self.place(cursor)
        if place is not None:
            self.considered[watcher] = place
            self.moved()

    async def post(self, http: httpx.AsyncClient, body: Body) -> Post:
        """Post it, and record what came of that."""
        post = Post(body, now_s())
        self.history.posts.append(post)
        try:
            response = await http.post(
                f"/instancia/{body.instance}/status",
                content=body.content.encode(),
                headers={"Content-Type": "application/json"},
            )
        except httpx.TransportError:
            return post
        if response.status_code == httpx.codes.OK:
            post.cursor = str(response.json()["cursor"])
            post.answered_s = now_s()
        else:
            assert response.status_code == httpx.codes.SERVICE_UNAVAILABLE, response.text
        return post

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self._http, trust_env=False, timeout=30)


def settings(stall_s: int) -> dict[str, str]:
    """A server on ports that stay the same when it is started again."""
    return {
        "HTTP_BIND": f"127.0.0.1:{free_port()}",
        "GRPC_BIND": f"127.0.0.1:{free_port()}",
        "WATCHER_STALL_S": str(stall_s),
    }


def data_folder(folder: Path) -> Path:
    return folder / "data"
