"""A batch that is being recorded, for somebody who reads the log and can begin with it already.

Whoever has read all there is knows which positions the next events get, if nobody else appends. So
he may do all that can be undone; then he waits for the outcome, and forgets it all if the events
are not there. Of a lone callback's way to those who watch, this leaves out the log's transaction or
the folding, whichever takes less.
"""

import threading
from collections.abc import Callable, Sequence

from service.domain.events import Event, NewEvent, Position


class Underway:
    """Made and settled by the appender, waited for by one other thread."""

    def __init__(self, events: Sequence[NewEvent]) -> None:
        """At least one."""
        self._events = events
        self._first: Position | None = None
        self._settled = False
        # Held until the outcome is known. An Event takes twice as long to wake a thread.
        self._open = threading.Lock()
        self._open.acquire()

    def settle(self, first: Position | None) -> None:
        """They are in the log for good, the first of them there; or they are not. To be called
        once, whatever happened."""
        self._first = first
        self._settled = True
        self._open.release()

    def may_begin_at(self, position: Position) -> bool:
        """They are there, or it is not known yet where."""
        return not self._settled or self._first == position

    def begin_at(self, position: Position) -> bool:
        """Wait until it is known: are they in the log for good, from that position on?"""
        with self._open:
            return self._first == position

    def wait(self) -> None:
        """Until it is known what became of them."""
        with self._open:
            pass

    def events(self, first: Position) -> list[Event]:
        """What reading gives once they stand there."""
        return [
            Event(Position(first + place), one.instance, one.receive_time_us, one.kind, one.content)
            for place, one in enumerate(self._events)
        ]


Taker = Callable[[Underway], None]
"""Who takes a batch has heard of it: nobody wakes him for it again. To be kept short."""


def nobody() -> Taker | None:
    """Takes no batch."""
    return None
