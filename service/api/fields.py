"""Request fields against their bounds; every fault of a request is told at once."""

from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from service.config import Limits, is_instance
from service.domain.status import Status
from service.errors import FieldsInvalid
from service.plugchat.decode import MESSAGE_ID_CHARACTERS_MAX, SHORT_TEXT_BYTES_MAX

_STATUSES = frozenset(Status) - {Status.UNSPECIFIED}


class Fields:
    """Collects violations, by the field's path in the request."""

    def __init__(self) -> None:
        self._violations: list[tuple[str, str]] = []

    def refuse(self, path: str, fault: str) -> None:
        self._violations.append((path, fault))

    def done(self) -> None:
        """Raises FieldsInvalid if anything was refused."""
        if self._violations:
            raise FieldsInvalid(*self._violations)

    def message_id(self, path: str, value: str) -> None:
        if not value:
            self.refuse(path, "is required")
        elif len(value) > MESSAGE_ID_CHARACTERS_MAX or "\0" in value:
            self.refuse(path, f"must have 1 to {MESSAGE_ID_CHARACTERS_MAX} characters, none NUL")

    def instance(self, path: str, value: str, *, required: bool = False) -> None:
        """Empty means not given."""
        if (value or required) and not is_instance(value):
            self.refuse(path, "must be 1 to 128 of A-Z a-z 0-9 . _ -, but neither . nor ..")

    def phone(self, path: str, value: str) -> None:
        if not value or len(value.encode()) > SHORT_TEXT_BYTES_MAX or "\0" in value:
            self.refuse(path, f"must have 1 to {SHORT_TEXT_BYTES_MAX} bytes of UTF-8, none NUL")

    def status(self, path: str, value: int) -> None:
        if value not in _STATUSES:
            self.refuse(path, "must be a named status, and not UNSPECIFIED")

    def page_size(self, path: str, value: int, limits: Limits) -> int:
        """How many to list: the default for 0, and no more than the most."""
        if value < 0:
            self.refuse(path, "must not be negative: leave it out for the default")
        return min(value or limits.page_size_default, limits.page_size_max)

    def at_most(self, path: str, values: Sequence[object], values_max: int) -> bool:
        """False, and refused, if there are more."""
        if len(values) <= values_max:
            return True
        self.refuse(path, f"must have at most {values_max} entries, and has {len(values)}")
        return False

    def time_us(self, path: str, value: Timestamp) -> int:
        """As `given_time_us`, for a time that is required: a zero one was set but left empty."""
        if value.seconds == 0 and value.nanos == 0:
            self.refuse(path, "is empty: to begin with the oldest event give one second past 1970")
        return self.given_time_us(path, value)

    def given_time_us(self, path: str, value: Timestamp) -> int:
        """Microseconds since 1970, rounded up: nothing received before the time is at or after it.

        0 for a zero Timestamp, which is not given.
        """
        if not (_SECONDS_MIN <= value.seconds <= _SECONDS_MAX and 0 <= value.nanos < 10**9):
            self.refuse(path, "must lie between the years 1 and 9999, with nanos in 0 to 999999999")
        return value.seconds * 1_000_000 + -(-value.nanos // 1_000)

    def progress_interval_s(self, path: str, value: Duration, limits: Limits) -> float:
        least, most = limits.progress_interval_min_s, limits.progress_interval_max_s
        seconds = value.seconds + value.nanos / 1e9
        if not least <= seconds <= most:
            self.refuse(
                path, f"must lie between {timedelta(seconds=least)} and {timedelta(seconds=most)}"
            )
        return seconds


_SECONDS_MIN = -62_135_596_800
_SECONDS_MAX = 253_402_300_799
"""0001-01-01 and 9999-12-31, the bounds of a proto Timestamp."""
