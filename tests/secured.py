"""Files of tokens and certificates, as an operator would write them."""

import hashlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
import trustme


class TokenFile:
    """PLUGSTATUS_API_TOKENS_FILE, written anew whenever a token comes or goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, str] = {}

    def add(self, name: str, *roles: str, instances: Sequence[str] = ()) -> str:
        """A new token."""
        token = f"pst_{secrets.token_urlsafe(32)}"
        self.put(token, name, *roles, instances=instances)
        return token

    def put(self, token: str, name: str, *roles: str, instances: Sequence[str] = ()) -> None:
        """A token with those rights, whatever it had before."""
        lines = [
            "[[token]]",
            f'sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"',
            f'name = "{name}"',
            f"roles = {json.dumps(roles)}",
            *([f"instances = {json.dumps(instances)}"] if instances else []),
        ]
        self._entries[token] = "\n".join([*lines, ""])
        self._write()

    def remove(self, token: str) -> None:
        del self._entries[token]
        self._write()

    def _write(self) -> None:
        self.path.write_text("\n".join(self._entries.values()))


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata that carries it."""
    return (("authorization", f"Bearer {token}"),)


class CertificateFiles(NamedTuple):
    """A certificate for localhost and 127.0.0.1, its key, and the CA that signed it."""

    certificate: Path
    key: Path
    ca: Path

    def settings(self, side: str) -> dict[str, str]:
        """For HTTP or GRPC."""
        return {f"{side}_TLS_CERT": str(self.certificate), f"{side}_TLS_KEY": str(self.key)}

    def channel_credentials(
        self, client: "CertificateFiles | None" = None
    ) -> grpc.ChannelCredentials:
        """Of a client that trusts the CA, and has a certificate itself or none."""
        own = (client.key.read_bytes(), client.certificate.read_bytes()) if client else (None, None)
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), *own)


def issue(
    folder: Path,
    authority: trustme.CA,
    name: str = "server",
    names: Sequence[str] = ("localhost", "127.0.0.1"),
) -> CertificateFiles:
    """A certificate in the folder; of the same name it replaces the one before."""
    issued = authority.issue_cert(*names)
    files = CertificateFiles(*(folder / f"{name}.{what}.pem" for what in ("cert", "key", "ca")))
    files.certificate.write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
    files.key.write_bytes(issued.private_key_pem.bytes())
    files.ca.write_bytes(authority.cert_pem.bytes())
    return files
