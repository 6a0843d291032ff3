"""The provider's status words, in one table. A new word is one line here."""

from service.domain.status import Status

WORDS: dict[str, Status] = {
    "PENDING": Status.PENDING,
    "SENT": Status.SENT,
    "MESSAGE_SENT": Status.SENT,
    "RECEIVED": Status.RECEIVED,
    "MESSAGE_RECEIVED": Status.RECEIVED,
    "DELIVERED": Status.RECEIVED,
    "DELIVERY_ACK": Status.RECEIVED,
    "READ": Status.READ,
    "MESSAGE_READ": Status.READ,
    "PLAYED": Status.PLAYED,
    "MESSAGE_PLAYED": Status.PLAYED,
    "READ_BY_ME": Status.READ_BY_ME,
    "READ-SELF": Status.READ_BY_ME,
    "MESSAGE_READ-SELF": Status.READ_BY_ME,
    "FAILED": Status.FAILED,
    "ERROR": Status.FAILED,
    "UNDELIVERED": Status.FAILED,
}
"""Word → status. `MESSAGE_…` is the spelling of 2021 and 2022; DELIVERED, DELIVERY_ACK and the
words of failure were only ever seen in consumers' code."""


def normalized(word: str) -> str:
    """A word or a type as it is matched: without blanks around it, in upper case."""
    stripped = word.strip()
    # Beyond ASCII other letters have the same capitals: a long s would become an S.
    return stripped.upper() if stripped.isascii() else stripped


def status_of(word: str) -> Status:
    """UNRECOGNIZED for an empty word and for one that is not in the table."""
    return WORDS.get(normalized(word), Status.UNRECOGNIZED)
