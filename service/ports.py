"""Addresses to listen on, taken so that a second server is told, and never shares one unasked.

Workers of one `serve` do share: the system gives each of their sockets some of the connections
(SO_REUSEPORT). A port that is reserved keeps its number while they come and go.
"""

import resource
import socket
from dataclasses import replace

from service.config import PREFIX, Bind, Limits
from service.errors import AddressInUse

BACKLOG = 1_024
"""Connections that wait to be accepted. Beyond, the system drops what arrives, and peers try again
after a second."""

_OTHER_FILES = 512
"""What a process opens beside its peers' connections: stores, logs, threads' pipes."""


def listening(variable: str, bind: Bind, *, shared: bool = False) -> socket.socket:
    """A socket that does not block. `variable` is the setting that errors about the address name.

    Raises AddressInUse.
    """
    return _taken(variable, bind, shared=shared, listens=True)


def reserved(variable: str, bind: Bind) -> socket.socket:
    """A socket that gets no connection and keeps the address for those who share it.

    Raises AddressInUse, also if others share it already.
    """
    with _taken(variable, bind, shared=False, listens=True) as alone:
        bind = bound_to(alone)
    return _taken(variable, bind, shared=True, listens=False)


def bound_to(taken: socket.socket) -> Bind:
    """The port is the real one."""
    return Bind(*taken.getsockname()[:2])


def fitting(limits: Limits) -> Limits:
    """Limits on connections that this process may have open files for.

    Each process may open so many (RLIMIT_NOFILE): up to the hard limit it raises that by itself.
    """
    # Connections whose TLS does not stand yet are counted apart.
    wanted = _OTHER_FILES + 2 * limits.http_connections_max + limits.grpc_connections_max
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == wanted:
        return limits
    part = max(0, allowed - _OTHER_FILES) / (wanted - _OTHER_FILES)
    return replace(
        limits,
        http_connections_max=max(1, int(limits.http_connections_max * part)),
        grpc_connections_max=max(1, int(limits.grpc_connections_max * part)),
    )


def _taken(variable: str, bind: Bind, *, shared: bool, listens: bool) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio sets TCP_NODELAY only on connections of a socket made with IPPROTO_TCP; without
        # it each answer on a kept-alive connection waits 40 ms.
        taken = socket.socket(family, kind, socket.IPPROTO_TCP)
    except OSError as error:
        raise _in_use(variable, bind, error) from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(address)
        if listens:
            taken.listen(BACKLOG)
        taken.setblocking(False)
    except OSError as error:
        taken.close()
        raise _in_use(variable, bind, error) from error
    return taken


def _in_use(variable: str, bind: Bind, error: OSError) -> AddressInUse:
    return AddressInUse(PREFIX + variable, str(bind), error.strerror or str(error))
