"""What the projector has just committed goes to live watchers from memory: once, and in order."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from service import errors
from service.api.hub import Hub
from service.api.live import LiveQueue
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.events import Place
from service.domain.message import MessageKey
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.telemetry import Metrics
from service.views.feed import FeedFilter
from service.views.store import ViewsBatch, ViewsReader, ViewsWriter
from service.wire.cursor import CursorCodec
from tests.view_stores import LOG, ViewsUnderTest, batch, feed_entry, mark

PATIENCE_S = 20.0
LIMITS = Limits(frame_changes_max=3)


class Site:
    """A hub over real views, and one watcher of everything that is live."""

    def __init__(self, hub: Hub, writer: ViewsWriter) -> None:
        self.hub = hub
        self._writer = writer
        self._queue = LiveQueue(FeedFilter(), 100, 10**6)
        hub.join(self._queue)

    def commit(self, *positions: int, **given: Any) -> ViewsBatch:
        """A report at each of them, as the projector commits it: nobody is told."""
        rows = [
            feed_entry(position, change=pb.StatusChange(cursor=f"{position}").SerializeToString())
            for position in positions
        ]
        committed = batch(self._writer.checkpoint(), positions[-1], feed=rows, **given)
        self._writer.apply(committed)
        return committed

    def told(self) -> list[int]:
        """The reports that the watcher was handed, in that order."""
        frames = []
        while len(self._queue):
            frames.append(pb.WatchStatusesResponse.FromString(self._queue.take().encoded))
        return [int(change.cursor) for frame in frames for change in frame.changes.changes]

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        following = asyncio.create_task(self.hub.run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following


@asynccontextmanager
async def _site(
    views: ViewsUnderTest,
    writer: ViewsWriter,
    opened: Callable[[ViewsReader], Any] = lambda reader: reader,
) -> AsyncIterator[Site]:
    """`opened`: what stands between the hub and a reader."""
    pool: ReaderPool[ViewsReader] = ReaderPool(
        "views", lambda: opened(views.open_reader()), 1, errors.ViewsUnavailable
    )

    async def holds(_: object) -> bool:
        return True

    try:
        hub = Hub(pool, CursorCodec(LOG), LIMITS, Metrics(), holds)
        await hub.start()
        yield Site(hub, writer)
    finally:
        await asyncio.to_thread(pool.close)


async def test_what_continues_is_handed_out_as_it_is(
    views: ViewsUnderTest, views_writer: ViewsWriter
) -> None:
    """Without a look at the store, one commit after the other; and the hub has moved on."""
    async with _site(views, views_writer) as site:
        for positions in ((1,), (2, 3, 4), (5,)):
            site.hub.advanced(site.commit(*positions))

            assert (site.told(), site.hub.point.place.position) == ([*positions], positions[-1])


async def test_who_waits_for_a_place_is_woken(
    views: ViewsUnderTest, views_writer: ViewsWriter
) -> None:
    """By what is handed out from memory as well."""
    async with _site(views, views_writer) as site, asyncio.timeout(PATIENCE_S):
        reached = asyncio.create_task(site.hub.reached(mark(2).position, PATIENCE_S))
        await asyncio.sleep(0)  # lets it begin to wait
        site.hub.advanced(site.commit(1))
        await asyncio.sleep(0)
        early = reached.done()
        site.hub.advanced(site.commit(2))
        await reached

        assert not early
        assert site.hub.place == Place(mark(2).position)


async def test_what_does_not_continue_is_read(
    views: ViewsUnderTest, views_writer: ViewsWriter
) -> None:
    """More than a frame's worth, what stands further on, or nobody knows what: all of it comes from
    the store, once and in order."""
    async with _site(views, views_writer) as site:
        site.hub.advanced(site.commit(1, 2, 3, 4))
        site.hub.advanced(site.commit(5))
        site.hub.advanced(None)
        assert site.told() == []

        async with site.following():
            await site.hub.reached(mark(5).position, PATIENCE_S)
            assert site.told() == [1, 2, 3, 4, 5]


async def test_reports_folded_again_are_not_handed_out(
    views: ViewsUnderTest, views_writer: ViewsWriter
) -> None:
    """They stand where they stood, behind every watcher: only what the store says is new goes."""
    async with _site(views, views_writer) as site:
        site.hub.advanced(site.commit(1, 2))
        again = site.commit(1, 2, 3, refolded=[MessageKey("acme", "M")])
        site.hub.advanced(again)
        assert site.told() == [1, 2]

        async with site.following():
            await site.hub.reached(mark(3).position, PATIENCE_S)
            assert site.told() == [3]


class Held:
    """A reader whose next page stays on the way."""

    def __init__(self, reader: ViewsReader) -> None:
        self._reader = reader
        self.read = threading.Event()
        self.let_go = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def feed(self, *asked: Any) -> Any:
        page = self._reader.feed(*asked)
        self.read.set()
        assert self.let_go.wait(PATIENCE_S)
        return page


async def test_a_page_that_is_on_the_way_is_not_handed_out_again(
    views: ViewsUnderTest, views_writer: ViewsWriter
) -> None:
    """It was read before the same was handed out from memory, and arrives behind it."""
    readers: list[Held] = []

    def held(reader: ViewsReader) -> Held:
        readers.append(Held(reader))
        return readers[-1]

    async with _site(views, views_writer, held) as site, site.following():
        committed = site.commit(1, 2)
        site.hub.hint()
        assert await asyncio.to_thread(readers[0].read.wait, PATIENCE_S)
        site.hub.advanced(committed)
        readers[0].let_go.set()
        site.hub.advanced(site.commit(3))
        site.commit(4)
        site.hub.hint()
        await site.hub.reached(mark(4).position, PATIENCE_S)

        assert site.told() == [1, 2, 3, 4]
