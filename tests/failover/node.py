"""A PostgreSQL under Patroni, on a machine of its own as far as one machine allows."""

import json
import os
import shutil
import signal
import ssl
import sys
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from tests.failover import rendering
from tests.failover.account import Account
from tests.failover.machine import Machine
from tests.failover.rendering import HOST, SECRETS, Place
from tests.failover.waiting import until

_REST_S = 2.0


class Answer(NamedTuple):
    code: int
    body: Any


class Node(Machine):
    """Made once; killed and started as often as one likes."""

    def __init__(self, place: Place, account: Account, context: ssl.SSLContext) -> None:
        """The context holds the certificate that Patroni's REST API wants."""
        self.port = place.ports.postgres
        self.data = place.folder / "data"
        self._rest_port = place.ports.rest
        self._context = context
        config = place.folder / "patroni.yml"
        super().__init__(
            place.folder,
            [sys.executable, "-m", "patroni", str(config)],
            rendering.node_environment(place),
            account,
        )
        config.write_text(rendering.patroni_yml(place))

    @property
    def postmaster_pid(self) -> int | None:
        """As PostgreSQL has written it down; a killed one stays written down."""
        try:
            return int((self.data / "postmaster.pid").read_text().partition("\n")[0])
        except (OSError, ValueError):
            return None

    def remove_data(self) -> None:
        """Its disk is gone. Only while it is killed."""
        assert self.pid is None, f"{self.name} is on"
        shutil.rmtree(self.data)

    def crash(self) -> None:
        """Only PostgreSQL ends, at once; Patroni is there to see it. Raises TimeoutError."""
        servers = set(self.processes(self.data))
        for pid in servers & {self.postmaster_pid}:
            os.kill(pid, signal.SIGKILL)
        # The others notice.
        until(lambda: servers.isdisjoint(self.processes()), 10.0, f"{self.name} has crashed")

    def pause_senders(self) -> None:
        """Nothing more is sent to its standbys, for good, and everything else goes on."""
        for pid in self.processes():
            if b"walsender" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGSTOP)

    def asked(self, path: str) -> Answer | None:
        """By Patroni's REST API; None if nobody answers."""
        if not self.answers:
            return None
        connection = HTTPSConnection(HOST, self._rest_port, timeout=_REST_S, context=self._context)
        with closing(connection):
            try:
                connection.request("GET", path)
                response = connection.getresponse()
                return Answer(response.status, json.loads(response.read() or b"null"))
            except (OSError, HTTPException, ValueError):
                return None

    def is_primary(self) -> bool:
        """Holds the lease, and PostgreSQL is promoted."""
        answer = self.asked("/primary")
        return answer is not None and answer.code == 200

    def streaming(self) -> dict[str, str]:
        """Standbys that get the WAL from here as it is written, each with its `sync_state`.

        Empty if this one cannot be asked.
        """
        try:
            with psycopg.connect(
                host=str(self.folder),
                port=self.port,
                user="postgres",
                dbname="postgres",
                password=SECRETS["PATRONI_SUPERUSER_PASSWORD"],
                connect_timeout=2,
            ) as connection:
                rows = connection.execute(
                    "SELECT application_name, sync_state FROM pg_stat_replication "
                    "WHERE state = 'streaming'"
                )
                return dict(rows.fetchall())
        except psycopg.Error:
            return {}


def socket_fits(folder: Path) -> bool:
    """Whether PostgreSQL can have its socket there: the system takes 107 bytes."""
    return len(str(folder / "db1" / ".s.PGSQL.65535").encode()) <= 107
