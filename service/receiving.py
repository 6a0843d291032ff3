"""What the receiving process does; `receiver` has how both work together.

Loaded there only, so that the process with the stores carries nothing of HTTP.
"""

import asyncio
import os
import pickle
import socket
from collections.abc import Sequence
from typing import Any

import msgspec

from service import errors, interpreter, tls
from service.clock import Clock
from service.config import Bind, Config
from service.ingress.about import About
from service.ingress.ingress import Ingress
from service.ingress.line import Answer, Line, connected
from service.ingress.remote import RemoteAppender
from service.telemetry import Metrics
from service.wire.cursor import CursorCodec


class Receiving:
    """All that the receiving process does."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._metrics = Metrics(stores=False)
        self._appender = RemoteAppender(config.limits, About.APPEND)
        self._ingress: Ingress | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, end: socket.socket, batches: socket.socket) -> None:
        """Until it is told to end, or the other process is gone."""
        self._over = asyncio.Event()
        recording = await connected(lambda: Line(self._told, self._lost), batches)
        self._line = await connected(lambda: Line(self._told, self._lost), end)
        self._appender.start(recording)
        await self._over.wait()
        recording.close()
        self._line.close()

    def _lost(self) -> None:
        if not self._over.is_set():
            # Whoever waits for an answer cannot get one any more.
            os._exit(1)

    def _told(self, about: int, payload: bytes, answer: Answer) -> None:
        match about:
            case About.START:
                self._do(self._start(payload.decode(), answer))
            case About.DRAIN:
                self._do(self._drain(answer))
            case About.CLOSE:
                self._do(self._close())
            case _:
                self._reload()
                answer(b"")

    def _do(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, identity: str, answer: Answer) -> None:
        told: errors.OperatorError | tuple[Bind, Bind]
        try:
            self._tls = tls.of_http(self._config, self._clock)
            ingress = Ingress(
                self._config,
                self._clock,
                self._metrics,
                self._appender,
                CursorCodec(identity),
                self._not_ready,
                self._tls,
                self._page,
                self._alive,
            )
            await ingress.start()
        except errors.OperatorError as error:
            told = error
        else:
            self._ingress = ingress
            told = ingress.http_bind, ingress.ops_bind
            interpreter.calm_collection()
        answer(pickle.dumps(told))

    def _reload(self) -> None:
        if self._tls is not None:
            self._tls.reload()
        if self._ingress is not None:
            self._ingress.reload()

    async def _drain(self, answer: Answer) -> None:
        if self._ingress is not None:
            await self._ingress.drain()
        answer(b"")

    async def _close(self) -> None:
        if self._ingress is not None:
            await self._ingress.close()
        self._over.set()

    async def _page(self) -> bytes:
        return self._metrics.page() + await self._line.ask(About.PAGE)

    async def _not_ready(self) -> Sequence[str]:
        reasons: list[str] = msgspec.json.decode(
            await self._line.ask(About.NOT_READY), type=list[str]
        )
        return reasons

    async def _alive(self) -> None:
        await self._line.ask(About.ALIVE)
