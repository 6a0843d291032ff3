"""The authorization PlugChat wants, for each instance.

It comes from the credentials file, which is read again when it changes, and from the one pair of
variables. Where both name an instance the file counts: it is the one that can be changed while
the service runs, and an old value in the environment must not undo a rotation.
"""

import re
from collections.abc import Mapping

from service import errors
from service.clock import Clock
from service.config import PREFIX, Config, Secret, is_instance
from service.watched_file import WatchedFile, toml_tables

_FILE = PREFIX + "PLUGCHAT_CREDENTIALS_FILE"
_AUTHORIZATION = PREFIX + "PLUGCHAT_AUTHORIZATION"

_WANTED = 'write [instance.NAME], and below it authorization = "…"'

# A field value of RFC 9110, section 5.5, in ASCII: blanks may stand inside, not around it.
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class Credentials:
    """Authorizations by instance, as configured now. Used by one thread."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """Raises ConfigInvalid, without any secret, if a value or the file cannot be used."""
        self._pair: dict[str, Secret] = {}
        if config.plugchat_instance:
            self._pair[config.plugchat_instance] = _checked(
                _AUTHORIZATION, "it", config.plugchat_authorization.reveal()
            )
        self._file: WatchedFile[Mapping[str, Secret]] | None = None
        if config.plugchat_credentials_file is not None:
            self._file = WatchedFile(
                _FILE,
                config.plugchat_credentials_file,
                parse,
                clock,
                bytes_max=config.limits.watched_file_bytes_max,
            )

    def authorization(self, instance: str) -> Secret:
        """Sent verbatim as the Authorization header. Raises CredentialsMissing."""
        listed = self._file.value() if self._file else {}
        found = listed.get(instance) or self._pair.get(instance)
        if found is None:
            raise errors.CredentialsMissing(instance)
        return found

    def instances(self) -> frozenset[str]:
        """Those that have an authorization."""
        return frozenset({*self._pair, *(self._file.value() if self._file else ())})

    def reload(self) -> bool:
        """Read the file now. False, and a logged error, if the last good one has to stay."""
        return self._file is None or self._file.reload()


def parse(text: str) -> Mapping[str, Secret]:
    """Authorizations by instance from TOML `[instance.NAME] authorization = "…"`.

    An empty text names none. Raises ConfigInvalid, which says where the fault is and shows
    nothing of the text but instance names.
    """
    tables = toml_tables(_FILE, text, _WANTED)
    if tables.keys() - {"instance"}:
        raise _invalid("holds something other than [instance.NAME] tables")
    instances = tables.get("instance", {})
    if not isinstance(instances, dict):
        raise _invalid("instance must be a table: write [instance.NAME]")
    return {name: _authorization(name, table) for name, table in instances.items()}


def _authorization(name: str, table: object) -> Secret:
    if not is_instance(name):
        raise _invalid("has a name that is no instance: 1 to 128 of A-Z a-z 0-9 . _ -")
    if not isinstance(table, dict):
        raise _invalid(f"instance {name} must be a table: write [instance.{name}]")
    if table.keys() != {"authorization"}:
        raise _invalid(
            f'instance {name} must have authorization = "…" and nothing else (a name with dots '
            'is quoted: [instance."a.b"])'
        )
    value = table["authorization"]
    if not isinstance(value, str):
        raise _invalid(f"the authorization of instance {name} must be a text in quotes")
    return _checked(_FILE, f"the authorization of instance {name}", value)


def _checked(variable: str, what: str, value: str) -> Secret:
    if not _HEADER_VALUE.fullmatch(value):
        raise errors.ConfigInvalid(
            variable,
            f"{what} must be printable ASCII, not empty and without blanks around it: copy it "
            "again",
        )
    return Secret(value)


def _invalid(fault: str) -> errors.ConfigInvalid:
    return errors.ConfigInvalid(_FILE, fault)
