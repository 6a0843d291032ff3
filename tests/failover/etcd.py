"""The etcd of a cluster; one, so no machine that dies takes it along."""

import base64
import json
import ssl
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from tests.failover import rendering
from tests.failover.account import Account
from tests.failover.machine import Machine
from tests.failover.rendering import HOST

_REPLY_S = 2.0


class Etcd(Machine):
    """Made once; killed and started as often as one likes."""

    def __init__(
        self,
        program: str,
        folder: Path,
        ports: tuple[int, int],
        tls: Path,
        account: Account,
        context: ssl.SSLContext,
    ) -> None:
        """The ports are for clients, and for other etcds, of which there are none.

        `tls` is the folder of the certificates; the context holds the one that etcd wants.
        """
        self.port, peer_port = ports
        self._context = context
        environment = rendering.etcd_environment(folder, tls, self.port, peer_port)
        super().__init__(folder, [program], environment, account)

    def healthy(self) -> bool:
        try:
            return b'"true"' in self._asked("GET", "/health", b"")
        except (OSError, HTTPException):
            return False

    def delete(self, key: str) -> None:
        """Raises OSError or http.client.HTTPException."""
        body = {"key": base64.b64encode(key.encode()).decode()}
        self._asked("POST", "/v3/kv/deleterange", json.dumps(body).encode())

    def _asked(self, method: str, path: str, body: bytes) -> bytes:
        connection = HTTPSConnection(HOST, self.port, timeout=_REPLY_S, context=self._context)
        with closing(connection):
            connection.request(method, path, body)
            return connection.getresponse().read()
