"""The file of API tokens: what it may say, and what its faults show."""

import asyncio
import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from service import config, errors
from service.api.access import LOCAL, Access, Caller, parse
from service.api.calls import Call
from service.api.lanes import Lane, Limit
from service.config import Limits
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.call_context import CallContext
from tests.clock import FakeClock
from tests.secured import TokenFile, bearer
from tests.watch_site import watch_site

DIGEST = hashlib.sha256(b"secret").hexdigest()
GOOD = {"sha256": DIGEST, "name": "billing", "roles": ["reader"]}


def toml(*tokens: Mapping[str, object]) -> str:
    """A file with these tokens."""
    return "\n".join(
        "\n".join(["[[token]]", *(f"{key} = {json.dumps(value)}" for key, value in token.items())])
        for token in tokens
    )


def test_a_token_is_known_by_its_digest() -> None:
    """Digest in either case, name, roles and instances are what the file says."""
    other = {**GOOD, "sha256": hashlib.sha256(b"x").hexdigest().upper(), "instances": ["a", "b"]}

    callers = parse(toml(GOOD, other), 10)

    assert callers[hashlib.sha256(b"secret").digest()] == Caller(
        "billing", frozenset({"reader"}), frozenset(), bytes.fromhex(DIGEST)
    )
    assert callers[hashlib.sha256(b"x").digest()].instances == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no token"),
        ("[token]", "list"),
        ("token = []", "no token"),
        ("other = 1", "something other"),
        ("[[token", "not TOML"),
        ("x = " + "[" * 5_000, "not TOML"),
        (toml({**GOOD, "expires": 1}), "token 1 has other keys"),
        (toml(GOOD, {"name": "x", "roles": ["reader"]}), "token 2 has other keys"),
        (toml({**GOOD, "sha256": "secret"}), "64 hexadecimal"),
        (toml({**GOOD, "sha256": DIGEST[:-1]}), "64 hexadecimal"),
        (toml({**GOOD, "name": ""}), "name"),
        (toml({**GOOD, "name": "x" * 65}), "name"),
        (toml({**GOOD, "name": "line\nbreak"}), "name"),
        (toml({**GOOD, "name": 5}), "name"),
        (toml({**GOOD, "roles": []}), "roles"),
        (toml({**GOOD, "roles": "reader"}), "roles"),
        (toml({**GOOD, "roles": ["writer"]}), "role"),
        (toml({**GOOD, "instances": []}), "instances"),
        (toml({**GOOD, "instances": ["a/b"]}), "no instance"),
        (toml({**GOOD, "instances": ["a", "b", "c"]}), "token_instances_max"),
        (toml(GOOD, {**GOOD, "name": "again"}), "token 2 is there twice"),
    ],
)
def test_a_faulty_file_is_refused(text: str, fault: str) -> None:
    """By its variable, with what is wrong, and nothing of what may be secret."""
    with pytest.raises(errors.ConfigInvalid, match=fault) as raised:
        parse(text, 2)

    assert raised.value.variable == "PLUGSTATUS_API_TOKENS_FILE"
    assert DIGEST[:8] not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ((), errors.TokenMissing),
        ((("x-authorization", "Bearer secret"),), errors.TokenMissing),
        ((("authorization", "secret"),), errors.TokenInvalid),
        ((("authorization", "Basic secret"),), errors.TokenInvalid),
        ((("authorization", "Bearer "),), errors.TokenInvalid),
        ((("authorization", "Bearer secret extra"),), errors.TokenInvalid),
        ((("authorization", "Bearer Secret"),), errors.TokenInvalid),
        ((("authorization", f"Bearer {DIGEST}"),), errors.TokenInvalid),
        ((("authorization", "Bearer secret"), ("authorization", "Bearer x")), errors.TokenInvalid),
        ((("authorization", "Bearer secret"),) * 2, errors.TokenInvalid),
    ],
)
def test_who_is_not_admitted(
    metadata: tuple[tuple[str, str], ...], error: type[Exception], tmp_path: Path
) -> None:
    """Only one token the file knows, given once, as a bearer token."""
    tokens = TokenFile(tmp_path / "tokens.toml")
    tokens.put("secret", "billing", "reader")
    access = Access(config.load({"API_TOKENS_FILE": str(tokens.path)}), FakeClock())

    assert access.admit((("authorization", "bearer  secret"),), "reader").name == "billing"
    with pytest.raises(error):
        access.admit(metadata, "reader")


def test_roles(tmp_path: Path) -> None:
    """Admin implies reader, and not the other way round."""
    tokens = TokenFile(tmp_path / "tokens.toml")
    reader, admin = tokens.add("r", "reader"), tokens.add("a", "admin")
    access = Access(config.load({"API_TOKENS_FILE": str(tokens.path)}), FakeClock())

    assert access.admit(bearer(admin), "reader").name == "a"
    assert access.admit(bearer(admin), "admin").name == "a"
    assert access.admit(bearer(reader), "reader").name == "r"
    with pytest.raises(errors.RoleRequired):
        access.admit(bearer(reader), "admin")


