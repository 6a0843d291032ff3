"""The configuration: defaults, faults that name their variable, secrets that never show."""

from pathlib import Path

import pytest

from service import config
from service.config import Bind
from service.errors import ConfigInvalid

SECRET = "5ecr3t-Token"


def test_everything_has_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any setting the service runs on loopback, on SQLite, in the folder ./data."""
    monkeypatch.chdir(tmp_path)

    settings = config.load({})

    data_dir = tmp_path / "data"

    assert data_dir == settings.data_dir
    assert (f"sqlite:///{data_dir}/events.db", f"sqlite:///{data_dir}/views.db") == (
        settings.events_url.reveal(),
        settings.views_url.reveal(),
    )
    assert [Bind("127.0.0.1", 8080), Bind("127.0.0.1", 50051), Bind("127.0.0.1", 8080)] == [
        settings.http_bind,
        settings.grpc_bind,
        settings.ops_bind,
    ]
    assert {"ingress", "projector", "api"} == settings.roles
    assert {"ReceivedCallback", "PresenceChatCallback"} == settings.ignored_types
    assert (10_000, 300.0) == (settings.watchers_max, settings.watcher_stall_s)
    assert (
        "https://www.plugchat.com.br",
        "/api/whatsapp/update-webhook-message-status",
    ) == (settings.plugchat_url, settings.plugchat_webhook_path)


def test_what_is_not_set_is_absent() -> None:
    """Settings without a default are None or empty, never a value that means something."""
    settings = config.load({})

    assert [None] * 5 == [
        settings.instances,
        settings.webhook_token_file,
        settings.plugchat_credentials_file,
        settings.plugchat_ca_file,
        settings.webhook_hosts,
    ]
    assert [False, False, ""] == [
        bool(settings.webhook_token),
        bool(settings.plugchat_authorization),
        settings.plugchat_instance,
    ]


@pytest.mark.parametrize(
    "name", [setting.name for setting in config.SETTINGS if not setting.empty_is_a_value]
)
def test_an_empty_variable_is_an_unset_one(name: str) -> None:
    """An empty variable has its default, also one that this version does not offer."""
    expected = config.describe(config.load({}))

    assert expected == config.describe(config.load({name: ""}))


def test_empty_ignored_types_ignore_nothing() -> None:
    """IGNORED_TYPES alone means something when it is set and empty."""

    assert frozenset() == config.load({"IGNORED_TYPES": ""}).ignored_types


def test_values_are_taken(tmp_path: Path) -> None:
    """Each setting that is given is what the configuration then says."""
    file = tmp_path / "file"
    file.touch()

    settings = config.load(
        {
            "DATA_DIR": str(tmp_path),
            "EVENTS_URL": "sqlite:////var/events.db",
            "HTTP_BIND": "[::1]:0",
            "GRPC_BIND": "localhost:5",
            "OPS_BIND": "0.0.0.0:9",
            "ROLES": "api, projector ,ingress",
            "INSTANCES": "acme, b.c_d-1,",
            "WEBHOOK_TOKEN": SECRET,
            "WEBHOOK_TOKEN_FILE": str(file),
            "IGNORED_TYPES": " A,B ",
            "WATCHERS_MAX": "5",
            "WATCHER_STALL_S": "0.5",
            "PLUGCHAT_URL": "https://plugchat.example:8443/base/",
            "PLUGCHAT_WEBHOOK_PATH": "/a/b",
            "PLUGCHAT_INSTANCE": "acme",
            "PLUGCHAT_AUTHORIZATION": f"Bearer {SECRET}",
            "WEBHOOK_HOSTS": "Hooks.Example, other",
        }
    )

    assert (tmp_path, "sqlite:////var/events.db", f"sqlite:///{tmp_path}/views.db") == (
        settings.data_dir,
        settings.events_url.reveal(),
        settings.views_url.reveal(),
    )
    assert [("::1", 0), ("localhost", 5), ("0.0.0.0", 9)] == [
        settings.http_bind,
        settings.grpc_bind,
        settings.ops_bind,
    ]
    assert [
        frozenset({"acme", "b.c_d-1"}),
        frozenset({"A", "B"}),
        frozenset({"hooks.example", "other"}),
    ] == [
        settings.instances,
        settings.ignored_types,
        settings.webhook_hosts,
    ]
    assert [SECRET, f"Bearer {SECRET}"] == [
        settings.webhook_token.reveal(),
        settings.plugchat_authorization.reveal(),
    ]
    assert (file, 5, 0.5) == (
        settings.webhook_token_file,
        settings.watchers_max,
        settings.watcher_stall_s,
    )
    assert ("https://plugchat.example:8443/base", "/a/b", "acme") == (
        settings.plugchat_url,
        settings.plugchat_webhook_path,
        settings.plugchat_instance,
    )


@pytest.mark.parametrize(
    ("http_bind", "ops_bind"),
    [("127.0.0.1:80", "127.0.0.1:80"), ("[::1]:80", "[::1]:80"), ("0.0.0.0:80", "127.0.0.1:9090")],
)
def test_operations_are_on_loopback_by_default(http_bind: str, ops_bind: str) -> None:
    """Health and metrics share the HTTP address when that is loopback, and else stay on it."""
    settings = config.load({"HTTP_BIND": http_bind, "WEBHOOK_TOKEN": "t"})

    assert ops_bind == str(settings.ops_bind)


FAULTS = [
    *(
        (name, text)
        for name in ("HTTP_BIND", "GRPC_BIND", "OPS_BIND")
        for text in ("8080", "127.0.0.1", ":8080", "example.com:80", "127.0.0.1:65536", "1.2.3:80")
    ),
    ("HTTP_BIND", "127.0.0.1:-1"),
    ("HTTP_BIND", "127.0.0.1:" + "9" * 5_000),
    ("HTTP_BIND", "127.0.0.1:8080 "),
    ("ROLES", "ingress,writer"),
    ("ROLES", "ingress"),
    ("ROLES", ","),
    ("INSTANCES", "acme,."),
    ("INSTANCES", ".."),
    ("INSTANCES", "a/b"),
    ("INSTANCES", "x" * 129),
    ("INSTANCES", ","),
    ("INSTANCES", " "),
    ("WEBHOOK_TOKEN_FILE", "/nowhere/at/all"),
    ("WEBHOOK_TOKEN_FILE", "/"),
    ("PLUGCHAT_CREDENTIALS_FILE", "/nowhere/at/all"),
    ("PLUGCHAT_CA_FILE", "/nowhere/at/all"),
    ("EVENTS_URL", "mysql://user:pass@host/db"),
    ("VIEWS_URL", "mysql://host/db"),
    ("EVENTS_URL", "/var/events.db"),
    *(
        (name, text)
        for name in ("WATCHERS_MAX", "WATCHER_STALL_S")
        for text in ("0", "-1", "many", "inf", "nan", "1e99", "9" * 400, "9" * 5_000)
    ),
    ("WATCHERS_MAX", "1.5"),
    ("PLUGCHAT_URL", "http://www.plugchat.com.br"),
    ("PLUGCHAT_URL", "www.plugchat.com.br"),
    ("PLUGCHAT_URL", "https://"),
    ("PLUGCHAT_URL", "https://host?a=b"),
    ("PLUGCHAT_URL", "https://host#a"),
    ("PLUGCHAT_URL", "https://host:99999"),
    ("PLUGCHAT_URL", "https://ho st"),
    ("PLUGCHAT_URL", "https://[::1"),
    ("PLUGCHAT_WEBHOOK_PATH", "no-slash"),
    ("PLUGCHAT_WEBHOOK_PATH", "/a?b"),
    ("PLUGCHAT_WEBHOOK_PATH", "/a b"),
    ("PLUGCHAT_INSTANCE", "acme"),
    ("WEBHOOK_HOSTS", "https://hooks.example"),
    ("WEBHOOK_HOSTS", "a..b"),
    ("WEBHOOK_HOSTS", ","),
]


@pytest.mark.parametrize(("name", "text"), FAULTS, ids=lambda value: value[:40])
def test_a_wrong_value_is_named_in_one_line(name: str, text: str) -> None:
    """A wrong value stops the start with one line that names its variable."""
    with pytest.raises(ConfigInvalid) as raised:
        config.load({name: text})

    assert f"PLUGSTATUS_{name}" == raised.value.variable
    assert str(raised.value).startswith(f"PLUGSTATUS_{name}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "values",
    [
        {"WEBHOOK_TOKEN": f"{SECRET}!"},
        {"WEBHOOK_TOKEN": f"good,{SECRET}é"},
        {"WEBHOOK_TOKEN": f"{SECRET} {SECRET}"},
        {"PLUGCHAT_AUTHORIZATION": SECRET},
        {"PLUGCHAT_INSTANCE": "acme", "PLUGCHAT_AUTHORIZATION": f"{SECRET}\n"},
        {"PLUGCHAT_INSTANCE": "acme", "PLUGCHAT_AUTHORIZATION": f"{SECRET}é"},
        {"PLUGCHAT_INSTANCE": "a/b", "PLUGCHAT_AUTHORIZATION": SECRET},
        {"PLUGCHAT_URL": f"https://user:{SECRET}@plugchat.example"},
        {"PLUGCHAT_URL": f"https://:{SECRET}@plugchat.example"},
        {"EVENTS_URL": f"mysql://user:{SECRET}@host/db"},
        {"VIEWS_URL": f"oracle+x://user:{SECRET}@host/db"},
    ],
    ids=str,
)
def test_a_fault_of_a_secret_does_not_show_it(values: dict[str, str]) -> None:
    """A refused secret, or a refused address with one in it, is not in the message."""
    with pytest.raises(ConfigInvalid) as raised:
        config.load(values)

    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value)


def test_secrets_do_not_show() -> None:
    """Neither repr, str, format nor the description at start shows a secret."""
    settings = config.load(
        {
            "WEBHOOK_TOKEN": SECRET,
            "PLUGCHAT_INSTANCE": "acme",
            "PLUGCHAT_AUTHORIZATION": f"Basic {SECRET}",
        }
    )

    shown = [
        repr(settings),
        str(settings),
        str(config.describe(settings)),
        f"{settings.webhook_token} {settings.webhook_token!r}",
        f"{settings.plugchat_authorization:}",
    ]

    assert SECRET not in "".join(shown)
    assert "Secret(…)" in config.describe(settings)["webhook_token"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "[::]", "[2001:db8::1]"])
def test_posting_from_outside_needs_a_token(host: str, tmp_path: Path) -> None:
    """A non-loopback HTTP bind needs a webhook token, from either source, or --insecure."""
    file = tmp_path / "tokens"
    file.write_text("token")
    values = {"HTTP_BIND": f"{host}:8080"}

    with pytest.raises(ConfigInvalid) as raised:
        config.load(values)

    assert "PLUGSTATUS_HTTP_BIND" == raised.value.variable
    assert "PLUGSTATUS_WEBHOOK_TOKEN" in str(raised.value)
    assert "--insecure" in str(raised.value)
    for token in ({"WEBHOOK_TOKEN": "token"}, {"WEBHOOK_TOKEN_FILE": str(file)}):
        assert not config.load(values | token).http_bind.is_loopback
    assert not config.load(values, insecure=True).http_bind.is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "[::]"])
def test_calling_from_outside_needs_tokens_and_tls(host: str, tmp_path: Path) -> None:
    """A non-loopback gRPC bind needs API tokens and TLS, both, or --insecure."""
    file = tmp_path / "any"
    file.touch()
    values = {"GRPC_BIND": f"{host}:50051", "WEBHOOK_TOKEN": "token"}
    tokens = {"API_TOKENS_FILE": str(file)}
    certificate = {"GRPC_TLS_CERT": str(file), "GRPC_TLS_KEY": str(file)}

    for given, missing in (
        ({}, "PLUGSTATUS_API_TOKENS_FILE"),
        (certificate, "PLUGSTATUS_API_TOKENS_FILE"),
        (tokens, "PLUGSTATUS_GRPC_TLS_CERT"),
    ):
        with pytest.raises(ConfigInvalid) as raised:
            config.load(values | given)
        assert "PLUGSTATUS_GRPC_BIND" == raised.value.variable
        assert missing in str(raised.value)
        assert "--insecure" in str(raised.value)
    assert not config.load(values | tokens | certificate).grpc_bind.is_loopback
    assert not config.load(values, insecure=True).grpc_bind.is_loopback


@pytest.mark.parametrize("insecure", [True, False])
def test_metrics_are_on_no_public_address_by_accident(insecure: bool) -> None:
    """Where everybody may post, nobody reads metrics, whatever is accepted beside that."""
    values = {"HTTP_BIND": "0.0.0.0:8080", "WEBHOOK_TOKEN": "token"}

    with pytest.raises(ConfigInvalid) as raised:
        config.load(values | {"OPS_BIND": "0.0.0.0:8080"}, insecure=insecure)

    assert "PLUGSTATUS_OPS_BIND" == raised.value.variable
    assert config.load(values, insecure=insecure).ops_bind.is_loopback
    assert config.load(values | {"OPS_BIND": "0.0.0.0:9090"}, insecure=insecure).ops_bind.port


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["HTTP_TLS_CERT"], "HTTP_TLS_KEY"),
        (["HTTP_TLS_KEY"], "HTTP_TLS_CERT"),
        (["GRPC_TLS_CERT"], "GRPC_TLS_KEY"),
        (["GRPC_TLS_KEY"], "GRPC_TLS_CERT"),
        (["GRPC_TLS_CLIENT_CA"], "GRPC_TLS_CLIENT_CA"),
        (["HTTP_TLS_CERT", "HTTP_TLS_KEY", "GRPC_TLS_CLIENT_CA"], "GRPC_TLS_CLIENT_CA"),
    ],
)
def test_files_of_tls_go_together(given: list[str], named: str, tmp_path: Path) -> None:
    """A certificate needs its key, and a client CA needs both."""
    file = tmp_path / "any"
    file.touch()

    with pytest.raises(ConfigInvalid) as raised:
        config.load(dict.fromkeys(given, str(file)))

    assert f"PLUGSTATUS_{named}" == raised.value.variable


def test_insecure_excuses_nothing_else() -> None:
    """--insecure opens addresses and leaves every other fault a fault."""
    with pytest.raises(ConfigInvalid):
        config.load({"WATCHERS_MAX": "0"}, insecure=True)


def test_settings_have_one_variable_and_option_each() -> None:
    """Variables and options follow from the names, and no two settings share one."""
    settings = [*config.SETTINGS, *config.CLIENT_SETTINGS]
    variables = [setting.variable for setting in settings]

    assert len(set(variables)) == len(variables)
    assert ("PLUGSTATUS_DATA_DIR", "--data-dir") == (variables[0], settings[0].option)
    assert all(setting.meaning for setting in settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", set()),
        ("a", {"a"}),
        ("a,b", {"a", "b"}),
        ("a\nb\n", {"a", "b"}),
        ("a\r\n b ,,c\n\n", {"a", "b", "c"}),
        ("A-Za-z0-9._~-", {"A-Za-z0-9._~-"}),
    ],
)
def test_tokens_are_listed_by_comma_or_line(text: str, expected: set[str]) -> None:
    """Tokens come separated by commas or lines, blanks and empty entries aside."""

    assert expected == config.parse_tokens("WEBHOOK_TOKEN", text)


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("acme", True),
        ("SUA_INSTANCIA", True),
        ("...", True),
        (".a", True),
        ("x" * 128, True),
        ("", False),
        (".", False),
        ("..", False),
        ("x" * 129, False),
        ("a/b", False),
        ("a b", False),
        ("a\n", False),
        ("é", False),
    ],
)
def test_instance_names(name: str, valid: bool) -> None:
    """An instance is 1 to 128 of A-Za-z0-9._- but neither of the two dot names."""

    assert valid == config.is_instance(name)
