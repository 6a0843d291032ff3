"""Which messages a callback is about."""

import json
from typing import Any

import pytest

from service.domain.events import QuarantineReason
from tests.callbacks import delivery_callback, indexed_ids, only, reading, status_callback


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"ids": ["A", "B"]}, [("A", 0), ("B", 1)]),
        ({"ids": "A"}, [("A", 0)]),
        ({"ids": 15}, [("15", 0)]),
        ({"ids": [], "id": "A"}, [("A", 0)]),
        ({"ids": None, "id": "A"}, [("A", 0)]),
        ({"ids": None, "id": ["A", "B"]}, [("A", 0), ("B", 1)]),
        ({"ids": ["A"], "id": "B"}, [("A", 0), ("B", 1)]),
        ({"ids": "A", "id": "B"}, [("A", 0), ("B", 1)]),
        ({"ids": ["A", "B"], "id": ["B", "C"]}, [("A", 0), ("B", 1), ("C", 3)]),
        ({"ids": ["A"], "id": "A"}, [("A", 0)]),
        ({"ids": ["A", "B", "A", "C", "B"]}, [("A", 0), ("B", 1), ("C", 3)]),
        ({"ids": ["15", 15, "015"]}, [("15", 0), ("015", 2)]),
        ({"ids": [None, "", True, False, {}, ["A"], 1.5, "A"]}, [("A", 7)]),
        ({"ids": ["", "A"], "id": [None, "B"]}, [("A", 1), ("B", 3)]),
        ({"ids": [["A"]], "id": "B"}, [("B", 1)]),
        ({"ids": {"0": "A"}, "id": "B"}, [("B", 1)]),
        ({"ids": True, "id": 0}, [("0", 1)]),
        ({"ids": [" ", " A"]}, [(" ", 0), (" A", 1)]),
        ({"ids": ["a", "A"]}, [("a", 0), ("A", 1)]),
        ({"ids": ["é", "e\u0301"]}, [("é", 0), ("e\u0301", 1)]),
    ],
    ids=repr,
)
def test_each_distinct_id_makes_a_report(
    members: dict[str, Any], expected: list[tuple[str, int]]
) -> None:
    """Distinct ids of `ids`, then `id`, keep their raw places, invalid ones counted."""

    assert expected == indexed_ids(status_callback(**members))


@pytest.mark.parametrize(
    ("number", "message_id"),
    [
        ("0", "0"),
        ("-5", "-5"),
        ("9007199254740993", "9007199254740993"),
        ("18446744073709551616", "18446744073709551616"),
        ("1" + "0" * 127, "1" + "0" * 127),
    ],
    ids=lambda text: text[:24],
)
def test_a_number_keeps_its_digits(number: str, message_id: str) -> None:
    """An integer is an id by its digits as sent, whatever a float or 64 bits could hold."""
    body = f'{{"type":"MessageStatusCallback","status":"SENT","ids":[{number}],"id":{number}}}'

    assert [(message_id, 0)] == indexed_ids(reading(body.encode()))


@pytest.mark.parametrize("number", ["1.0", "1e3", "1E3", "0.5", "-0.0", "1" + "0" * 128])
def test_other_numbers_are_no_ids(number: str) -> None:
    """A number with a fraction or an exponent, or with more than 128 digits, is skipped."""
    body = f'{{"type":"MessageStatusCallback","status":"SENT","ids":[{number},"A"]}}'

    assert [("A", 1)] == indexed_ids(reading(body.encode()))


@pytest.mark.parametrize(
    "message_id",
    ["A", "x" * 128, "\U0001f600" * 128, "é" * 128, "\x01", "a/b?c", "\ufffd", '"\\'],
    ids=lambda text: ascii(text)[:20],
)
def test_ids_of_1_to_128_code_points_are_valid(message_id: str) -> None:
    """An id may hold any 1 to 128 code points, astral ones too, raw in UTF-8 or escaped."""
    body = {"type": "MessageStatusCallback", "status": "SENT", "ids": [message_id]}

    read = [reading(json.dumps(body, ensure_ascii=escaped).encode()) for escaped in (True, False)]

    assert [[(message_id, 0)]] * 2 == [indexed_ids(each) for each in read]


@pytest.mark.parametrize(
    "message_id",
    ["", "x" * 129, "\U0001f600" * 129, "\0", "A\0", "\ud800", "A\udfffB", "\ude00\ud83d"],
    ids=lambda text: ascii(text)[:20],
)
def test_an_invalid_id_is_skipped_and_counted(message_id: str) -> None:
    """An id out of bounds, or with NUL or a lone surrogate, spares the valid ones beside it."""
    expected = [("A", 0), ("B", 2), ("7", 3)]

    assert expected == indexed_ids(status_callback(ids=["A", message_id, "B", 7]))


def test_a_lone_surrogate_elsewhere_changes_no_id() -> None:
    """Ids and their places are the same whether or not the body holds a lone surrogate escape."""
    ids = ["A", None, 12345678901234567890123, 1.5, ["N"], {"n": 1}, "B", True, "A"]
    expected = [("A", 0), ("12345678901234567890123", 2), ("B", 6), ("Z", 9)]

    read = [status_callback(ids=ids, id="Z", other=other) for other in ("", "\ud800")]

    assert [expected, expected] == [indexed_ids(each) for each in read]


def test_ten_thousand_distinct_ids_are_read() -> None:
    """10,000 distinct ids make as many reports, however often some are repeated."""
    ids = [str(number) for number in range(10_000)]

    read = status_callback(ids=[*ids, *ids[:5_000]], id=ids)

    assert list(zip(ids, range(10_000), strict=True)) == indexed_ids(read)


def test_one_id_more_is_quarantined() -> None:
    """10,001 distinct ids are too many, be they in `ids` alone or in both members."""
    ids = [str(number) for number in range(10_000)]

    read = [status_callback(ids=[*ids, "A"]), status_callback(ids=ids, id="A")]

    assert [QuarantineReason.TOO_MANY_IDS] * 2 == [each.quarantined for each in read]


def test_invalid_ids_are_not_too_many() -> None:
    """Only distinct valid ids count towards the limit."""

    assert [("A", 20_000)] == indexed_ids(status_callback(ids=[*[""] * 20_000, "A"]))


@pytest.mark.parametrize(
    ("given", "message_id"), [("A", "A"), (15, "15"), (10**30, "1" + "0" * 30)]
)
def test_a_delivery_is_about_its_message_id(given: object, message_id: str) -> None:
    """A DeliveryCallback is about its `messageId` and about no other id in it."""
    report = only(delivery_callback(messageId=given, ids=["B"], id="C", zaapId="D"))

    assert (message_id, 0) == (report.message_id, report.place.index)


@pytest.mark.parametrize("given", [None, "", "\0", "x" * 129, 1.5, True, {}, []], ids=repr)
def test_a_delivery_without_a_valid_message_id_is_quarantined(given: object) -> None:
    """A DeliveryCallback whose `messageId` is not a valid id is quarantined as IDS_MISSING."""

    assert QuarantineReason.IDS_MISSING == delivery_callback(messageId=given).quarantined
