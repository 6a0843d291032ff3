"""Authorizations by instance, and the file that is read again when it changes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service import config, errors
from service.plugchat.credentials import Credentials
from service.watched_file import WatchedFile

ENTRY = '[instance.acme]\nauthorization = "Bearer pl-s3cret"\n'


class HandClock:
    """Time that the test moves on."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now_us(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "credentials.toml"


Load = Callable[..., Credentials]


@pytest.fixture
def load(tmp_path: Path, clock: HandClock) -> Load:
    def credentials(**values: str) -> Credentials:
        return Credentials(config.load({"DATA_DIR": str(tmp_path), **values}), clock)

    return credentials


def test_pair_is_sent_verbatim(load: Load) -> None:
    """The pair of variables gives its instance the authorization, and no other."""
    credentials = load(PLUGCHAT_INSTANCE="acme", PLUGCHAT_AUTHORIZATION="Bearer a  b")

    assert credentials.authorization("acme").reveal() == "Bearer a  b"
    with pytest.raises(errors.CredentialsMissing):
        credentials.authorization("other")


def test_nothing_configured_is_missing(load: Load) -> None:
    """Without any configuration every instance lacks credentials."""
    with pytest.raises(errors.CredentialsMissing, match="'acme'"):
        load().authorization("acme")


def test_file_holds_many_instances(load: Load, file: Path) -> None:
    """Each table of the file is an instance; a name with dots is quoted."""
    file.write_text(ENTRY + '[instance."a.b"]\nauthorization = "x"\n')
    credentials = load(PLUGCHAT_CREDENTIALS_FILE=str(file))

    assert credentials.authorization("acme").reveal() == "Bearer pl-s3cret"
    assert credentials.authorization("a.b").reveal() == "x"


def test_file_wins_over_the_pair(load: Load, file: Path) -> None:
    """Where both name the instance the file counts; the pair serves the ones it leaves out."""
    file.write_text(ENTRY)
    pair = {"PLUGCHAT_AUTHORIZATION": "of-pair", "PLUGCHAT_CREDENTIALS_FILE": str(file)}

    both = load(PLUGCHAT_INSTANCE="acme", **pair)
    other = load(PLUGCHAT_INSTANCE="other", **pair)

    assert both.authorization("acme").reveal() == "Bearer pl-s3cret"
    assert other.authorization("other").reveal() == "of-pair"


def test_an_empty_file_names_none(load: Load, file: Path) -> None:
    """An empty file is valid: entries may come later."""
    file.write_text("# none yet\n")

    with pytest.raises(errors.CredentialsMissing):
        load(PLUGCHAT_CREDENTIALS_FILE=str(file)).authorization("acme")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[instance.acme]\nauthorization = "s3cret', "TOML at its end"),
        ("authorization: s3cret", "TOML at line 1"),
        ('[instance.acme]\nauthorization = "s3cret"\nauthorization = "s3cret"', "TOML"),
        ("x = " + "[" * 100_000, "too deeply"),
        ('authorization = "s3cret"', "other than"),
        ('[instances.acme]\nauthorization = "s3cret"', "other than"),
        ('instance = "s3cret"', "must be a table"),
        ('[instance]\nacme = "s3cret"', "must be a table"),
        ("[instance.acme]", "authorization"),
        ('[instance.acme]\nauthorization = "s3cret"\ns3cret = 1', "nothing else"),
        ('[instance.a.b]\nauthorization = "s3cret"', "quoted"),
        ("[instance.acme]\nauthorization = 3333", "in quotes"),
        ('[instance.acme]\nauthorization = ""', "not empty"),
        ('[instance.acme]\nauthorization = " s3cret"', "without blanks"),
        ('[instance.acme]\nauthorization = "s3cret\\n"', "printable"),
        ('[instance.acme]\nauthorization = "s3cret\\r\\nX: y"', "printable"),
        ('[instance.acme]\nauthorization = "s3crét"', "printable"),
        ('[instance."s3cret/x"]\nauthorization = "x"', "no instance"),
    ],
)
def test_an_unusable_file_stops_the_start(load: Load, file: Path, text: str, fault: str) -> None:
    """The fault is named with the variable, and the file's secrets are not shown."""
    file.write_text(text)

    with pytest.raises(errors.ConfigInvalid) as raised:
        load(PLUGCHAT_CREDENTIALS_FILE=str(file))

    assert str(raised.value).startswith("PLUGSTATUS_PLUGCHAT_CREDENTIALS_FILE: ")
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "s3cr" not in str(raised.value)


