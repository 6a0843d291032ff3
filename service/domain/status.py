"""The statuses, in one table. A value is its rank: the highest one heard is the current status."""

from enum import IntEnum


class Status(IntEnum):
    """What has been heard of a message, or of one recipient; higher outranks lower.

    Evidence of delivery (RECEIVED, READ, PLAYED) outranks a reported failure, because a message
    that was read was delivered. A failure outranks SENT, because it is the later knowledge.
    UNRECOGNIZED and READ_BY_ME say nothing about delivery and so outrank no delivery status.
    """

    UNSPECIFIED = 0
    """Never heard of; no message has it."""
    UNRECOGNIZED = 10
    """A word that is not in the table of `plugchat.words`."""
    READ_BY_ME = 20
    """Our own number read the contact's message."""
    PENDING = 30
    SENT = 40
    FAILED = 50
    RECEIVED = 60
    READ = 70
    PLAYED = 80
