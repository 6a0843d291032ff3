"""How far a long task is."""

import msgspec


class Progress(msgspec.Struct, frozen=True):
    done: int
    total: int
    """0: not known yet. May grow."""
    unit: str
    """What is counted, in the plural."""
    note: str
    """What is being done, or at the end what was done, for people."""
    differences: int = 0
    """Of a check that has ended: rows that are not the same."""