@pytest.mark.parametrize("value", [" s3cret", "s3cret ", " "])
def test_an_unusable_pair_stops_the_start(load: Load, value: str) -> None:
    """An authorization that cannot be a header's value is refused and not shown."""
    with pytest.raises(errors.ConfigInvalid, match="PLUGCHAT_AUTHORIZATION") as raised:
        load(PLUGCHAT_INSTANCE="acme", PLUGCHAT_AUTHORIZATION=value)

    assert "s3cret" not in str(raised.value)


def test_a_change_is_seen_after_a_second(load: Load, file: Path, clock: HandClock) -> None:
    """A rotated authorization counts once a second has passed since the last look."""
    file.write_text(ENTRY)
    credentials = load(PLUGCHAT_CREDENTIALS_FILE=str(file))
    file.write_text(ENTRY.replace("pl-s3cret", "rotated"))

    clock.seconds += 0.9
    before = credentials.authorization("acme").reveal()
    clock.seconds += 0.1
    after = credentials.authorization("acme").reveal()

    assert (before, after) == ("Bearer pl-s3cret", "Bearer rotated")


def test_a_replaced_file_is_seen(load: Load, file: Path, clock: HandClock) -> None:
    """A file moved into place counts, even with the old one's size and time."""
    file.write_text(ENTRY)
    credentials = load(PLUGCHAT_CREDENTIALS_FILE=str(file))
    other = file.with_name("new.toml")
    other.write_text(ENTRY.replace("pl-s3cret", "rotated-1"))
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)

    clock.seconds += 1

    assert credentials.authorization("acme").reveal() == "Bearer rotated-1"


def test_reload_does_not_wait(load: Load, file: Path) -> None:
    """A reload reads the file at once."""
    file.write_text(ENTRY)
    credentials = load(PLUGCHAT_CREDENTIALS_FILE=str(file))
    file.write_text(ENTRY.replace("pl-s3cret", "rotated"))

    assert credentials.reload()
    assert credentials.authorization("acme").reveal() == "Bearer rotated"


@pytest.mark.parametrize("broken", ["[instance.acme]\nauthorization = 's3cret", "\xff", None])
def test_a_broken_change_keeps_the_last_good_one(
    load: Load, file: Path, clock: HandClock, broken: str | None
) -> None:
    """An unusable or missing file is logged once, without secrets, until it is usable again."""
    file.write_text(ENTRY)
    credentials = load(PLUGCHAT_CREDENTIALS_FILE=str(file))
    if broken is None:
        file.unlink()
    else:
        file.write_bytes(broken.encode("latin-1"))

    with capture_logs() as logs:
        for _ in range(3):
            clock.seconds += 1
            credentials.authorization("acme")
    kept = credentials.authorization("acme").reveal()
    file.write_text(ENTRY.replace("pl-s3cret", "mended"))
    clock.seconds += 1

    assert kept == "Bearer pl-s3cret"
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert "s3cret" not in str(logs)
    assert credentials.authorization("acme").reveal() == "Bearer mended"


def test_an_unchanged_file_is_not_read(file: Path, clock: HandClock) -> None:
    """Between changes nothing is parsed, and within a second not even looked at."""
    file.write_text("one")
    parsed: list[str] = []
    watched = WatchedFile("X", file, parsed.append, clock, bytes_max=10)
    clock.seconds += 5

    watched.value()
    watched.value()

    assert parsed == ["one"]


@pytest.mark.parametrize(
    ("content", "fault"), [(b"x" * 11, "more than 10 bytes"), (b"\xff", "not UTF-8")]
)
def test_what_is_no_small_text_is_refused(
    file: Path, clock: HandClock, content: bytes, fault: str
) -> None:
    """A file beyond its bound, or not UTF-8, is refused by the variable that names it."""
    file.write_bytes(content)

    with pytest.raises(errors.ConfigInvalid, match=fault) as raised:
        WatchedFile("PLUGSTATUS_X", file, str, clock, bytes_max=10)

    assert raised.value.variable == "PLUGSTATUS_X"


def test_a_pipe_is_refused(file: Path, clock: HandClock) -> None:
    """What can be read only once, or blocks, is no file to watch."""
    os.mkfifo(file)

    with pytest.raises(errors.ConfigInvalid, match="is not a file"):
        WatchedFile("PLUGSTATUS_X", file, str, clock, bytes_max=10)
