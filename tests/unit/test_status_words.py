"""The provider's status words."""

import pytest

from service.domain.status import Status
from service.plugchat.words import WORDS, status_of


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("PENDING", Status.PENDING),
        ("SENT", Status.SENT),
        ("RECEIVED", Status.RECEIVED),
        ("DELIVERED", Status.RECEIVED),
        ("DELIVERY_ACK", Status.RECEIVED),
        ("READ", Status.READ),
        ("PLAYED", Status.PLAYED),
        ("READ_BY_ME", Status.READ_BY_ME),
        ("READ-SELF", Status.READ_BY_ME),
        ("MESSAGE_SENT", Status.SENT),
        ("MESSAGE_RECEIVED", Status.RECEIVED),
        ("MESSAGE_READ", Status.READ),
        ("MESSAGE_READ-SELF", Status.READ_BY_ME),
        ("MESSAGE_PLAYED", Status.PLAYED),
        ("FAILED", Status.FAILED),
        ("ERROR", Status.FAILED),
        ("undelivered", Status.FAILED),
    ],
)
def test_a_known_word_has_its_status(word: str, status: Status) -> None:
    """Every word known of the provider means the status its table gives it."""

    assert status == status_of(word)


@pytest.mark.parametrize("word", sorted(WORDS))
def test_case_and_blanks_do_not_matter(word: str) -> None:
    """A word means the same in any case and with any blanks around it."""
    expected = {WORDS[word]}

    spellings = (word.lower(), word.title(), f"  {word}\t", f"\r\n{word.lower()} ", f"\xa0{word}")

    assert expected == {status_of(spelling) for spelling in spellings}


@pytest.mark.parametrize(
    "word",
    [
        "",
        " ",
        "QUEUED",
        "SENT!",
        "S ENT",
        "READ_BY_ME_TOO",
        "\u017fENT",
        "SENT\0",
        "\ud800",
        "\uff33ENT",
    ],
    ids=ascii,
)
def test_other_words_are_unrecognized(word: str) -> None:
    """An empty word and one that is not in the table are UNRECOGNIZED, however alike they look."""

    assert Status.UNRECOGNIZED == status_of(word)


def test_ranks_order_the_statuses() -> None:
    """Delivery outranks failure, failure outranks sent, and unknown words outrank neither."""
    expected = [
        "UNSPECIFIED",
        "UNRECOGNIZED",
        "READ_BY_ME",
        "PENDING",
        "SENT",
        "FAILED",
        "RECEIVED",
        "READ",
        "PLAYED",
    ]

    assert expected == [status.name for status in sorted(Status)]
