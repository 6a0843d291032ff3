"""When it happened, by the provider's `momment`."""

import pytest

from tests.callbacks import DAY_US, RECEIVED_US, only, reading

EARLIEST_US = 1_230_768_000_000_000
"""2009-01-01T00:00:00Z."""

AT_US = 1_632_234_645_000_000
"""2021-09-21T14:30:45Z."""

LATEST_US = RECEIVED_US + DAY_US


def _occurred(spelling: str) -> int | None:
    """The time a momment of that JSON gives, or None where it was estimated."""
    body = f'{{"type":"MessageStatusCallback","status":"SENT","ids":["A"],"momment":{spelling}}}'
    report = only(reading(body.encode()))
    if report.occur_time_estimated:
        assert RECEIVED_US == report.occur_time_us
        return None
    return report.occur_time_us


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("1632234645", AT_US),
        ("1632234645000", AT_US),
        ("1632234645000000", AT_US),
        ("1632234645123", AT_US + 123_000),
        ("1632234645123456", AT_US + 123_456),
        ('"1632234645000"', AT_US),
        ('" 1632234645 "', AT_US),
        ('"1632234645000000"', AT_US),
        ("1632234645000.0", AT_US),
        ('"1632234645.00"', AT_US),
        ("1.632234645e9", AT_US),
        ("1.632234645E+12", AT_US),
        ('"1632234645e3"', AT_US),
        ("16322346450e-1", AT_US),
    ],
)
def test_the_unit_shows_in_the_digits(spelling: str, expected: int) -> None:
    """Up to 11 digits are seconds, 12 to 14 milliseconds, 15 to 17 microseconds, however spelt."""

    assert expected == _occurred(spelling)


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        (str(EARLIEST_US // 1_000_000), EARLIEST_US),
        (str(EARLIEST_US // 1_000_000 - 1), None),
        (str(EARLIEST_US // 1_000), EARLIEST_US),
        (str(EARLIEST_US // 1_000 - 1), None),
        (str(EARLIEST_US), EARLIEST_US),
        (str(EARLIEST_US - 1), None),
        (str(LATEST_US // 1_000_000), LATEST_US),
        (str(LATEST_US // 1_000_000 + 1), None),
        (str(LATEST_US // 1_000), LATEST_US),
        (str(LATEST_US // 1_000 + 1), None),
        (str(LATEST_US), LATEST_US),
        (str(LATEST_US + 1), None),
    ],
)
def test_a_moment_counts_between_2009_and_a_day_ahead(spelling: str, expected: int | None) -> None:
    """A moment counts from 2009-01-01 to 24 hours after the callback came, both inclusive."""

    assert expected == _occurred(spelling)


@pytest.mark.parametrize(
    "spelling",
    [
        "null",
        "true",
        "{}",
        "[1632234645000]",
        '""',
        '" "',
        '"soon"',
        '"2021-09-21T14:30:45Z"',
        '"0x5f5e100"',
        '"1_632_234_645"',
        '"NaN"',
        '"Infinity"',
        '"1632234645\\u0000"',
        '"\\u0661\\u0662\\u0663\\u0664\\u0665\\u0666\\u0667\\u0668\\u0669\\u0660"',
        "0",
        "-0.0",
        "0e99",
        "-1632234645000",
        "1632234645.5",
        "1632234645000.000001",
        "1",
        "16322346450",
        "99999999999",
        "999999999999999",
        "163223464500000000",
        "1632234645000000000000000",
        "1e400",
        "1e999999999",
        "-1e999999999",
        '"1e999999999"',
        "1e99999999999999999999",
        "1e-999999999",
        "1" * 5_000,
    ],
    ids=lambda spelling: spelling[:32],
)
def test_other_moments_are_estimated(spelling: str) -> None:
    """What is no whole number, or no plausible date, is the time of arrival and says so."""

    assert None is _occurred(spelling)


def test_a_missing_moment_is_estimated() -> None:
    """Without a momment the time of arrival is taken, and marked as an estimate."""
    report = only(reading(b'{"type":"MessageStatusCallback","status":"SENT","ids":["A"]}'))

    assert (True, RECEIVED_US) == (report.occur_time_estimated, report.occur_time_us)
