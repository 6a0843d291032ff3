"""Progress goes out whatever a watcher waits for: a slow read, views that are behind, nothing."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from service.api.watchers import Watchers
from service.config import Limits
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import callback
from tests.stores import views_held
from tests.watch_site import Watching, WatchSite, watch_site

OFTEN = Limits(progress_interval_min_s=0.01)
INTERVAL = Duration(nanos=20_000_000)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[WatchSite]:
    async with watch_site(tmp_path / "data", OFTEN) as opened:
        yield opened


async def _progress(watching: Watching, count: int) -> list[str]:
    """So many more frames, all of them Progress; their cursors."""
    seen = len(watching.responses)
    await watching.until_frames(seen + count)
    more = watching.responses[seen : seen + count]
    assert {one.WhichOneof("frame") for one in more} == {"progress"}
    return [one.cursor for one in more]


@pytest.mark.parametrize("start", ["cursor", "snapshot"])
async def test_while_a_page_is_being_read(site: WatchSite, start: str) -> None:
    """A store that takes its time: the cursor stays where it was, and then all comes."""
    begin = await site.post("A")
    await site.post("B")
    go_on = asyncio.Event()

    class Slow:
        async def run(self, read: Callable[[Any], Any]) -> Any:
            await go_on.wait()
            return await site.core.views.run(read)

    shared = dataclasses.replace(site.shared, views=Slow())  # type: ignore[arg-type]
    site.watchers = Watchers(shared, site.metrics, watchers_max=10)
    given: dict[str, Any] = {"cursor": begin} if start == "cursor" else {"snapshot": True}
    watching = site.watch(pb.WatchStatusesRequest(progress_interval=INTERVAL, **given))
    opened = await watching.until("opened")
    cursors = await _progress(watching, 3)
    go_on.set()
    await watching.until("caught_up")
    await watching.leave()

    assert set(cursors) == {opened.cursor}
    assert watching.ids() == (["B"] if start == "cursor" else ["A", "B"])


@pytest.mark.parametrize("start", ["cursor", "from_now", "snapshot"])
async def test_while_the_views_are_behind(site: WatchSite, tmp_path: Path, start: str) -> None:
    """Recorded, and not folded yet: neither CaughtUp nor a snapshot before that is there."""
    begin = await site.post("A")
    with views_held(tmp_path / "data"):
        unfolded = await site.append(callback("B"))
        given: dict[str, Any] = {"cursor": begin} if start == "cursor" else {start: True}
        watching = site.watch(pb.WatchStatusesRequest(progress_interval=INTERVAL, **given))
        opened = await watching.until("opened")
        cursors = await _progress(watching, 3)
    await watching.until("caught_up")
    await watching.leave()

    assert set(cursors) == {opened.cursor}
    assert (opened.cursor == unfolded) == (start == "from_now")
    assert watching.ids() == {"cursor": ["B"], "from_now": [], "snapshot": ["A", "B"]}[start]


async def test_while_nothing_matches(site: WatchSite) -> None:
    """Live: the cursor moves on to what was passed over."""
    request = pb.WatchStatusesRequest(
        progress_interval=INTERVAL, filter=pb.WatchFilter(message_ids=["mine"])
    )
    watching = site.watch(request)
    await watching.until("caught_up")
    end = await site.post("other")
    await watching.until_cursor(end)
    cursors = await _progress(watching, 2)
    await watching.leave()

    assert set(cursors) == {end}
    assert watching.ids() == []


async def test_a_drain_ends_those_that_wait_for_the_views(site: WatchSite, tmp_path: Path) -> None:
    """In a snapshot that cannot begin yet: Closing at once, and it resumes there."""
    await site.post("A")
    with views_held(tmp_path / "data"):
        await site.append(callback("B"))
        watching = site.watch(pb.WatchStatusesRequest(snapshot=True))
        opened = await watching.until("opened")
        site.core.hub.drain()
        ended = await watching.until("closing")
        await watching.task

    assert watching.kinds() == ["opened", "closing"]
    assert ended.closing.reason == pb.CLOSING_REASON_SHUTTING_DOWN
    assert ended.cursor == opened.cursor
