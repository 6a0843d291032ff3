"""A snapshot while everything moves: pages of two messages, and something happens behind each."""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from service import errors
from service.api.watchers import Watchers
from service.config import Limits
from service.domain.erasure import Subject
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.views.store import ViewsReader
from tests.clock import FakeClock
from tests.watch_site import Watching, WatchSite, watch_site

pytestmark = pytest.mark.both_stores

SNAPSHOT = pb.WatchStatusesRequest(snapshot=True)
SMALL = Limits(snapshot_messages_max=2, catch_up_rows_max=5, frame_changes_max=2)
IDS = ["!", "A", "B", "b", "é", "\uffff", "\U0001f600"]
"""In order of code point."""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[WatchSite]:
    async with watch_site(tmp_path / "data", SMALL) as opened:
        for message_id in IDS[::-1]:
            await opened.post(message_id)
        yield opened


def _after_changes(
    count: int, do: Callable[[], Awaitable[object]]
) -> Callable[[pb.WatchStatusesResponse], Awaitable[None]]:
    """A transport behind which something happens once so many frames of changes were sent."""
    seen = 0

    async def then(response: pb.WatchStatusesResponse) -> None:
        nonlocal seen
        seen += response.WhichOneof("frame") == "changes"
        if seen == count:
            seen += 1
            await do()

    return then


def _split(watching: Watching) -> tuple[list[pb.StatusChange], list[pb.StatusChange]]:
    """What came in the snapshot, and what came behind it."""
    end = watching.kinds().index("snapshot_end")
    inside = [c for one in watching.responses[:end] for c in one.changes.changes]
    behind = [c for one in watching.responses[end:] for c in one.changes.changes]
    return inside, behind


async def test_a_snapshot_holds_every_message_by_key(site: WatchSite) -> None:
    """Opened, all messages as they are, by code point, SnapshotEnd, CaughtUp, then what comes."""
    await site.post("A", "READ", instance="a")
    watching = site.watch(SNAPSHOT)
    await watching.until("caught_up")
    inside, behind = _split(watching)
    now = [await site.get(one, "acme") for one in IDS]
    await site.post("B", "READ")
    await watching.until_changes(len(IDS) + 2)
    await watching.leave()

    assert [(c.message.instance, c.message.message_id) for c in inside] == [
        ("a", "A"),
        *(("acme", message_id) for message_id in IDS),
    ]
    assert behind == []
    assert watching.kinds()[0] == "opened"
    assert watching.kinds()[-3:] == ["snapshot_end", "caught_up", "changes"]
    assert {c.previous_status for c in inside} == {pb.STATUS_UNSPECIFIED}
    assert not any(c.HasField("recipient") for c in inside)
    assert [c.message for c in inside[1:]] == now


async def test_an_empty_snapshot(tmp_path: Path) -> None:
    """Of a log that holds nothing: it begins and ends, and what comes is streamed."""
    async with watch_site(tmp_path / "data") as site:
        watching = site.watch(SNAPSHOT)
        await watching.until("caught_up")
        kinds = watching.kinds()
        again = await site.all_from(pb.WatchStatusesRequest(cursor=watching.responses[0].cursor))
        await site.post("A")
        await watching.until("changes")
        await watching.leave()

    assert kinds == again.kinds() == ["opened", "snapshot_end", "caught_up"]
    assert watching.ids() == ["A"]


async def test_what_changes_meanwhile_follows_once(site: WatchSite) -> None:
    """Left out if it was not sent yet; sent again as a change if it was; new ones only follow."""

    async def change() -> None:
        await site.post("!", "READ")
        await site.post("\U0001f600", "READ")
        await site.post("AA", "SENT")

    watching = site.watch(SNAPSHOT, _after_changes(1, change))
    await watching.until("caught_up")
    await site.post("b", "READ")
    await watching.until_changes(len(IDS) + 3)
    await watching.leave()
    inside, behind = _split(watching)

    assert [c.message.message_id for c in inside] == IDS[:-1]
    assert {c.message.status for c in inside} == {pb.STATUS_SENT}
    assert [(c.message.message_id, c.previous_status, c.message.status) for c in behind] == [
        ("!", pb.STATUS_SENT, pb.STATUS_READ),
        ("\U0001f600", pb.STATUS_SENT, pb.STATUS_READ),
        ("AA", pb.STATUS_UNSPECIFIED, pb.STATUS_SENT),
        ("b", pb.STATUS_SENT, pb.STATUS_READ),
    ]


async def test_a_repeat_leaves_a_message_where_it_is(site: WatchSite) -> None:
    """A report that changes nothing takes no message out of the snapshot; only its count moves."""
    watching = site.watch(SNAPSHOT, _after_changes(1, lambda: site.post("é", "SENT")))
    await watching.until("caught_up")
    await watching.leave()
    inside, behind = _split(watching)

    assert [c.message.message_id for c in inside] == IDS
    assert [c.message.report_count for c in inside] == [1, 1, 1, 1, 2, 1, 1]
    assert behind == []