def test_without_a_file_everybody_is_local() -> None:
    """Whatever they send."""
    access = Access(config.load({}), FakeClock())

    assert access.admit(bearer("anything"), "admin") is LOCAL
    assert access.callers() == []
    access.check(LOCAL, "admin")


def test_a_caller_is_checked_against_the_file_of_the_moment(tmp_path: Path) -> None:
    """More rights than at first are fine; fewer, or none any more, are not."""
    tokens, clock = TokenFile(tmp_path / "tokens.toml"), FakeClock()
    tokens.add("another", "reader")
    tokens.put("t", "billing", "admin", instances=["a", "b"])
    access = Access(config.load({"API_TOKENS_FILE": str(tokens.path)}), clock)
    caller = access.admit(bearer("t"), "admin")

    def after(*roles: str, instances: list[str]) -> None:
        tokens.put("t", "billing", *roles, instances=instances)
        access.reload()
        access.check(caller, "admin")

    after("admin", "reader", instances=["a", "b", "c"])
    after("admin", instances=[])
    with pytest.raises(errors.InstanceDenied):
        after("admin", instances=["a"])
    with pytest.raises(errors.RoleRequired):
        after("reader", instances=["a", "b"])
    tokens.remove("t")
    clock.advance(2)
    with pytest.raises(errors.TokenInvalid):
        access.check(caller, "admin")


def test_a_caller_without_instances_is_not_limited_unnoticed(tmp_path: Path) -> None:
    """From all instances to some is fewer."""
    tokens = TokenFile(tmp_path / "tokens.toml")
    tokens.put("t", "billing", "reader")
    access = Access(config.load({"API_TOKENS_FILE": str(tokens.path)}), FakeClock())
    caller = access.admit(bearer("t"), "reader")
    tokens.put("t", "billing", "reader", instances=["a"])
    access.reload()

    with pytest.raises(errors.InstanceDenied):
        access.check(caller, "reader")


def test_a_broken_file_changes_nothing(tmp_path: Path) -> None:
    """The last good one stays, however it breaks, and goes on once it is mended."""
    tokens, clock = TokenFile(tmp_path / "tokens.toml"), FakeClock()
    tokens.put("t", "billing", "reader")
    access = Access(config.load({"API_TOKENS_FILE": str(tokens.path)}), clock)

    for broken in ("", "[[token]]", None):
        tokens.path.unlink() if broken is None else tokens.path.write_text(broken)
        clock.advance(2)
        assert access.admit(bearer("t"), "reader").name == "billing"
    tokens.put("t", "invoices", "reader")
    clock.advance(2)

    assert access.admit(bearer("t"), "reader").name == "invoices"


def test_what_a_limited_caller_sees() -> None:
    """Its instances, whether or not it names them; others are denied by name."""
    limited = Caller("b", frozenset({"reader"}), frozenset({"a", "b"}))
    free = Caller("f", frozenset({"reader"}))

    assert limited.visible("") == limited.among([]) == {"a", "b"}
    assert limited.visible("a") == limited.among(["a"]) == {"a"}
    assert free.visible("") == free.among([]) == frozenset()
    assert free.among(["x"]) == free.visible("x") == {"x"}
    with pytest.raises(errors.InstanceDenied, match="'c'"):
        limited.visible("c")
    with pytest.raises(errors.InstanceDenied, match="'c'"):
        limited.among(["a", "c"])
    with pytest.raises(errors.InstanceDenied):
        limited.require_all_instances()
    free.require_all_instances()


def test_lanes_are_limited_in_all_and_by_token() -> None:
    """A token's places are its own; who has none is counted in all only; a place comes back."""
    one, other = (Caller(name, frozenset(), digest=name.encode()) for name in ("one", "other"))
    lane = Lane(Limit("places_max", 4), Limit("places_of_token_max", 2), errors.TooManyWatchers)
    with ExitStack() as taken:
        for caller in (one, one, other):
            taken.enter_context(lane.place(caller))
        with pytest.raises(errors.LimitExceeded, match="places_of_token_max is 2") as of_token:
            taken.enter_context(lane.place(one))
        taken.enter_context(lane.place(LOCAL))
        with pytest.raises(errors.TooManyWatchers, match="places_max is 4"):
            taken.enter_context(lane.place(other))
    with ExitStack() as again:
        for caller in (one, one):
            again.enter_context(lane.place(caller))

    assert (of_token.value.limit, type(of_token.value)) == (
        "places_of_token_max",
        errors.LimitExceeded,
    )


async def test_watchers_are_limited_by_token(tmp_path: Path) -> None:
    """One token's watchers leave places to others."""
    async with watch_site(tmp_path, replace(Limits(), watchers_of_token_max=1)) as site:
        one, other = (
            Call(Caller(name, frozenset({"reader"}), digest=name.encode()), CallContext())
            for name in ("one", "other")
        )
        request = pb.WatchStatusesRequest(from_now=True)
        opened = asyncio.Queue[bytes]()
        watching = []
        for call in (one, other):
            watching.append(asyncio.ensure_future(site.watchers.watch(request, call, opened.put)))
            await opened.get()
        with pytest.raises(errors.LimitExceeded, match="watchers_of_token_max"):
            await site.watchers.watch(request, one, opened.put)
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
