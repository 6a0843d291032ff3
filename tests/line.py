"""A way to a PostgreSQL server that can be cut."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import make_url

from tests.postgres import connected

_CHUNK_BYTES = 65_536


class _Way:
    """One connection: a socket to the client and one to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client = client
        self._server = server
        self.requests = threading.Event()
        self.replies = threading.Event()
        self.requests.set()
        self.replies.set()
        self.held_requests = threading.Event()
        """Set once a request was held back."""
        self._pass_on(client, server, self.requests, self.held_requests)
        self._pass_on(server, client, self.replies, threading.Event())

    def _pass_on(
        self,
        source: socket.socket,
        target: socket.socket,
        gate: threading.Event,
        held: threading.Event,
    ) -> None:
        def run() -> None:
            with source, suppress(OSError):
                while chunk := source.recv(_CHUNK_BYTES):
                    if not gate.is_set():
                        held.set()
                    gate.wait()
                    target.sendall(chunk)
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=run, daemon=True).start()

    def leave(self) -> None:
        """The client is told that the connection is lost. What is held back is still sent later."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.mend()

    def mend(self) -> None:
        self.requests.set()
        self.replies.set()


class Line:
    """Everybody behind it connects through a folder of its own.

    Cut, it holds back what is sent. Whoever is behind it is not told: its connections stay, and
    what it has sent comes late.
    """

    def __init__(self, folder: Path, url: str) -> None:
        """The folder is made."""
        with connected(url) as database:
            self._server = (database.info.host, database.info.port)
        folder.mkdir()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / f".s.PGSQL.{self._server[1]}"))
        through = make_url(url).set(host=None, port=self._server[1])
        self.url = through.update_query_dict({"host": str(folder)}).render_as_string(
            hide_password=False
        )
        self._whole = threading.Event()
        self._whole.set()
        self._ways: list[_Way] = []

    def __enter__(self) -> Self:
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.mend()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._each(_Way.close)

    def cut(self) -> None:
        """For everybody, and for whoever comes."""
        self._whole.clear()
        self.hold_requests()
        self.hold_replies()

    def hold_requests(self) -> None:
        """Of the connections that there are."""
        self._each(lambda way: way.requests.clear())

    def holds_requests(self) -> bool:
        return any(way.held_requests.is_set() for way in self._ways)

    def hold_replies(self) -> None:
        """Of the connections that there are."""
        self._each(lambda way: way.replies.clear())

    def lose(self) -> None:
        """Every client there is loses its connection; what was held back is held back still."""
        self._each(_Way.leave)

    def mend(self) -> None:
        self._whole.set()
        self._each(_Way.mend)

    def _each(self, act: Callable[[_Way], None]) -> None:
        for way in list(self._ways):
            act(way)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._whole.wait()
                self._ways.append(_Way(client, self._connected()))

    def _connected(self) -> socket.socket:
        host, port = self._server
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server