async def test_every_cursor_resumes_inside(site: WatchSite) -> None:
    """Whatever frame or change was seen last: the rest of the very same snapshot, and what follows.

    Also where all has changed since, and where the message it names was erased.
    """
    whole = await site.all_from(SNAPSHOT)
    places = [(one.cursor, 0) for one in whole.responses[:1]]
    places += [(change.cursor, at + 1) for at, change in enumerate(whole.changes())]
    before = [await site.all_from(pb.WatchStatusesRequest(cursor=cursor)) for cursor, _ in places]
    await site.post("A", "READ")
    async for _ in site.core.upkeep.forget(Subject(message_id="b"), dry_run=False):
        pass
    after = [await site.all_from(pb.WatchStatusesRequest(cursor=cursor)) for cursor, _ in places]

    assert [one.cursor for one in whole.responses if one.WhichOneof("frame") == "changes"] == [
        change.cursor for change in whole.changes()[1::2] + whole.changes()[-1:]
    ]
    for (cursor, sent), watching in zip(places, before, strict=True):
        assert watching.responses[0].cursor == cursor
        assert watching.ids() == IDS[sent:]
        assert watching.changes() == whole.changes()[sent:]
    for (_, sent), watching in zip(places, after, strict=True):
        inside, behind = _split(watching)
        assert [c.message.message_id for c in inside] == [
            one for one in IDS[sent:] if one not in ("A", "b")
        ]
        assert [c.message.message_id for c in behind] == ["A"]


