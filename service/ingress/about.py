"""What the receiving process and the one with the stores ask each other."""

from enum import IntEnum


class About(IntEnum):
    """The subject of a question on the line; 0 is that of an answer."""

    START = 1
    RELOAD = 2
    DRAIN = 3
    CLOSE = 4
    APPEND = 5
    PAGE = 6
    NOT_READY = 7
    ALIVE = 8
