"""Who calls, and what they may do: the tokens of a file that may change while the service runs.

A token is a secret its caller keeps; the file holds its SHA-256 and nothing else of it. So it is
looked up by that digest, in a dictionary: what can be learnt from how long a look-up takes is about
a digest nobody can choose.

Without a file there are no tokens. Then every caller is the administrator `local`; the
configuration keeps such a server on loopback.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from service import errors
from service.clock import Clock
from service.config import PREFIX, Config, is_instance
from service.watched_file import WatchedFile, toml_tables

Role = Literal["reader", "admin"]

_ROLES = frozenset({"reader", "admin"})
_FILE = PREFIX + "API_TOKENS_FILE"
_KEYS = frozenset({"sha256", "name", "roles", "instances"})
_REQUIRED = _KEYS - {"instances"}
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_NAME = re.compile(r"[!-~](?:[ -~]{0,62}[!-~])?")
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_WANTED = 'write [[token]], and below it sha256 = "…", name = "…", roles = ["reader"]'

Metadata = Iterable[tuple[str, str | bytes]]


class Caller(msgspec.Struct, frozen=True):
    """Who calls, as their token says."""

    name: str
    """Of the token, for people: a service, or whoever else holds it. Not unique."""
    roles: frozenset[str]
    instances: frozenset[str] = frozenset()
    """The only ones there are for this caller; empty for all."""
    digest: bytes = b""
    """The token's SHA-256; empty where there are no tokens."""

    def has(self, role: Role) -> bool:
        """Admin implies reader."""
        return role in self.roles or "admin" in self.roles

    def visible(self, instance: str) -> frozenset[str]:
        """What a request for `instance`, or for any if that is empty, is about; empty for all.

        Raises InstanceDenied.
        """
        if not instance:
            return self.instances
        return self.among([instance])

    def among(self, instances: Iterable[str]) -> frozenset[str]:
        """The same for a request that names several, or none."""
        asked = frozenset(instances)
        if not self.instances:
            return asked
        for denied in sorted(asked - self.instances):
            raise errors.InstanceDenied(f"this token does not cover the instance {denied!r}")
        return asked or self.instances

    def require_all_instances(self) -> None:
        """Raises InstanceDenied for a token that is limited to some."""
        if self.instances:
            raise errors.InstanceDenied(
                "this rpc is about all instances, and this token is limited to some"
            )


LOCAL = Caller("local", _ROLES)
"""Whoever calls a server without tokens."""


class Access:
    """Whom the file admits, as it is now. Used by one thread."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """Raises ConfigInvalid, without showing a digest, for a file that cannot be used."""
        self.open = config.api_tokens_file is None
        """There are no tokens, so that every caller is LOCAL."""
        self._file: WatchedFile[Mapping[bytes, Caller]] | None = None
        if config.api_tokens_file is not None:
            self._file = WatchedFile(
                _FILE,
                config.api_tokens_file,
                lambda text: parse(text, config.limits.token_instances_max),
                clock,
                bytes_max=config.limits.watched_file_bytes_max,
            )

    def admit(self, metadata: Metadata, role: Role) -> Caller:
        """Whose token the metadata carries. Raises TokenMissing, TokenInvalid, RoleRequired."""
        if self._file is None:
            return LOCAL
        given = [value for name, value in metadata if name == "authorization"]
        if not given:
            raise errors.TokenMissing
        bearer = _BEARER.fullmatch(given[0]) if isinstance(given[0], str) else None
        if len(given) > 1 or bearer is None:
            raise errors.TokenInvalid
        return self._known(hashlib.sha256(bearer[1].encode()).digest(), role)

    def check(self, caller: Caller, role: Role) -> None:
        """Whether a caller who was admitted before still may do what it did then.

        Raises TokenInvalid, RoleRequired, InstanceDenied once the file says otherwise.
        """
        if self._file is None:
            return
        now = self._known(caller.digest, role)
        if now.instances and not (caller.instances and caller.instances <= now.instances):
            raise errors.InstanceDenied(
                "this token covers fewer instances than when the call began: begin it again"
            )

    def reload(self) -> None:
        """Read the file again now. One that cannot be used is logged, and changes nothing."""
        if self._file is not None:
            self._file.reload()

    def callers(self) -> list[Caller]:
        """One for each token; none where there are no tokens."""
        return [] if self._file is None else list(self._file.value().values())

    def _known(self, digest: bytes, role: Role) -> Caller:
        assert self._file is not None
        caller = self._file.value().get(digest)
        if caller is None:
            raise errors.TokenInvalid
        if not caller.has(role):
            raise errors.RoleRequired(role)
        return caller


def parse(text: str, instances_max: int) -> Mapping[bytes, Caller]:
    """Callers by their token's digest from TOML `[[token]]` tables.

    Raises ConfigInvalid, which names a token by its place in the file and shows no digest.
    """
    tables = toml_tables(_FILE, text, _WANTED)
    if tables.keys() - {"token"}:
        raise _invalid(f"holds something other than tokens: {_WANTED}")
    tokens = tables.get("token", [])
    if not isinstance(tokens, list):
        raise _invalid(f"token must be a list: {_WANTED}")
    if not tokens:
        raise _invalid(f"holds no token, so nobody could call: {_WANTED}")
    callers: dict[bytes, Caller] = {}
    for number, table in enumerate(tokens, start=1):
        caller = _caller(f"token {number}", table, instances_max)
        if caller.digest in callers:
            raise _invalid(f"token {number} is there twice: leave one of them out")
        callers[caller.digest] = caller
    return callers


def _caller(which: str, table: Any, instances_max: int) -> Caller:
    if not isinstance(table, dict) or not _REQUIRED <= table.keys() <= _KEYS:
        raise _invalid(f"{which} has other keys than sha256, name, roles and perhaps instances")
    digest, name = table["sha256"], table["name"]
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise _invalid(
            f"{which} has a sha256 that is not 64 hexadecimal digits: `plugstatus token new` "
            "prints one"
        )
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid(f"{which} needs a name of 1 to 64 printable ASCII characters")
    roles = _texts(which, "roles", table["roles"])
    if not roles <= _ROLES:
        raise _invalid(f'{which} has a role other than "reader" and "admin"')
    instances = frozenset[str]()
    if "instances" in table:
        instances = _texts(which, "instances", table["instances"])
        if len(instances) > instances_max:
            raise _invalid(
                f"{which} names more than {instances_max} instances (token_instances_max): split "
                "it, or leave instances out for all"
            )
        for instance in sorted(instances):
            if not is_instance(instance):
                raise _invalid(f"{which} names {instance!r}, which is no instance")
    return Caller(name, roles, instances, bytes.fromhex(digest))


def _texts(which: str, key: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise _invalid(f'{which} needs {key} as a list of texts, such as {key} = ["…"]')
    return frozenset(value)


def _invalid(fault: str) -> errors.ConfigInvalid:
    return errors.ConfigInvalid(_FILE, fault)
