"""Following changes for as long as the consumer likes, over as many streams as it takes.

    stands      does                                           goes on to
    apart       waits for the backoff, opens a stream          reading
    reading     reads one frame when the consumer asks         apart, when the stream has ended
    closed      ends every iteration; reached from both        -

Frames are read when they are asked for and at no other time, so a slow consumer slows the server's
stream and holds one frame. What was handed out counts as dealt with once more is asked for.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from service.client.cursor_file import Bookmark, CursorFile
from service.client.failures import CallFailed, failed
from service.client.resumption import Ended, Resumption
from service.client.retry import Backoff, RetryPolicy
from service.client.updates import Changes, Interrupted, Opened, SnapshotBegin, Update
from service.gen.plugchat.status.v1 import status_pb2 as pb

_log = logging.getLogger(__name__)

_PROGRESS_INTERVAL_S = 15.0
"""The server's, where the request names none."""


class Watch:
    """An endless iteration over changes; made by `StatusClient.watch`, which describes it.

    Iterate over it for changes, or over `updates()` for everything; one consumer, one of the two
    at a time. Use it as an asynchronous context manager, or call `close`.
    """

    def __init__(
        self,
        open_stream: Callable[[pb.WatchStatusesRequest], Any],
        on_close: "Callable[[Watch], None]",
        request: pb.WatchStatusesRequest,
        retry: RetryPolicy,
        *,
        cursor_file: CursorFile | None,
        resync: bool,
        patient: bool,
        views_generation: int,
    ) -> None:
        self._open_stream = open_stream
        self._on_close = on_close
        self._file = cursor_file
        self._patient = patient
        self._backoff = Backoff(retry)
        self._silence_s = retry.silent_intervals * _progress_interval_s(request)
        self._resumption = Resumption(request, views_generation, resync=resync)
        self._begun = False
        self._reached = False
        self._stream: Any = None
        self._retry_in_s = 0.0
        self._changes: deque[pb.StatusChange] = deque()
        self._in_hand: Bookmark | None = None
        self._dealt_with: Bookmark | None = None
        self._closed = asyncio.Event()

    @property
    def views_generation(self) -> int:
        """Of the views that the last stream opened on reads; 0 before there was one."""
        return self._resumption.views_generation

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the stream and every iteration. Idempotent.

        A cursor file keeps what was dealt with: not what was handed out last, unless more was
        asked for since.
        """
        if self._closed.is_set():
            return
        self._closed.set()
        self._on_close(self)
        self._drop()
        if self._file is None or not self._begun:
            return
        try:
            if self._dealt_with is not None:
                self._file.store(self._dealt_with)
        finally:
            self._file.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pb.StatusChange:
        self._dealt_with = self._in_hand
        while self._closed.is_set() or not self._changes:
            update = await self._next()
            if isinstance(update, Changes):
                self._changes.extend(update.changes)
            else:
                self._in_hand = self._dealt_with = self._bookmark(update.cursor)
        change = self._changes.popleft()
        self._in_hand = self._bookmark(change.cursor)
        return change

    def updates(self) -> AsyncIterator[Update]:
        """Everything the streams say, one Update a frame, and where they were interrupted."""
        return _Updates(self._next_update)

    async def _next_update(self) -> Update:
        self._dealt_with = self._in_hand
        if self._changes and not self._closed.is_set():
            update: Update = Changes(self._changes[-1].cursor, tuple(self._changes))
            self._changes.clear()
        else:
            update = await self._next()
        self._in_hand = self._bookmark(update.cursor)
        return update

    def _bookmark(self, cursor: str) -> Bookmark | None:
        return Bookmark(cursor, self._resumption.views_generation) if cursor else None

    async def _next(self) -> Update:
        """The next frame, or why there is none. Raises StopAsyncIteration once it is closed."""
        if self._closed.is_set():
            raise StopAsyncIteration
        self._begin()
        if self._file is not None and self._dealt_with is not None:
            await self._file.keep(self._dealt_with)
        if self._stream is None:
            await self._pause()
            self._stream = self._open_stream(self._resumption.request())
        try:
            update = await self._taken()
        except Ended as ended:
            self._retry_in_s = self._backoff.next_s(at_once=ended.at_once)
            update = Interrupted(
                self._resumption.cursor, ended.reason, str(ended), self._retry_in_s
            )
        else:
            if not isinstance(update, Opened | SnapshotBegin):
                self._backoff.reset()
        if isinstance(update, Opened | SnapshotBegin | Interrupted):
            _log.info("watch: %s", update)
        return update

    def _begin(self) -> None:
        if self._begun:
            return
        if self._file is not None:
            bookmark = self._file.open()
            if bookmark is not None:
                self._resumption.go_on_from(bookmark)
        self._begun = True

    async def _pause(self) -> None:
        """Wait for what the backoff asks for. Raises StopAsyncIteration if closed meanwhile."""
        try:
            async with asyncio.timeout(self._retry_in_s):
                await self._closed.wait()
        except TimeoutError:
            self._retry_in_s = 0.0
            return
        raise StopAsyncIteration

    async def _taken(self) -> Update:
        """What the next frame says. Whatever it raises, the stream is over.

        Raises Ended if another one is worth a try, CallFailed if not.
        """
        try:
            response = await self._read()
            self._reached = True
            return self._resumption.taken(response)
        except CallFailed as failure:
            self._drop()
            ended = self._resumption.after(failure)
            if self._reached or self._patient or ended.at_once:
                raise ended from failure
            raise
        except asyncio.CancelledError:
            self._drop()
            task = asyncio.current_task()
            if self._closed.is_set() and not (task and task.cancelling()):
                # It is only the stream that was cancelled, by another task that closed the watch.
                raise StopAsyncIteration from None
            raise
        except BaseException:
            self._drop()
            raise

    async def _read(self) -> pb.WatchStatusesResponse:
        """The next frame. Raises CallFailed, also for silence and an end without Closing."""
        try:
            async with asyncio.timeout(self._silence_s):
                response: pb.WatchStatusesResponse | None = await self._stream.read()
        except TimeoutError:
            raise _lost(f"the server sent nothing for {self._silence_s:g} s") from None
        except grpc.aio.AioRpcError as error:
            raise failed(error) from error
        if not isinstance(response, pb.WatchStatusesResponse):
            raise _lost("the stream ended without Closing")
        return response

    def _drop(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None


class _Updates:
    """Holds nothing of its own, so that leaving it behind leaves nothing open."""

    def __init__(self, next_update: Callable[[], Awaitable[Update]]) -> None:
        self._next_update = next_update

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        return await self._next_update()


def _progress_interval_s(request: pb.WatchStatusesRequest) -> float:
    if not request.HasField("progress_interval"):
        return _PROGRESS_INTERVAL_S
    # Shorter than the contract allows is for the server to refuse, and that takes a moment.
    return max(1.0, request.progress_interval.ToTimedelta().total_seconds())


def _lost(message: str) -> CallFailed:
    return CallFailed(grpc.StatusCode.UNAVAILABLE, "", message)
