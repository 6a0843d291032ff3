"""Certificates that may be replaced while the service runs.

Certificate, key and client CA are files that change one after the other. What is used changes only
once they fit together again; until then the last ones that did stay in use. Connections that stand
keep theirs.
"""

import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from service import errors
from service.clock import US_PER_S, Clock
from service.config import PREFIX, Config
from service.watched_file import WatchedFile

_log = structlog.get_logger(__name__)


class Chain(msgspec.Struct, frozen=True):
    """What a server shows of itself, and whom it asks of its clients. Checked."""

    certificate: bytes
    """PEM, the server's own first."""
    key: bytes
    """PEM."""
    client_ca: bytes
    """PEM; empty if clients need no certificate."""
    not_before_us: int
    not_after_us: int
    """When the certificate expires, by the system's clock."""
    names: tuple[str, ...]
    """Whom it is for: host names and addresses."""


def of_http(config: Config, clock: Clock) -> "TlsFiles | None":
    """None without TLS. Raises ConfigInvalid, as both, for files that cannot be used."""
    if config.http_tls_cert is None or config.http_tls_key is None:
        return None
    return TlsFiles("HTTP_TLS", config.http_tls_cert, config.http_tls_key, None, clock, config)


def of_grpc(config: Config, clock: Clock) -> "TlsFiles | None":
    if config.grpc_tls_cert is None or config.grpc_tls_key is None:
        return None
    return TlsFiles(
        "GRPC_TLS",
        config.grpc_tls_cert,
        config.grpc_tls_key,
        config.grpc_tls_client_ca,
        clock,
        config,
    )


class TlsFiles:
    """One side's files. May be used by several threads."""

    def __init__(
        self,
        variable: str,
        certificate: Path,
        key: Path,
        client_ca: Path | None,
        clock: Clock,
        config: Config,
    ) -> None:
        """`variable` is what the names of these settings begin with.

        Raises ConfigInvalid, which shows nothing of a key, for files that cannot be used.
        """
        self._variable = PREFIX + variable
        self._lock = threading.Lock()
        self._paths = certificate, key
        paths = {"CERT": certificate, "KEY": key}
        if client_ca is not None:
            paths["CLIENT_CA"] = client_ca
        self._files = [
            WatchedFile(
                f"{self._variable}_{name}",
                path,
                str.encode,
                clock,
                bytes_max=config.limits.watched_file_bytes_max,
            )
            for name, path in paths.items()
        ]
        self._read = [file.value() for file in self._files]
        self._chain = self._checked()

    def current(self) -> Chain:
        """What is to be used now; never raises."""
        with self._lock:
            self._follow()
            return self._chain

    def reload(self) -> None:
        """Read the files now. Those that cannot be used are logged, and change nothing."""
        with self._lock:
            for file in self._files:
                file.reload()
            self._follow()

    def expiry_s(self) -> float:
        """When the certificate expires, in seconds since 1970."""
        return self.current().not_after_us / US_PER_S

    def context(self, chain: Chain) -> ssl.SSLContext:
        """For HTTP. Raises ConfigInvalid if the files hold something else by now."""
        certificate, key = self._paths
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        try:
            # An encrypted key would be asked about on the terminal.
            context.load_cert_chain(certificate, key, password=lambda: b"")
            same = (certificate.read_bytes(), key.read_bytes()) == (chain.certificate, chain.key)
        except OSError:
            same = False
        if not same:
            raise errors.ConfigInvalid(
                f"{self._variable}_CERT", "and its key were just replaced: start again"
            )
        return context

    def _follow(self) -> None:
        read = [file.value() for file in self._files]
        if read == self._read:
            return
        self._read = read
        try:
            self._chain = self._checked()
        except errors.ConfigInvalid as error:
            _log.error("changed certificate not used, the last good one stays", fault=str(error))
        else:
            _log.info(
                "certificate replaced",
                variable=f"{self._variable}_CERT",
                expires=date_of(self._chain.not_after_us),
            )

    def _checked(self) -> Chain:
        # Here, because it takes a tenth of a second that nobody needs who has no TLS.
        from service.certificate import facts_of

        certificate, key, client_ca = [*self._read, b""][:3]
        facts = facts_of(self._variable, certificate, key, client_ca)
        return Chain(certificate, key, client_ca, *facts)


class ServerContext:
    """An SSLContext for a listening socket that follows the files. Used by one thread."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises ConfigInvalid if they cannot be used."""
        self._files = files
        self._chain = files.current()
        self._context = files.context(self._chain)
        self.listening = files.context(self._chain)
        """Each handshake is moved on to one with the certificate of that moment."""
        self.listening.sni_callback = self._move_on

    def _move_on(
        self, connection: "ssl.SSLSocket | ssl.SSLObject", _name: str | None, _: ssl.SSLContext
    ) -> None:
        chain = self._files.current()
        if chain is not self._chain:
            # One whose files change under our hands is looked at again by the next handshake.
            with suppress(errors.ConfigInvalid):
                self._context = self._files.context(chain)
                self._chain = chain
        connection.context = self._context


def date_of(time_us: int) -> str:
    """The day, in UTC."""
    return f"{datetime.fromtimestamp(time_us / US_PER_S, UTC):%Y-%m-%d}"
