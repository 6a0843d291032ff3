"""The table of all variables, which the command line and its help texts are made of."""

from typing import NamedTuple

PREFIX = "PLUGSTATUS_"


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

    @property
    def variable(self) -> str:
        return PREFIX + self.name

    @property
    def option(self) -> str:
        return "--" + self.name.lower().replace("_", "-")


SETTINGS: tuple[Setting, ...] = (
    Setting("DATA_DIR", "FOLDER", "./data", "Folder of the embedded stores; one `serve` at a time"),
    Setting(
        "EVENTS_URL",
        "URL",
        "",
        "Database of the event log: sqlite:/// or postgresql://",
        "sqlite:///<data folder>/events.db",
        secret=True,
    ),
    Setting(
        "VIEWS_URL",
        "URL",
        "",
        "Database of the views",
        "sqlite:///<data folder>/views.db, or EVENTS_URL when that is PostgreSQL",
        secret=True,
    ),
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
        "SPOOL",
        "on|off",
        "",
        "Keep callbacks in the data folder while PostgreSQL is away",
        "on with PostgreSQL, else off",
    ),
    Setting(
        "SPOOL_BYTES_MAX",
        "BYTES",
        "1073741824",
        "Contents that spool may hold; then callbacks get 503",
    ),
    Setting(
        "SILENT_AFTER_S",
        "SECONDS",
        "21600",
        "An instance that used to talk and was not heard of for so long is told of",
    ),
    Setting(
        "STUCK_AFTER_S",
        "SECONDS",
        "86400",
        "Messages that were SENT so long ago, and not heard of again, are told of",
    ),
    Setting(
        "RETENTION_DAYS", "DAYS", "", "Callbacks received longer ago are removed", "keep for ever"
    ),
    Setting(
        "TRACING", "on|off", "off", "OpenTelemetry spans, sent where OTEL_EXPORTER_OTLP_… says"
    ),
    Setting(
        "API_TOKENS_FILE",
        "FILE",
        "",
        "TOML with a [[token]] for each caller of the API; see `plugstatus token new`",
        "none: loopback only, and every caller may do everything",
    ),
    Setting(
        "HTTP_TLS_CERT", "FILE", "", "PEM of the certificate and its chain, for callbacks", "no TLS"
    ),
    Setting("HTTP_TLS_KEY", "FILE", "", "PEM of its key", "none"),
    Setting("GRPC_TLS_CERT", "FILE", "", "The same for the gRPC API", "no TLS"),
    Setting("GRPC_TLS_KEY", "FILE", "", "PEM of its key", "none"),
    Setting(
        "GRPC_TLS_CLIENT_CA",
        "FILE",
        "",
        "PEM of the CA that has to have signed every API client's certificate",
        "clients need none",
    ),
)

CLIENT_SETTINGS: tuple[Setting, ...] = (
    Setting(
        "API_TARGET", "HOST:PORT", "", "The gRPC API the commands call", "PLUGSTATUS_GRPC_BIND"
    ),
    Setting(
        "API_TOKEN",
        "TOKEN",
        "",
        "Sent as a bearer token, over TLS or loopback only",
        "none",
        secret=True,
    ),
    Setting("API_CA_FILE", "FILE", "", "PEM of the CA of the API's certificate", "no TLS"),
    Setting(
        "API_CERT_FILE", "FILE", "", "PEM of a certificate, where the API wants one of us", "none"
    ),
    Setting("API_KEY_FILE", "FILE", "", "PEM of its key", "none"),
)
