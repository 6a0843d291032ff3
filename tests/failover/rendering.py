"""The files of deploy/patroni, with the addresses and the sizes of a cluster on one machine."""

import random
import secrets
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

DEPLOY = Path(__file__).parents[2] / "deploy" / "patroni"
HOST = "127.0.0.1"
NAMES = ("db1", "db2", "db3")
SECRETS = {
    f"PATRONI_{user}_PASSWORD": secrets.token_hex(16)
    for user in ("SUPERUSER", "REPLICATION", "REWIND")
}
"""As secrets.env holds them; new ones in every run."""

# Below those that the system gives to clients, so that none of them takes a dead server's.
_PORTS = range(20_000, 32_000)
_SIZES = {
    "shared_buffers: 2GB": "shared_buffers: 64MB",
    "effective_cache_size: 6GB": "effective_cache_size: 256MB",
    "wal_keep_size: 2GB": "wal_keep_size: 256MB",
    "max_wal_size: 4GB": "max_wal_size: 1GB",
}
_QUICK = {
    "loop_wait: 5": "loop_wait: 1",
    "retry_timeout: 7": "retry_timeout: 3",
    # Patroni would only complain of a machine that has none; a process that hangs beside another
    # that goes on is not among the faults.
    "mode: required": 'mode: "off"',
}
_WITHOUT_TLS = {
    "hostssl": "host",
    "sslmode: verify-full": "sslmode: disable",
    'ssl: "on"': 'ssl: "off"',
}
_ASYNCHRONOUS = {
    "synchronous_mode: quorum": 'synchronous_mode: "off"',
    "synchronous_mode_strict: true": "synchronous_mode_strict: false",
}


class Ports(NamedTuple):
    postgres: int
    rest: int


class Place(NamedTuple):
    """What the files of a node are filled in with."""

    name: str
    folder: Path
    ports: Ports
    etcd: int
    """etcd's port."""
    bin_dir: Path
    tls: Path
    """The folder of the certificates."""
    postgres_tls: bool
    """Whether these binaries can do TLS; etcd and Patroni do in any case."""
    synchronous: bool


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)):
                found.append(port)
    return found


def patroni_yml(place: Place) -> str:
    return rendered(
        "patroni.yml",
        {
            ",".join(f"{name}:2379" for name in NAMES): f"{HOST}:{place.etcd}",
            "0.0.0.0:8008": f"{HOST}:{place.ports.rest}",
            "0.0.0.0:5432": f"{HOST}:{place.ports.postgres}",
            "/etc/patroni/tls": str(place.tls),
            "/usr/lib/postgresql/18/bin": str(place.bin_dir),
            "/var/lib/postgresql/18/main": str(place.folder / "data"),
            "/var/lib/postgresql/patroni.pgpass": str(place.folder / "pgpass"),
            "/var/run/postgresql": str(place.folder),
            **_SIZES,
            **_QUICK,
            **({} if place.postgres_tls else _WITHOUT_TLS),
            **({} if place.synchronous else _ASYNCHRONOUS),
        },
    )


def node_environment(place: Place) -> dict[str, str]:
    """Of Patroni on that node; etcd's part stays as it is and is not used."""
    text = rendered(
        f"{place.name}.env",
        {
            f"{place.name}:8008": f"{HOST}:{place.ports.rest}",
            f"{place.name}:5432": f"{HOST}:{place.ports.postgres}",
        },
    )
    return {**_variables(text), **SECRETS}


def etcd_environment(folder: Path, tls: Path, client_port: int, peer_port: int) -> dict[str, str]:
    """Of an etcd that is alone; the first node's."""
    peers = ",".join(f"{name}=https://{name}:2380" for name in NAMES)
    shared = rendered(
        "etcd.env",
        {
            peers: f"{NAMES[0]}=https://{HOST}:{peer_port}",
            "0.0.0.0:2379": f"{HOST}:{client_port}",
            "0.0.0.0:2380": f"{HOST}:{peer_port}",
            "/etc/patroni/tls": str(tls),
            "/var/lib/etcd/plugstatus": str(folder / "data"),
        },
    )
    own = rendered(
        f"{NAMES[0]}.env",
        {
            f"{NAMES[0]}:2379": f"{HOST}:{client_port}",
            f"{NAMES[0]}:2380": f"{HOST}:{peer_port}",
        },
    )
    return {**_variables(shared), **_variables(own)}


def rendered(file: str, replaced: Mapping[str, str]) -> str:
    """Its text with these replaced. Raises AssertionError for one that is not in it any more."""
    text = (DEPLOY / file).read_text()
    for old, new in replaced.items():
        assert old in text, f"{file} does not say {old!r}; tests/failover/rendering.py expects it"
        text = text.replace(old, new)
    return text


def _variables(text: str) -> dict[str, str]:
    """Of a file as systemd's EnvironmentFile= reads it; in what we use, as a shell does."""
    words = shlex.split(text, comments=True)
    return {name: value for name, _, value in (word.partition("=") for word in words)}
