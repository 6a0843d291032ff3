"""What a configuration is made of: frozen values, and secrets that do not show."""

from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from service.config.limits import Limits


class Bind(NamedTuple):
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or ip_address(self.host).is_loopback


class Secret:
    """A text that neither repr nor str nor a log line shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(…)" if self._text else "Secret()"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What `serve` and the commands beside it run with. Secrets never show in its repr."""

    data_dir: Path
    events_url: Secret
    views_url: Secret
    """URLs may hold passwords."""
    http_bind: Bind
    grpc_bind: Bind
    ops_bind: Bind
    roles: frozenset[str]
    instances: frozenset[str] | None
    webhook_token: Secret
    webhook_token_file: Path | None
    ignored_types: frozenset[str]
    retention_days: float | None
    """None: keep for ever."""
    silent_after_s: float
    stuck_after_s: float
    spool: bool
    spool_bytes_max: int
    watchers_max: int
    watcher_stall_s: float
    plugchat_url: str
    plugchat_webhook_path: str
    plugchat_credentials_file: Path | None
    plugchat_instance: str
    plugchat_authorization: Secret
    plugchat_ca_file: Path | None
    webhook_hosts: frozenset[str] | None
    tracing: bool
    api_tokens_file: Path | None
    """None: there are no tokens, and every caller may do everything."""
    http_tls_cert: Path | None
    """A certificate always comes with its key."""
    http_tls_key: Path | None
    grpc_tls_cert: Path | None
    grpc_tls_key: Path | None
    grpc_tls_client_ca: Path | None
    workers: int = 1
    """Processes on this machine."""
    shared_ports: bool = False
    """This process is one of them: each has a share of the connections."""
    limits: Limits = Limits()


def describe(config: Config) -> dict[str, Any]:
    """The settings by name, for a log line at start; secrets as `Secret(…)`."""
    return {
        field.name: value
        if isinstance(value, int | float)
        else repr(value)
        if isinstance(value, Secret)
        else str(value)
        for field in fields(config)
        if field.name != "limits" and (value := getattr(config, field.name)) is not None
    }
