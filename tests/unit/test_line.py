"""Questions and answers between two processes of ours."""

import asyncio
import select
import socket
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from service.ingress.line import Answer, Line, LineLost, connected

ABOUT = 7


class End:
    """One end that keeps what it is asked, and answers with the same turned round."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes]] = []
        self.held: asyncio.Queue[Answer] = asyncio.Queue()
        self.holds = False
        self.lost = asyncio.Event()

    def handle(self, about: int, payload: bytes, answer: Answer) -> None:
        self.asked.append((about, payload))
        if self.holds:
            self.held.put_nowait(answer)
        else:
            answer(payload[::-1])


@asynccontextmanager
async def _lines(here: End, there: End) -> AsyncIterator[tuple[Line, Line]]:
    loop = asyncio.get_running_loop()
    lines = []
    for end, side in zip((here, there), socket.socketpair(), strict=True):
        side.setblocking(False)
        made = partial(Line, end.handle, end.lost.set)
        _, line = await loop.create_connection(made, sock=side)
        lines.append(line)
    try:
        async with asyncio.timeout(10):
            yield lines[0], lines[1]
    finally:
        for line in lines:
            line.close()


async def test_both_ends_ask_and_answer() -> None:
    """At the same time; each answer is that of its question."""
    here, there = End(), End()
    async with _lines(here, there) as (line, other):
        asked = [line.ask(ABOUT, b"ab%d" % number) for number in range(50)]
        back = other.ask(ABOUT, b"xy")

        assert [await one for one in asked] == [(b"ab%d" % n)[::-1] for n in range(50)]
        assert await back == b"yx"
        assert there.asked[0] == (ABOUT, b"ab0")


async def test_answers_come_in_any_order() -> None:
    """One that takes long does not keep others back."""
    there = End()
    there.holds = True
    async with _lines(End(), there) as (line, _):
        first, second = line.ask(ABOUT, b"1"), line.ask(ABOUT, b"2")
        answer_first, answer_second = await there.held.get(), await there.held.get()
        answer_second(b"two")

        assert await second == b"two"
        assert not first.done()
        answer_first(b"one")
        assert await first == b"one"


@pytest.mark.parametrize("size", [0, 1, 9, 1 << 16, (1 << 22) + 3])
async def test_a_message_comes_whole(size: int) -> None:
    """However large it is, and in whatever parts the system hands it over."""
    payload = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    async with _lines(End(), End()) as (line, _):
        asked = [line.ask(ABOUT, payload), line.ask(ABOUT, b"behind it")]

        assert await asked[0] == payload[::-1]
        assert await asked[1] == b"ti dniheb"


async def test_parts_of_any_size() -> None:
    """Byte by byte, as a stream may come."""
    sent: list[bytes] = []
    end = End()
    line = Line(end.handle, end.lost.set)

    class Kept(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            sent.append(bytes(data))

    line.connection_made(Kept())
    asking = Line(End().handle, lambda: None)
    asking.connection_made(Kept())
    answered = [asking.ask(ABOUT, b"one"), asking.ask(ABOUT, b""), asking.ask(ABOUT, b"three")]
    for byte in b"".join(sent):
        line.data_received(bytes([byte]))
    answers = b"".join(sent[3:])
    for byte in answers:
        asking.data_received(bytes([byte]))

    assert [payload for _, payload in end.asked] == [b"one", b"", b"three"]
    assert [await one for one in answered] == [b"eno", b"", b"eerht"]


async def test_answers_leave_from_any_thread() -> None:
    """Past the loop of that end, whatever it does; also behind large questions."""
    ours, theirs = socket.socketpair()
    there = End()
    there.holds = True
    line = await connected(partial(Line, End().handle, lambda: None), ours)
    with theirs.dup() as answers:
        other = await connected(partial(Line, there.handle, there.lost.set, answers), theirs)
        async with asyncio.timeout(10):
            for number in range(20):
                asked = line.ask(ABOUT, bytes(number * 20_000))
                answer = await there.held.get()
                thread = threading.Thread(target=answer, args=(b"%d" % number,))
                thread.start()
                # The loop has no turn: it is here, and so it stays.
                thread.join()
                assert select.select([ours], [], [], 0)[0] == [ours]
                assert await asked == b"%d" % number
            line.ask(ABOUT)
            answer = await there.held.get()
            line.close()
            await there.lost.wait()
        # Nobody hears it.
        answer(b"too late")
    other.close()


async def test_a_lost_line_fails_who_waits_and_who_asks() -> None:
    """Nobody waits for an answer that cannot come any more."""
    here, there = End(), End()
    there.holds = True
    async with _lines(here, there) as (line, other):
        waiting = line.ask(ABOUT, b"?")
        answer = await there.held.get()
        other.close()

        with pytest.raises(LineLost):
            await waiting
        await here.lost.wait()
        with pytest.raises(LineLost):
            await line.ask(ABOUT, b"?")
        answer(b"too late")


async def test_an_answer_that_cannot_leave_ends_the_line() -> None:
    """Who has asked would wait for it for ever: both ends hear that it is over."""
    asking, theirs = socket.socketpair()
    there = End()
    there.holds = True
    with asking, theirs.dup() as answers:
        await connected(partial(Line, there.handle, there.lost.set, answers), theirs)
        asking.sendall(struct.pack("<IIB", 0, 1, ABOUT))
        async with asyncio.timeout(10):
            answer = await there.held.get()
            # Nobody reads, and it is more than there is room for.
            answer(bytes(10_000_000))
            await there.lost.wait()
        asking.settimeout(10)
        heard = 0
        while part := asking.recv(1_000_000):
            heard += len(part)

    # A part of it, and then the end.
    assert 0 < heard < 10_000_000


async def test_the_end_of_a_line_is_heard_while_somebody_may_answer() -> None:
    """What is kept open for answers keeps nobody waiting."""
    ours, theirs = socket.socketpair()
    here, there = End(), End()
    there.holds = True
    line = await connected(partial(Line, here.handle, here.lost.set), ours)
    with theirs.dup() as answers:
        other = await connected(partial(Line, there.handle, there.lost.set, answers), theirs)
        waiting = line.ask(ABOUT)
        other.close()
        async with asyncio.timeout(10):
            with pytest.raises(LineLost):
                await waiting
