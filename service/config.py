"""The configuration: read once, from options and the environment, into one frozen object.

`SETTINGS` is the table of all variables; the command line builds its options and help texts from
it, and the documentation is checked against it. An empty variable is an unset one, except where
the table says otherwise. Every limit the service has stands in `Limits`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from service.errors import ConfigInvalid

PREFIX = "PLUGSTATUS_"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every bound that is not a setting of its own. Bytes, seconds, counts: the name says which."""

    body_bytes_max: int = 1024 * 1024
    """A callback's body, before and after inflation."""
    body_depth_max: int = 1_000
    head_bytes_max: int = 32 * 1024
    request_s: float = 10.0
    """From the first byte of a request to its last."""
    drain_body_s: float = 2.0
    """How long a drain waits for bodies that are still arriving."""
    drain_s: float = 8.0
    """From SIGTERM until everything that still runs is cut off."""
    http_connections_max: int = 4_096
    append_s: float = 30.0
    """How long a callback waits for its transaction."""
    batch_events_max: int = 4_096
    """Events a transaction of the log."""
    batch_bytes_max: int = 16 * 1024 * 1024
    waiting_events_max: int = 65_536
    """Events that wait for a transaction; beyond it callbacks get 503."""
    waiting_bytes_max: int = 256 * 1024 * 1024
    fold_events_max: int = 2_000
    """Events a transaction of the views."""
    fold_bytes_max: int = 8 * 1024 * 1024
    poll_s: float = 1.0
    """How long a notification may be missed before polling finds the change."""
    retry_s: float = 1.0
    """Pause before a store that failed is tried again."""
    readers_max: int = 4
    """Reading connections a store."""
    unary_calls_max: int = 1_000
    """Unary calls under way at once."""
    min_cursor_wait_s: float = 30.0
    batch_get_ids_max: int = 500
    filter_values_max: int = 1_000
    """Message ids, phones, instances or statuses in one filter."""
    frame_changes_max: int = 500
    frame_bytes_max: int = 512 * 1024
    """Changes in one watch frame; a change is a few hundred bytes, and at most about 10 kB."""
    catch_up_rows_max: int = 2_000
    """Feed rows one page of catching up looks at."""
    watcher_queue_bytes_max: int = 2 * 1024 * 1024
    """Encoded changes queued for a live watcher before it falls behind."""
    watcher_queue_frames_max: int = 1_000
    progress_interval_s: float = 15.0
    progress_interval_min_s: float = 1.0
    progress_interval_max_s: float = 600.0
    url_characters_max: int = 2_048
    provider_attempts_max: int = 3
    provider_attempt_s: float = 7.0
    provider_total_s: float = 24.0
    """All attempts of one webhook update together."""
    provider_response_bytes_max: int = 64 * 1024
    recursion_max: int = 6_000
    """Python's recursion limit: the parsers take one level for each of `body_depth_max`."""


