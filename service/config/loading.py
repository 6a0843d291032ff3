"""From texts to a checked configuration."""

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import quote, urlsplit

from service.config.settings import PREFIX, SETTINGS, Setting
from service.config.values import Bind, Config, Secret
from service.errors import ConfigInvalid

ROLES = frozenset({"ingress", "projector", "api"})
_INSTANCE = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,128}")
_TOKEN = re.compile(r"[A-Za-z0-9._~-]+")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
_NOT_IN_A_BASE_URL = re.compile(r"[^!-~]|[?#]")
_DATABASE_URL = re.compile(r"(sqlite|postgresql)(\+\w+)?:")
_DEFAULT_OPS_BIND = Bind("127.0.0.1", 9090)


def is_instance(text: str) -> bool:
    """1 to 128 of A-Z a-z 0-9 . _ -, but neither `.` nor `..`."""
    return _INSTANCE.fullmatch(text) is not None


def load(values: Mapping[str, str], *, insecure: bool = False, workers: int = 1) -> Config:
    """The configuration from values by setting name, without prefix; missing ones have defaults.

    Raises ConfigInvalid, which names the variable, its fault and the fix, and never a secret.
    """
    text = {setting.name: _given(setting, values) for setting in SETTINGS}
    http_bind = parse_bind("HTTP_BIND", text["HTTP_BIND"])
    grpc_bind = parse_bind("GRPC_BIND", text["GRPC_BIND"])
    data_dir = Path(text["DATA_DIR"]).absolute()
    events_url = _database_url("EVENTS_URL", text["EVENTS_URL"], _file_url(data_dir / "events.db"))
    shared = events_url.startswith("postgresql")
    views_default = events_url if shared else _file_url(data_dir / "views.db")
    # Whichever worker answered at the callbacks' address could only tell of itself.
    default_ops = http_bind if http_bind.is_loopback and workers == 1 else _DEFAULT_OPS_BIND
    config = Config(
        data_dir=data_dir,
        events_url=Secret(events_url),
        views_url=Secret(_database_url("VIEWS_URL", text["VIEWS_URL"], views_default)),
        http_bind=http_bind,
        grpc_bind=grpc_bind,
        ops_bind=parse_bind("OPS_BIND", text["OPS_BIND"]) if text["OPS_BIND"] else default_ops,
        roles=_roles(text["ROLES"]),
        instances=_listed("INSTANCES", text["INSTANCES"], is_instance, "an instance name"),
        webhook_token=Secret(text["WEBHOOK_TOKEN"]),
        webhook_token_file=_file("WEBHOOK_TOKEN_FILE", text["WEBHOOK_TOKEN_FILE"]),
        ignored_types=frozenset(_split(text["IGNORED_TYPES"])),
        retention_days=(
            _number("RETENTION_DAYS", text["RETENTION_DAYS"]) if text["RETENTION_DAYS"] else None
        ),
        silent_after_s=_number("SILENT_AFTER_S", text["SILENT_AFTER_S"]),
        stuck_after_s=_number("STUCK_AFTER_S", text["STUCK_AFTER_S"]),
        spool=_spool(text["SPOOL"], shared=shared),
        spool_bytes_max=_whole("SPOOL_BYTES_MAX", text["SPOOL_BYTES_MAX"], below=1e15),
        watchers_max=_whole("WATCHERS_MAX", text["WATCHERS_MAX"]),
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
        tracing=_switch("TRACING", text["TRACING"]),
        api_tokens_file=_file("API_TOKENS_FILE", text["API_TOKENS_FILE"]),
        http_tls_cert=_file("HTTP_TLS_CERT", text["HTTP_TLS_CERT"]),
        http_tls_key=_file("HTTP_TLS_KEY", text["HTTP_TLS_KEY"]),
        grpc_tls_cert=_file("GRPC_TLS_CERT", text["GRPC_TLS_CERT"]),
        grpc_tls_key=_file("GRPC_TLS_KEY", text["GRPC_TLS_KEY"]),
        grpc_tls_client_ca=_file("GRPC_TLS_CLIENT_CA", text["GRPC_TLS_CLIENT_CA"]),
        workers=workers,
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
    if given is None or (given == "" and not setting.empty_is_a_value):
        return setting.default
    return given


def _check_together(config: Config, *, insecure: bool) -> None:
    if config.roles != ROLES and not config.events_url.reveal().startswith("postgresql"):
        raise ConfigInvalid(
            PREFIX + "ROLES", "on SQLite one process has all three roles: leave it unset"
        )
    if config.workers > 1:
        _check_workers(config)
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
    _check_tls(config)
    if config.ops_bind == config.http_bind and not config.ops_bind.is_loopback:
        raise ConfigInvalid(
            PREFIX + "OPS_BIND",
            "is the callbacks' address, and whoever can post there could read the metrics: give "
            "it one of its own, or leave it unset for 127.0.0.1:9090",
        )
    if not insecure:
        _check_exposure(config)


def _check_tls(config: Config) -> None:
    for side in ("HTTP_TLS", "GRPC_TLS"):
        certificate, key = (getattr(config, f"{side}_{part}".lower()) for part in ("CERT", "KEY"))
        if bool(certificate) != bool(key):
            missing = "KEY" if certificate else "CERT"
            raise ConfigInvalid(
                f"{PREFIX}{side}_{missing}", "is not set: certificate and key go together"
            )
    if config.grpc_tls_client_ca and not config.grpc_tls_cert:
        raise ConfigInvalid(
            PREFIX + "GRPC_TLS_CLIENT_CA",
            "needs TLS: set PLUGSTATUS_GRPC_TLS_CERT and PLUGSTATUS_GRPC_TLS_KEY as well",
        )


def _check_exposure(config: Config) -> None:
    if not config.http_bind.is_loopback and not (config.webhook_token or config.webhook_token_file):
        raise ConfigInvalid(
            PREFIX + "HTTP_BIND",
            "is not loopback, and anybody could post: set PLUGSTATUS_WEBHOOK_TOKEN, or accept it "
            "with --insecure",
        )
    fault = ""
    if config.api_tokens_file is None:
        fault = "anybody could call: set PLUGSTATUS_API_TOKENS_FILE"
    elif config.grpc_tls_cert is None:
        fault = "tokens would be readable on their way: set PLUGSTATUS_GRPC_TLS_CERT and _KEY"
    if fault and not config.grpc_bind.is_loopback:
        raise ConfigInvalid(
            PREFIX + "GRPC_BIND",
            f"is not loopback, and {fault}, listen on 127.0.0.1, or accept it with --insecure",
        )


def _check_workers(config: Config) -> None:
    if not config.events_url.reveal().startswith("postgresql"):
        raise ConfigInvalid("--workers", "on SQLite one process owns the stores: leave it at 1")
    if config.ops_bind == config.http_bind and config.ops_bind.port:
        raise ConfigInvalid(
            PREFIX + "OPS_BIND", "is the callbacks' address: several workers need one beside it"
        )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _listed(name: str, text: str, valid: Callable[[str], bool], what: str) -> frozenset[str] | None:
    parts = _split(text)
    if text and not parts:
        raise ConfigInvalid(PREFIX + name, f"{text!r} names nothing: leave it unset for any")
    for part in parts:
        if not valid(part):
            raise ConfigInvalid(PREFIX + name, f"{part!r} is not {what}: separate them by commas")
    return frozenset(parts) or None


def _roles(text: str) -> frozenset[str]:
    roles = frozenset(_split(text))
    if not roles or not roles <= ROLES:
        raise ConfigInvalid(PREFIX + "ROLES", f"choose from {', '.join(sorted(ROLES))}")
    return roles


def _number(name: str, text: str, *, whole: bool = False, below: float = 1e9) -> float:
    try:
        number = float(int(text)) if whole else float(text)
    except (ValueError, OverflowError):
        number = 0.0
    if not 0 < number < below:
        kind = "a whole number" if whole else "a number"
        raise ConfigInvalid(PREFIX + name, f"{text!r} is not {kind} above 0")
    return number


def _whole(name: str, text: str, below: float = 1e9) -> int:
    return int(_number(name, text, whole=True, below=below))


def _file(name: str, text: str) -> Path | None:
    if not text:
        return None
    path = Path(text).absolute()
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigInvalid(PREFIX + name, f"{path} cannot be read: {error.strerror}") from None
    return path


def _database_url(name: str, text: str, default: str) -> str:
    """The URL is never shown: it may hold a password."""
    if text and not _DATABASE_URL.match(text):
        raise ConfigInvalid(
            PREFIX + name,
            "is neither sqlite:/// nor postgresql://: leave it unset, or name a file or a database",
        )
    return text or default


def _file_url(path: Path) -> str:
    # In a URL a folder named `a?b` or `a%20b` would be another one.
    return f"sqlite:///{quote(str(path))}"


def _switch(name: str, text: str) -> bool:
    if text not in {"on", "off"}:
        raise ConfigInvalid(PREFIX + name, f"{text!r} is neither on nor off")
    return text == "on"


def _spool(text: str, *, shared: bool) -> bool:
    if _switch("SPOOL", text or "off") and not shared:
        raise ConfigInvalid(
            PREFIX + "SPOOL", "the SQLite log is on this disk itself: leave it unset"
        )
    return shared and text != "off"


def _https_url(name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme == "https" and parts.hostname and "@" not in parts.netloc
        usable = usable and not _NOT_IN_A_BASE_URL.search(text) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigInvalid(PREFIX + name, "must be an https:// address without user or query")
    return text.rstrip("/")


def _path(name: str, text: str) -> str:
    if not re.fullmatch(r"/[!-~]*", text) or "?" in text or "#" in text:
        raise ConfigInvalid(PREFIX + name, "must be a path that begins with /, without a query")
    return text
