"""Webhook tokens: two sources, rotated without a restart."""

import os
from pathlib import Path

import pytest
import structlog

from service import config, errors
from service.ingress.tokens import WebhookTokens
from tests.clock import FakeClock

SECRET = "s3cret-t0ken"


def tokens(clock: FakeClock, **values: str) -> WebhookTokens:
    return WebhookTokens(config.load(values), clock)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("one\ntwo\n")
    return path


def test_without_tokens_every_query_is_admitted(clock: FakeClock) -> None:
    """Nothing is asked for when nothing is set."""
    assert tokens(clock).admit(b"")
    assert tokens(clock).admit(b"token=a&token=b")


@pytest.mark.parametrize(
    ("query", "admitted"),
    [
        (b"token=a", True),
        (b"x=1&token=b-2", True),
        (b"token=b%2D2", True),
        (b"", False),
        (b"token=", False),
        (b"token=c", False),
        (b"token=a&token=a", False),
        (b"token=a&token=b-2", False),
        (b"token=a,b-2", False),
        (b"token=a\xff", False),
    ],
)
def test_exactly_one_valid_token_is_admitted(
    clock: FakeClock, query: bytes, admitted: bool
) -> None:
    """Any one of the tokens, once, and nothing else."""
    assert tokens(clock, WEBHOOK_TOKEN="a, b-2").admit(query) is admitted


def test_tokens_of_both_sources_count(clock: FakeClock, file: Path) -> None:
    """The variable's tokens and the file's are all valid."""
    both = tokens(clock, WEBHOOK_TOKEN="zero", WEBHOOK_TOKEN_FILE=str(file))

    assert all(both.admit(b"token=" + token) for token in (b"zero", b"one", b"two"))


def test_a_changed_file_is_read_within_a_second(clock: FakeClock, file: Path) -> None:
    """A new token is admitted and an old one no longer, a second after the file changed."""
    rotated = tokens(clock, WEBHOOK_TOKEN_FILE=str(file))
    file.write_text("three\n")
    clock.advance(1.0)

    assert rotated.admit(b"token=three")
    assert not rotated.admit(b"token=one")


def test_a_replaced_file_is_read_on_reload(clock: FakeClock, file: Path) -> None:
    """A reload reads the file at once, also one that was renamed into place."""
    rotated = tokens(clock, WEBHOOK_TOKEN_FILE=str(file))
    replacement = file.with_suffix(".new")
    replacement.write_text("three")
    replacement.replace(file)
    rotated.reload()

    assert rotated.admit(b"token=three")


@pytest.mark.parametrize("content", [b"", b"\n", f"{SECRET} \xff".encode("latin-1"), b"a b!c"])
def test_an_unusable_change_keeps_the_last_good_tokens(
    clock: FakeClock, file: Path, content: bytes
) -> None:
    """A file that became empty or invalid changes nothing, and the log shows no token."""
    kept = tokens(clock, WEBHOOK_TOKEN_FILE=str(file))
    file.write_bytes(content)
    clock.advance(1.0)
    with structlog.testing.capture_logs() as logged:
        admitted = kept.admit(b"token=one")

    assert admitted
    assert [entry["log_level"] for entry in logged] == ["error"]
    assert SECRET not in str(logged)
    assert "a b!c" not in str(logged)


def test_a_removed_file_keeps_the_last_good_tokens(clock: FakeClock, file: Path) -> None:
    """A file that is gone changes nothing, and is used again once it is back."""
    kept = tokens(clock, WEBHOOK_TOKEN_FILE=str(file))
    file.unlink()
    clock.advance(1.0)
    without_file = kept.admit(b"token=one")
    file.write_text("four")
    clock.advance(1.0)

    assert without_file
    assert kept.admit(b"token=four")


@pytest.mark.parametrize("content", ["", " \n,\n", f"{SECRET} {SECRET}"])
def test_an_unusable_file_stops_the_start(clock: FakeClock, file: Path, content: str) -> None:
    """At the start a file without a usable token is refused, naming the variable and no token."""
    file.write_text(content)
    with pytest.raises(errors.ConfigInvalid, match="PLUGSTATUS_WEBHOOK_TOKEN_FILE") as caught:
        tokens(clock, WEBHOOK_TOKEN_FILE=str(file))

    assert SECRET not in str(caught.value)


def test_a_file_is_not_looked_at_for_every_request(clock: FakeClock, file: Path) -> None:
    """Within a second of the last look the file may change unseen: a request costs no stat."""
    steady = tokens(clock, WEBHOOK_TOKEN_FILE=str(file))
    file.write_text("three")
    os.utime(file, (1, 1))

    assert steady.admit(b"token=one")
    assert not steady.admit(b"token=three")