class Bind(NamedTuple):
    """Where to listen. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or ip_address(self.host).is_loopback


@dataclass(frozen=True, kw_only=True)
class Config:
    """What `serve` and the commands beside it run with. Secrets never show in its repr."""

    data_dir: Path
    events_url: str
    views_url: str
    http_bind: Bind
    grpc_bind: Bind
    ops_bind: Bind
    roles: frozenset[str]
    instances: frozenset[str] | None
    webhook_token: "Secret"
    webhook_token_file: Path | None
    ignored_types: frozenset[str]
    watchers_max: int
    watcher_stall_s: float
    plugchat_url: str
    plugchat_webhook_path: str
    plugchat_credentials_file: Path | None
    plugchat_instance: str
    plugchat_authorization: "Secret"
    plugchat_ca_file: Path | None
    webhook_hosts: frozenset[str] | None
    limits: Limits = Limits()


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


class Setting(NamedTuple):
    """One variable: `PLUGSTATUS_<NAME>`, and the option `--<name>` of `serve`."""

    name: str
    metavar: str
    default: str
    """As text; `shown_default` says it for people where it depends on another setting."""
    meaning: str
    shown_default: str = ""
    secret: bool = False
    empty_is_a_value: bool = False
    offered: bool = True
    """False: known to the contract, refused by this version rather than ignored."""

    @property
    def variable(self) -> str:
        return PREFIX + self.name

    @property
    def option(self) -> str:
        return "--" + self.name.lower().replace("_", "-")


SETTINGS: tuple[Setting, ...] = (
    Setting("DATA_DIR", "FOLDER", "./data", "Folder of the embedded stores; one `serve` at a time"),
    Setting(
        "EVENTS_URL", "URL", "", "Database of the event log", "sqlite:///<data folder>/events.db"
    ),
    Setting("VIEWS_URL", "URL", "", "Database of the views", "sqlite:///<data folder>/views.db"),
    Setting("HTTP_BIND", "HOST:PORT", "127.0.0.1:8080", "Where callbacks are received"),
    Setting("GRPC_BIND", "HOST:PORT", "127.0.0.1:50051", "Where the gRPC API listens"),
    Setting(
        "OPS_BIND",
        "HOST:PORT",
        "",
        "Where /healthz, /readyz and /metrics are",
        "the HTTP address when that is loopback, else 127.0.0.1:9090",
    ),
    Setting(
        "ROLES", "LIST", "ingress,projector,api", "What this process does; on SQLite all three"
    ),
    Setting("INSTANCES", "LIST", "", "Instances whose callbacks are taken; others get 404", "any"),
    Setting(
        "WEBHOOK_TOKEN",
        "TOKENS",
        "",
        "Callbacks must carry one of these as ?token=",
        "none",
        secret=True,
    ),
    Setting("WEBHOOK_TOKEN_FILE", "FILE", "", "The same from a file, read again on change", "none"),
    Setting(
        "IGNORED_TYPES",
        "LIST",
        "ReceivedCallback,PresenceChatCallback",
        "Callback types that are answered and not stored; set but empty: none",
        empty_is_a_value=True,
    ),
    Setting("WATCHERS_MAX", "N", "10000", "Watch streams open at once"),
    Setting(
        "WATCHER_STALL_S", "SECONDS", "300", "How long a watcher's transport may accept nothing"
    ),
    Setting("PLUGCHAT_URL", "URL", "https://www.plugchat.com.br", "The provider"),
    Setting(
        "PLUGCHAT_WEBHOOK_PATH",
        "PATH",
        "/api/whatsapp/update-webhook-message-status",
        "The provider's path that UpdateWebhook puts to",
    ),
    Setting(
        "PLUGCHAT_CREDENTIALS_FILE",
        "FILE",
        "",
        'TOML with [instance.NAME] authorization = "…" for each instance',
        "none",
    ),
    Setting(
        "PLUGCHAT_INSTANCE", "NAME", "", "The one instance PLUGCHAT_AUTHORIZATION is for", "none"
    ),
    Setting(
        "PLUGCHAT_AUTHORIZATION",
        "TOKEN",
        "",
        "Sent verbatim as the Authorization header",
        "none",
        secret=True,
    ),
    Setting("PLUGCHAT_CA_FILE", "FILE", "", "PEM of a private CA for the provider", "system trust"),
    Setting("WEBHOOK_HOSTS", "LIST", "", "Hosts that UpdateWebhook may point at", "any"),
    Setting(
        "SPOOL", "on|off", "", "Keep callbacks on disk while PostgreSQL is away", offered=False
    ),
    Setting("SPOOL_BYTES_MAX", "BYTES", "", "Size of that spool", offered=False),
    Setting("RETENTION_DAYS", "DAYS", "", "Remove older events", offered=False),
    Setting("API_TOKENS_FILE", "FILE", "", "Tokens of the API's callers", offered=False),
    Setting("HTTP_TLS_CERT", "FILE", "", "TLS for HTTP", offered=False),
    Setting("HTTP_TLS_KEY", "FILE", "", "TLS for HTTP", offered=False),
    Setting("GRPC_TLS_CERT", "FILE", "", "TLS for gRPC", offered=False),
    Setting("GRPC_TLS_KEY", "FILE", "", "TLS for gRPC", offered=False),
    Setting("GRPC_TLS_CLIENT_CA", "FILE", "", "Mutual TLS for gRPC", offered=False),
)

CLIENT_SETTINGS: tuple[Setting, ...] = (
    Setting(
        "API_TARGET", "HOST:PORT", "", "The gRPC API the commands call", "PLUGSTATUS_GRPC_BIND"
    ),
    Setting("API_TOKEN", "TOKEN", "", "Sent as a bearer token, over TLS only", "none", secret=True),
    Setting("API_CA_FILE", "FILE", "", "PEM of the CA of the API's certificate", "no TLS"),
)

ROLES = frozenset({"ingress", "projector", "api"})
_INSTANCE = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}")
_TOKEN = re.compile(r"[A-Za-z0-9._~-]+")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_DEFAULT_OPS_BIND = Bind("127.0.0.1", 9090)


def is_instance(text: str) -> bool:
    """1 to 128 of A-Z a-z 0-9 . _ -, but neither `.` nor `..`."""
    return _INSTANCE.fullmatch(text) is not None


def load(values: Mapping[str, str], *, insecure: bool = False) -> Config:
    """The configuration from values by setting name, without prefix; missing ones have defaults.

    Raises ConfigInvalid, which names the variable, its fault and the fix, and never a secret.
    """
    text = {setting.name: _given(setting, values) for setting in SETTINGS}
    http_bind = parse_bind("HTTP_BIND", text["HTTP_BIND"])
    grpc_bind = parse_bind("GRPC_BIND", text["GRPC_BIND"])
    data_dir = Path(text["DATA_DIR"]).absolute()
    default_ops = http_bind if http_bind.is_loopback else _DEFAULT_OPS_BIND
    config = Config(
        data_dir=data_dir,
        events_url=text["EVENTS_URL"] or f"sqlite:///{data_dir / 'events.db'}",
        views_url=text["VIEWS_URL"] or f"sqlite:///{data_dir / 'views.db'}",
        http_bind=http_bind,
        grpc_bind=grpc_bind,
        ops_bind=parse_bind("OPS_BIND", text["OPS_BIND"]) if text["OPS_BIND"] else default_ops,
        roles=_roles(text["ROLES"]),
        instances=_listed("INSTANCES", text["INSTANCES"], is_instance, "an instance name"),
        webhook_token=Secret(text["WEBHOOK_TOKEN"]),
        webhook_token_file=_file("WEBHOOK_TOKEN_FILE", text["WEBHOOK_TOKEN_FILE"]),
        ignored_types=frozenset(_split(text["IGNORED_TYPES"])),
        watchers_max=int(_number("WATCHERS_MAX", text["WATCHERS_MAX"], whole=True)),
        watcher_stall_s=_number("WATCHER_STALL_S", text["WATCHER_STALL_S"]),
        plugchat_url=_https_url("PLUGCHAT_URL", text["PLUGCHAT_URL"]),
        plugchat_webhook_path=_path("PLUGCHAT_WEBHOOK_PATH", text["PLUGCHAT_WEBHOOK_PATH"]),
        plugchat_credentials_file=_file(
            "PLUGCHAT_CREDENTIALS_FILE", text["PLUGCHAT_CREDENTIALS_FILE"]
        ),
        plugchat_instance=text["PLUGCHAT_INSTANCE"],
        plugchat_authorization=Secret(text["PLUGCHAT_AUTHORIZATION"]),
        plugchat_ca_file=_file("PLUGCHAT_CA_FILE", text["PLUGCHAT_CA_FILE"]),
        webhook_hosts=_listed(
            "WEBHOOK_HOSTS",
            text["WEBHOOK_HOSTS"].lower(),
            lambda host: _HOST.fullmatch(host) is not None,
            "a host name",
        ),
    )
    _check_together(config, insecure=insecure)
    return config


def parse_tokens(variable: str, text: str) -> frozenset[str]:
    """Webhook tokens, by comma or by line. Raises ConfigInvalid without showing any."""
    tokens = frozenset(_split(text.replace("\n", ",")))
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise ConfigInvalid(
            PREFIX + variable,
            "a token has characters beside A-Z a-z 0-9 . _ ~ -: make another one",
        )
    return tokens


def parse_bind(name: str, text: str) -> Bind:
    """`host:port` or `[v6]:port`; the host is an IP address or localhost."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        if host != "localhost":
            ip_address(host)
        number = int(port) if port.isascii() and port.isdigit() else -1
    except ValueError:
        number = -1
    if not 0 <= number <= 65_535:
        raise ConfigInvalid(
            PREFIX + name, f"{text!r} is not an address: write it as 127.0.0.1:8080"
        )
    return Bind(host, number)


