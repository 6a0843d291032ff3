"""Questions and answers between two of our own processes, over a pair of connected sockets.

Either side asks, and answers what it is asked; answers come in any order. A message is its header
(length of the payload, number of the question, what it is about; 0 for an answer), then the
payload. Nothing here bounds how much is on the way: whoever asks does.

A line whose other end only asks, one thing at a time, can be answered from any thread: what leaves
there is an answer or nothing, and an answer that is small finds room.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import cast

Answer = Callable[[bytes], None]
"""To be called once."""

Handle = Callable[[int, bytes, Answer], None]
"""Called with what is asked about, at least 1, and the payload."""

_HEADER = struct.Struct("<IIB")
_ANSWER = 0


class LineLost(Exception):
    """The other process is gone."""


class Line(asyncio.Protocol):
    """One end. Bound to the loop that it is connected on."""

    def __init__(
        self,
        handle: Handle,
        on_lost: Callable[[], None],
        answers: socket.socket | None = None,
    ) -> None:
        """`answers`: the same end once more, for answers from any thread. The other end asks
        nothing before it has the last answer, which has at most some 100 bytes; this one asks
        nothing at all. It stays open with the caller: a thread may be about to use it. One that
        cannot be written ends the line at both ends: who has asked would wait for ever.
        """
        self._answers = answers
        self._handle = handle
        self._on_lost = on_lost
        self._lost = False
        self._asked: dict[int, asyncio.Future[bytes]] = {}
        self._number = 0
        self._begun = bytearray()
        """What came of a message that is not whole yet."""
        self._wanted = _HEADER.size
        """Bytes of it that are needed to go on."""

    @property
    def lost(self) -> bool:
        return self._lost

    def ask(self, about: int, payload: bytes = b"") -> asyncio.Future[bytes]:
        """A future of the answer; it raises LineLost."""
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        assert self._answers is None
        if self._lost:
            answered.set_exception(LineLost())
            return answered
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._asked[self._number] = answered
        self._send(self._number, about, payload)
        return answered

    def close(self) -> None:
        """Once what was written has left."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._end_answers()
        asked, self._asked = self._asked, {}
        for answered in asked.values():
            if not answered.done():
                answered.set_exception(LineLost())
                # Not everybody who asked still waits.
                answered.exception()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        if self._begun:
            self._begun += data
            if len(self._begun) < self._wanted:
                return
            data = bytes(self._begun)
            self._begun.clear()
        at, self._wanted = 0, _HEADER.size
        while len(data) - at >= _HEADER.size:
            length, number, about = _HEADER.unpack_from(data, at)
            end = at + _HEADER.size + length
            if end > len(data):
                self._wanted = end - at
                break
            self._told(number, about, data[at + _HEADER.size : end])
            at = end
        self._begun += data[at:]

    def _told(self, number: int, about: int, payload: bytes) -> None:
        if about != _ANSWER:
            self._handle(about, payload, lambda answer: self._answer(number, answer))
        elif (answered := self._asked.pop(number, None)) is not None and not answered.done():
            answered.set_result(payload)

    def _answer(self, number: int, answer: bytes) -> None:
        if self._answers is None:
            self._send(number, _ANSWER, answer)
        else:
            try:
                self._answers.sendall(_HEADER.pack(len(answer), number, _ANSWER) + answer)
            except OSError:
                self._end_answers()

    def _end_answers(self) -> None:
        if self._answers is not None:
            # The other end may be gone.
            with suppress(OSError):
                self._answers.shutdown(socket.SHUT_RDWR)

    def _send(self, number: int, about: int, payload: bytes) -> None:
        if not self._lost:
            self._transport.write(_HEADER.pack(len(payload), number, about) + payload)


async def connected(line: Callable[[], Line], end: socket.socket) -> Line:
    """A line over that end, which belongs to it from now on."""
    end.setblocking(False)
    _, made = await asyncio.get_running_loop().create_connection(line, sock=end)
    return made
