"""The appender of a process that has no event log: another one records what it is told.

    receiving process                              process with the stores
    append ─ collects ─▶ batch ──── APPEND ────▶ GroupCommit.append_all ─▶ a transaction
    settle every waiter  ◀──── first position ──────── the writer's thread ◀─┘

Like the group commit itself it has one batch on the way, and collects the next one meanwhile.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from service import errors
from service.config import Limits
from service.domain.events import EventKind, NewEvent, Position
from service.eventlog.batches import Batch, Batches, Told
from service.ingress.line import Answer, Line, LineLost

_UNRECORDED = 0
"""In place of the first position: why is for the log of the process that has the stores."""

_Event = tuple[str, int, bytes]
"""Instance, receive time, content. All are callbacks."""

_encode = msgspec.msgpack.Encoder().encode
_events = msgspec.msgpack.Decoder(list[_Event])
_position = msgspec.msgpack.Decoder(int)


class BatchAppender(Protocol):
    def append_all(self, callbacks: Sequence[NewEvent], told: Told) -> None:
        """As `GroupCommit.append_all`."""
        ...


class RemoteAppender:
    """Bound to the running loop of `start`."""

    def __init__(self, limits: Limits, about: int) -> None:
        """`about`: what its questions are about, on the line."""
        self._batches = Batches(limits)
        self._about = about
        self._leaving = False

    def start(self, line: Line) -> None:
        """Before anything is appended."""
        self._line = line
        self._loop = asyncio.get_running_loop()

    def append(self, event: NewEvent) -> "asyncio.Future[Position]":
        """As `GroupCommit.append` has it, for callbacks."""
        waiter = self._batches.add(self._loop, event)
        if self._batches.under_way is None and not self._leaving:
            # With all that come in this turn of the loop.
            self._leaving = True
            self._loop.call_soon(self._leave)
        return waiter

    def _leave(self) -> None:
        self._leaving = False
        batch = self._batches.take()
        told = [(event.instance, event.receive_time_us, event.content) for event in batch.events]
        answered = self._line.ask(self._about, _encode(told))
        answered.add_done_callback(lambda answer: self._settle(batch, answer))

    def _settle(self, batch: Batch, answer: "asyncio.Future[bytes]") -> None:
        self._batches.returned(batch)
        if self._batches:
            # The next one first, so that the disk does not wait for answers to be written.
            self._leave()
        try:
            first = _position.decode(answer.result())
        except LineLost:
            first = _UNRECORDED
        if first == _UNRECORDED:
            batch.fail("the event log cannot be written now: try again later")
        else:
            batch.settle(Position(first))


def append_told(appender: BatchAppender, payload: bytes, answer: Answer) -> None:
    """Record what a RemoteAppender tells, and answer once that is known: from any thread."""
    events = [
        NewEvent(instance, receive_time_us, EventKind.CALLBACK, content)
        for instance, receive_time_us, content in _events.decode(payload)
    ]

    def told(first: Position | None) -> None:
        answer(_encode(_UNRECORDED if first is None else first))

    try:
        appender.append_all(events, told)
    except errors.LogUnavailable:
        told(None)