def _given(setting: Setting, values: Mapping[str, str]) -> str:
    given = values.get(setting.name)
    if given is not None and not setting.offered:
        raise ConfigInvalid(setting.variable, "is not offered by this version: leave it unset")
    if given is None or (given == "" and not setting.empty_is_a_value):
        return setting.default
    return given


def _check_together(config: Config, *, insecure: bool) -> None:
    if config.roles != ROLES:
        raise ConfigInvalid(
            PREFIX + "ROLES", "on SQLite one process has all three roles: leave it unset"
        )
    parse_tokens("WEBHOOK_TOKEN", config.webhook_token.reveal())
    if bool(config.plugchat_instance) != bool(config.plugchat_authorization):
        raise ConfigInvalid(
            PREFIX + "PLUGCHAT_INSTANCE", "needs PLUGSTATUS_PLUGCHAT_AUTHORIZATION, and vice versa"
        )
    if config.plugchat_instance and not is_instance(config.plugchat_instance):
        raise ConfigInvalid(
            PREFIX + "PLUGCHAT_INSTANCE", "is no instance name: 1 to 128 of A-Z a-z 0-9 . _ -"
        )
    authorization = config.plugchat_authorization.reveal()
    if not authorization.isascii() or not authorization.isprintable():
        raise ConfigInvalid(
            PREFIX + "PLUGCHAT_AUTHORIZATION", "must be printable ASCII: copy it again"
        )
    if insecure:
        return
    if not config.http_bind.is_loopback and not (config.webhook_token or config.webhook_token_file):
        raise ConfigInvalid(
            PREFIX + "HTTP_BIND",
            "is not loopback, and anybody could post: set PLUGSTATUS_WEBHOOK_TOKEN, or accept it "
            "with --insecure",
        )
    if not config.grpc_bind.is_loopback:
        raise ConfigInvalid(
            PREFIX + "GRPC_BIND",
            "is not loopback, and anybody could call: this version has neither API tokens nor "
            "TLS, so listen on 127.0.0.1, or accept it with --insecure",
        )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _listed(name: str, text: str, valid: Callable[[str], bool], what: str) -> frozenset[str] | None:
    parts = _split(text)
    for part in parts:
        if not valid(part):
            raise ConfigInvalid(PREFIX + name, f"{part!r} is not {what}: separate them by commas")
    return frozenset(parts) or None


def _roles(text: str) -> frozenset[str]:
    roles = frozenset(_split(text))
    if not roles or not roles <= ROLES:
        raise ConfigInvalid(PREFIX + "ROLES", f"choose from {', '.join(sorted(ROLES))}")
    return roles


def _number(name: str, text: str, *, whole: bool = False) -> float:
    try:
        number = float(int(text)) if whole else float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        kind = "a whole number" if whole else "a number"
        raise ConfigInvalid(PREFIX + name, f"{text!r} is not {kind} above 0")
    return number


def _file(name: str, text: str) -> Path | None:
    if not text:
        return None
    path = Path(text).absolute()
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigInvalid(PREFIX + name, f"{path} cannot be read: {error.strerror}") from None
    return path


def _https_url(name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "https" and parts.hostname and not parts.username
        usable = usable and not parts.query and not parts.fragment and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigInvalid(PREFIX + name, "must be an https:// address without user or query")
    return text.rstrip("/")


def _path(name: str, text: str) -> str:
    if not re.fullmatch(r"/[!-~]*", text) or "?" in text or "#" in text:
        raise ConfigInvalid(PREFIX + name, "must be a path that begins with /, without a query")
    return text


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
