"""A small file that is read again when it changes: tokens, credentials, certificates.

    state       entered by                                left by
    current     a read that could be used                 a change that cannot be used
    kept        a change that cannot be used, or the      a change that can
                file's end: the last good value stays

At the start there is no last good value, so an unusable file is refused. A change is noticed at
the first use after it, at most `_LOOK_S` late, or at once by `reload`. Reading is synchronous:
the files are small, local, and looked at no more than once a second.
"""

import re
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog

from service import errors
from service.clock import Clock

_log = structlog.get_logger(__name__)

_LOOK_S = 1.0
"""Least time between two looks at the file's state: a use costs no system call in between."""

ValueT = TypeVar("ValueT")

_PLACE = re.compile(r"at line \d+, column \d+")

_Signature = tuple[int, ...]
_MISSING: _Signature = ()


class WatchedFile(Generic[ValueT]):
    """What `parse` makes of a file's text. Used by one thread."""

    def __init__(
        self,
        variable: str,
        path: Path,
        parse: Callable[[str], ValueT],
        clock: Clock,
        *,
        bytes_max: int,
    ) -> None:
        """Read the file for the first time.

        `parse` raises ConfigInvalid for a text it cannot use, and never shows a secret in it.
        Raises ConfigInvalid naming `variable`, the variable that names the file, if the file
        cannot be read, has more than `bytes_max` bytes or is not UTF-8, and what `parse` raises.
        """
        self._variable = variable
        self._path = path
        self._parse = parse
        self._clock = clock
        self._bytes_max = bytes_max
        self._seen = _MISSING
        self._value = self._read()
        self._looked_s = clock.monotonic_s()

    def value(self) -> ValueT:
        """The value of the file as it is now, at most a second ago; never raises."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            if self._signature() != self._seen:
                self.reload()
        return self._value

    def reload(self) -> bool:
        """Read the file now, changed or not. False, and a logged error, if it cannot be used."""
        try:
            self._value = self._read()
        except errors.ConfigInvalid as error:
            _log.error("changed file not used, the last good one stays", fault=str(error))
            return False
        _log.info("file read again", variable=self._variable)
        return True

    def _read(self) -> ValueT:
        # The signature is taken before the text: a change in between is found by the next look.
        self._seen = self._signature()
        try:
            # A pipe would block the reader, and could not be read a second time.
            if not stat.S_ISREG(self._path.stat().st_mode):
                raise self._invalid("is not a file: name one that can be read again")
            with self._path.open("rb") as file:
                content = file.read(self._bytes_max + 1)
        except OSError as error:
            raise self._invalid(f"cannot be read: {error.strerror}") from None
        if len(content) > self._bytes_max:
            raise self._invalid(f"has more than {self._bytes_max} bytes: is it the right file?")
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            # The error would hold the content, and the content is secret.
            text = None
        if text is None:
            raise self._invalid("is not UTF-8: save it as UTF-8")
        return self._parse(text)

    def _signature(self) -> _Signature:
        try:
            found = self._path.stat()
        except OSError:
            return _MISSING
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def _invalid(self, fault: str) -> errors.ConfigInvalid:
        return errors.ConfigInvalid(self._variable, f"{self._path} {fault}")


def toml_tables(variable: str, text: str, wanted: str) -> dict[str, Any]:
    """The tables of a TOML file that may hold secrets.

    Raises ConfigInvalid, which says where the fault is and what is `wanted`, and shows nothing of
    the text.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # Its message may quote the text, so only the place is taken from it.
        found = _PLACE.search(str(error))
        place = found.group() if found else "at its end"
    except RecursionError:
        place = "because it nests too deeply"
    raise errors.ConfigInvalid(variable, f"is not TOML {place}: {wanted}")