async def test_the_end_of_a_snapshot_is_an_ordinary_cursor(site: WatchSite) -> None:
    """SnapshotEnd and what follows resume behind the snapshot, and a snapshot's as any start."""
    whole = await site.all_from(SNAPSHOT)
    ends = [one.cursor for one in whole.responses[-2:]]
    await site.post("A", "READ")
    resumed = [await site.all_from(pb.WatchStatusesRequest(cursor=cursor)) for cursor in ends]
    got = await site.get("A", "acme", min_cursor=whole.changes()[0].cursor)

    assert [watching.ids() for watching in resumed] == [["A"], ["A"]]
    assert ["snapshot_end" in watching.kinds() for watching in resumed] == [False, False]
    assert got.status == pb.STATUS_READ


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (pb.WatchFilter(message_ids=["A", "é", "absent"]), ["A", "é"]),
        (pb.WatchFilter(phones=["77"]), ["B"]),
        (pb.WatchFilter(phones=["77", "5511900000102"], instances=["acme"]), IDS),
        (pb.WatchFilter(statuses=[pb.STATUS_READ]), ["B"]),
        (pb.WatchFilter(instances=["other", "acme"], statuses=[pb.STATUS_READ]), ["B"]),
        (pb.WatchFilter(instances=["other"]), []),
    ],
)
async def test_a_filtered_snapshot(
    tmp_path: Path, wanted: pb.WatchFilter, expected: list[str]
) -> None:
    """The same filter for the messages of the snapshot and for what follows."""
    async with watch_site(tmp_path / "data", SMALL) as site:
        for message_id in IDS:
            special = message_id == "B"
            await site.post(
                message_id,
                "READ" if special else "SENT",
                phone="77" if special else "5511900000102",
            )
        request = pb.WatchStatusesRequest(snapshot=True, filter=wanted)
        watching = await site.all_from(request)
        middle = [c.cursor for c in watching.changes()][: len(expected) // 2 + 1]
        rest = [
            await site.all_from(pb.WatchStatusesRequest(cursor=cursor, filter=wanted))
            for cursor in middle
        ]

    assert watching.ids() == expected
    assert [one.ids() for one in rest] == [expected[at + 1 :] for at in range(len(middle))]


async def test_a_message_that_moved_on_is_in_neither(site: WatchSite) -> None:
    """With statuses: neither in the snapshot, for it changed, nor behind it, for it left them."""
    request = pb.WatchStatusesRequest(
        snapshot=True, filter=pb.WatchFilter(statuses=[pb.STATUS_SENT])
    )
    watching = site.watch(request, _after_changes(1, lambda: site.post("é", "READ")))
    await watching.until("caught_up")
    await watching.leave()

    assert watching.ids() == [one for one in IDS if one != "é"]


async def test_a_rebuild_ends_a_snapshot_which_goes_on(site: WatchSite) -> None:
    """Closing in the middle; its cursor resumes inside, on the new views."""

    async def rebuild() -> None:
        async for _ in site.core.upkeep.rebuild(check=False):
            pass

    watching = site.watch(SNAPSHOT, _after_changes(1, rebuild))
    closing = await watching.until("closing")
    await watching.task
    rest = await site.all_from(pb.WatchStatusesRequest(cursor=closing.cursor))

    assert closing.closing.reason == pb.CLOSING_REASON_VIEWS_REBUILT
    assert 0 < len(watching.ids()) < len(IDS)
    assert watching.ids() + rest.ids() == IDS
    assert rest.responses[0].opened.views_generation > watching.responses[0].opened.views_generation


class Hurrying(FakeClock):
    """Half a second later whenever it is asked."""

    def monotonic_s(self) -> float:
        self.advance(0.5)
        return super().monotonic_s()


async def test_progress_comes_in_a_snapshot(site: WatchSite) -> None:
    """Though nothing matches; and it resumes there."""
    for number in range(30):
        await site.post(f"N{number:02d}")
    request = pb.WatchStatusesRequest(
        snapshot=True,
        filter=pb.WatchFilter(statuses=[pb.STATUS_PLAYED]),
        progress_interval=Duration(seconds=1),
    )
    shared = dataclasses.replace(site.shared, clock=Hurrying())
    site.watchers = Watchers(shared, site.metrics, watchers_max=10)
    watching = site.watch(request)
    await watching.until("caught_up")
    await watching.leave()
    kinds = watching.kinds()
    end = kinds.index("snapshot_end")
    inside = dict.fromkeys(
        one.cursor for one in watching.responses[:end] if one.WhichOneof("frame") == "progress"
    )
    rest = [
        (await site.all_from(pb.WatchStatusesRequest(cursor=cursor))).ids() for cursor in inside
    ]
    everything = sorted([*IDS, *(f"N{number:02d}" for number in range(30))])

    assert set(kinds[1:end]) == {"progress"}
    assert len(inside) > 5
    assert all(ids == everything[-len(ids) :] for ids in rest if ids)
    assert [len(ids) for ids in rest] == sorted((len(ids) for ids in rest), reverse=True)


async def test_retention_and_a_snapshot(tmp_path: Path) -> None:
    """What retention takes is not in a snapshot; one that it overtakes is told so."""
    clock = FakeClock()
    async with watch_site(tmp_path / "data", SMALL, clock) as site:
        for message_id in IDS:
            await site.post(message_id)

        async def remove_all() -> None:
            for message_id in ("Y", "Z"):
                clock.advance(1)
                await site.post(message_id)
            await site.core.upkeep.retain(0)

        watching = site.watch(SNAPSHOT, _after_changes(1, remove_all))
        with pytest.raises(errors.CursorExpired):
            await watching.until("caught_up")
        with pytest.raises(errors.CursorExpired):
            await site.all_from(pb.WatchStatusesRequest(cursor=watching.responses[-1].cursor))
        rest = await site.all_from(SNAPSHOT)

    assert 0 < len(watching.ids()) < len(IDS)
    assert rest.ids() == ["Z"]


async def test_a_cursor_outlives_the_message_it_names(tmp_path: Path) -> None:
    """Retention takes the message sent last, and the snapshot still goes on exactly behind it."""
    clock = FakeClock()
    async with watch_site(tmp_path / "data", SMALL, clock) as site:
        await site.post("C")
        clock.advance(10 * 24 * 3_600)
        for message_id in ("A", "B", "D", "E"):
            await site.post(message_id)
        whole = await site.all_from(SNAPSHOT)
        at = whole.ids().index("C")
        await site.core.upkeep.retain(5)
        rest = await site.all_from(pb.WatchStatusesRequest(cursor=whole.changes()[at].cursor))
        now = await site.all_from(SNAPSHOT)

    assert whole.ids() == ["A", "B", "C", "D", "E"]
    assert rest.ids() == ["D", "E"]
    assert now.ids() == ["A", "B", "D", "E"]


async def test_every_frame_says_how_far_it_is(tmp_path: Path) -> None:
    """Frames in the middle of a page, with Progress between them, in several instances: each one's
    cursor resumes behind exactly what was sent up to it."""
    limits = Limits(snapshot_messages_max=10, frame_changes_max=2)
    async with watch_site(tmp_path / "data", limits) as site:
        for instance in ("b", "a", "c"):
            for message_id in IDS:
                await site.post(message_id, instance=instance)
        shared = dataclasses.replace(site.shared, clock=Hurrying())
        site.watchers = Watchers(shared, site.metrics, watchers_max=10)
        interval = Duration(seconds=1)
        whole = await site.all_from(
            pb.WatchStatusesRequest(snapshot=True, progress_interval=interval)
        )
        keys = [(c.message.instance, c.message.message_id) for c in whole.changes()]
        sent = 0
        for response in whole.responses:
            sent += len(response.changes.changes)
            rest = await site.all_from(pb.WatchStatusesRequest(cursor=response.cursor))
            found = [(c.message.instance, c.message.message_id) for c in rest.changes()]
            assert found == keys[sent:], response

    assert keys == [(instance, message_id) for instance in "abc" for message_id in IDS]
    assert whole.kinds().count("progress") > 5


async def test_a_page_of_other_views_is_not_sent(site: WatchSite) -> None:
    """The views are switched after the stream looked last, and before the page is read."""

    class Switched:
        async def run(self, read: Callable[[ViewsReader], Any]) -> Any:
            async for _ in site.core.upkeep.rebuild(check=False):
                pass
            return await site.core.views.run(read)

    shared = dataclasses.replace(site.shared, views=Switched())  # type: ignore[arg-type]
    site.watchers = Watchers(shared, site.metrics, watchers_max=10)
    watching = site.watch(SNAPSHOT)
    await watching.until("closing")
    await watching.task

    assert watching.kinds() == ["opened", "closing"]
