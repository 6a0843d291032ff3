"""When it happened: one function for the provider's `momment`.

Its unit changes from callback to callback and shows only in the number of digits: up to 11 are
seconds, 12 to 14 milliseconds, 15 to 17 microseconds. It comes as a number or as a string.
"""

from decimal import Decimal, InvalidOperation

from service.plugchat.fields import Number, Value

_EARLIEST_US = 1_230_768_000_000_000
"""2009-01-01T00:00:00Z, the year WhatsApp began."""

_AHEAD_MAX_US = 24 * 3_600 * 1_000_000
"""The provider's clock may be ahead of ours, but not by more than a day."""

_CHARACTERS_MAX = 64
"""More is no time, and would only cost time to read."""

_DIGITS_MAX = 17
_UNIT_US_BY_DIGITS = {
    **dict.fromkeys(range(1, 12), 1_000_000),
    **dict.fromkeys(range(12, 15), 1_000),
    **dict.fromkeys(range(15, 18), 1),
}


def occur_time_us(momment: Value, receive_time_us: int) -> int | None:
    """Microseconds since 1970, or None where `momment` is missing, unreadable or absurd.

    It counts only between 2009 and a day after the callback was received.
    """
    number = _number(momment)
    if number is None or not 0 < number < 10**_DIGITS_MAX:
        return None
    time_us = number * _UNIT_US_BY_DIGITS[len(str(number))]
    return time_us if _EARLIEST_US <= time_us <= receive_time_us + _AHEAD_MAX_US else None


def _number(momment: Value) -> int | None:
    if isinstance(momment, int):
        # Also true and false, which are far from any time that counts.
        return momment
    if not isinstance(momment, str) or len(momment) > _CHARACTERS_MAX:
        return None
    return _integral(momment if isinstance(momment, Number) else momment.strip())


def _integral(text: str) -> int | None:
    """The integer a text spells, also as `1.6e9` or `160.0`; None beyond 17 digits."""
    try:
        value = Decimal(text) if text.isascii() and "_" not in text else Decimal("NaN")
    except InvalidOperation:
        return None
    # The bound comes first: making an int of 1e999999999 would take all memory there is, and
    # arithmetic with it overflows Decimal's context.
    if (
        not value.is_finite()
        or value.adjusted() >= _DIGITS_MAX
        or value != value.to_integral_value()
    ):
        return None
    return int(value)
