"""The HTTP side in a process of its own, beside the one that has the stores.

    receiving process                            process with the stores
    HTTP ══ callbacks in batches ══════════════▶ group commit ─▶ event log
         ── what of the metrics, ready? ───────▶ projector, hub, gRPC
         ◀─ start, read files again, drain, end ─ service.app

Python runs one thread at a time. With the stores' threads in the same process, each answer waits
for its turn among them, and so do they: apart, a process records about a third more callbacks.

The receiving process is forked before there are threads, and before most of the program is loaded:
each loads what it needs, at the same time. Two lines join them: batches have one to themselves, so
that the thread which records them can answer. It holds nothing that lasts: it ends as soon as the
other one is gone, and the other one ends, drained, if it is lost.
"""

import asyncio
import ctypes
import os
import pickle
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Self

import msgspec
import structlog

from service import errors, interpreter
from service.clock import SystemClock
from service.config import Bind, Config
from service.ingress.about import About
from service.ingress.line import Answer, Line, LineLost, connected
from service.ingress.remote import BatchAppender, append_told

_log = structlog.get_logger(__name__)

_END_S = 2.0
"""What the receiving process gets to end once it is told to."""

_IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""A terminal or a supervisor sends them to both processes. The one with the stores says when."""


_PR_SET_PDEATHSIG = 1


class Receiver:
    """The other process, as the one with the stores sees it: in `Ingress`'s place."""

    def __init__(self, pid: int, end: socket.socket, batches: socket.socket) -> None:
        self._pid = pid
        self._end = end
        self._batches = batches
        self._line: Line | None = None
        self._gone = asyncio.Event()
        self._ended = False

    @classmethod
    def forked(cls, config: Config) -> Self:
        """To be called once, by the only thread, before there is a loop."""
        ours, theirs = zip(socket.socketpair(), socket.socketpair(), strict=True)
        pid = os.fork()
        for end in theirs if pid else ours:
            end.close()
        if pid == 0:
            _receive(config, *theirs)
        return cls(pid, *ours)

    async def connect(
        self,
        appender: BatchAppender,
        identity: str,
        page: Callable[[], bytes],
        not_ready: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        """Give it all that it asks for. The appender is closed only after `drain`."""
        self._appender = appender
        self._identity = identity
        self._page = page
        self._not_ready = not_ready
        self._questions: set[asyncio.Task[None]] = set()
        answers = self._answers = self._batches.dup()
        await connected(lambda: Line(self._record, self._gone.set, answers), self._batches)
        self._line = await connected(lambda: Line(self._answer, self._gone.set), self._end)

    async def start(self) -> None:
        """Have it listen. Raises ConfigInvalid, AddressInUse; ReceiverEnded if it is gone."""
        assert self._line is not None
        try:
            answer = await self._line.ask(About.START, self._identity.encode())
        except LineLost:
            raise errors.ReceiverEnded from None
        # Of our own process, forked from this one.
        told: errors.OperatorError | tuple[Bind, Bind] = pickle.loads(answer)  # noqa: S301
        if isinstance(told, errors.OperatorError):
            raise told
        self._http_bind, self._ops_bind = told

    @property
    def http_bind(self) -> Bind:
        return self._http_bind

    @property
    def ops_bind(self) -> Bind:
        return self._ops_bind

    async def gone(self) -> None:
        """Wait until it has ended, told to or not."""
        await self._gone.wait()

    def reload(self) -> None:
        """As `Ingress.reload`."""
        self._tell(About.RELOAD)

    async def drain(self) -> None:
        """As `Ingress.drain`."""
        await asyncio.wait([self._tell(About.DRAIN)])

    async def close(self) -> None:
        """Drain, and end it. Idempotent."""
        if self._ended:
            return
        self._ended = True
        if self._line is None:
            # Without its lines it ends.
            self._end.close()
            self._batches.close()
        else:
            self._tell(About.CLOSE)
            try:
                async with asyncio.timeout(_END_S):
                    await self._gone.wait()
            except TimeoutError:
                _log.warning("the receiving process did not end: killing it")
                os.kill(self._pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, self._pid, 0)

    def _tell(self, about: About) -> "asyncio.Future[bytes]":
        assert self._line is not None
        answered = self._line.ask(about)
        answered.add_done_callback(lambda one: one.exception())
        return answered

    def _answer(self, about: int, payload: bytes, answer: Answer) -> None:
        if about == About.PAGE:
            answer(self._page())
        elif about == About.ALIVE:
            answer(b"")
        else:
            question = asyncio.create_task(self._answer_not_ready(answer))
            self._questions.add(question)
            question.add_done_callback(self._questions.discard)

    def _record(self, _about: int, payload: bytes, answer: Answer) -> None:
        append_told(self._appender, payload, answer)

    async def _answer_not_ready(self, answer: Answer) -> None:
        answer(msgspec.json.encode(list(await self._not_ready())))


def _receive(config: Config, end: socket.socket, batches: socket.socket) -> None:
    """The receiving process. Never returns."""
    code = 1
    try:
        for number in _IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        _die_with_parent()
        interpreter.allow_depth(config.limits)
        takes_tls = config.http_tls_cert is not None
        # Only here: the other process needs nothing of it, and loads its own part meanwhile.
        with interpreter.loading():
            from service.receiving import Receiving

        interpreter.run(Receiving(config, SystemClock()).run(end, batches), takes_tls=takes_tls)
        code = 0
    except BaseException:  # noqa: BLE001
        _log.exception("the receiving process failed")
    finally:
        # Nothing of what the other process had set up for its end is to be done here.
        os._exit(code)


def _die_with_parent() -> None:
    """Also while it is stopped or stuck, and would not see the end of its line (prctl(2))."""
    with suppress(AttributeError):
        # Only Linux has it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
