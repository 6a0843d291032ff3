"""What a watch does about every way in which a stream can end."""

from collections.abc import Sequence

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from service.client import (
    CallFailed,
    Interrupted,
    Opened,
    RetryPolicy,
    SnapshotBegin,
    Update,
    Watch,
)
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.client_site import (
    SILENT,
    Fails,
    Step,
    caught_up,
    changes,
    closing,
    kinds,
    opened,
    scripted,
    snapshot_end,
)

Code = grpc.StatusCode
NOW = pb.WatchStatusesRequest(from_now=True)
SNAPSHOT = pb.WatchStatusesRequest(snapshot=True)
DOWN, REBUILT = pb.CLOSING_REASON_SHUTTING_DOWN, pb.CLOSING_REASON_VIEWS_REBUILT


async def _until(watch: Watch, cursor: str) -> list[Update]:
    """All updates up to the one with that cursor."""
    updates = []
    async for update in watch.updates():
        updates.append(update)
        if update.cursor == cursor and not isinstance(update, Interrupted):
            break
    return updates


async def _take(watch: Watch, count: int) -> list[Update]:
    updates = watch.updates()
    return [await anext(updates) for _ in range(count)]


def _reasons(updates: Sequence[Update]) -> list[str]:
    return [update.reason for update in updates if isinstance(update, Interrupted)]


ENDINGS: dict[str, tuple[Step, ...]] = {
    "UNAVAILABLE": (Fails(Code.UNAVAILABLE),),
    "WATCHER_STALLED": (Fails(Code.UNAVAILABLE, "WATCHER_STALLED"),),
    "VIEWS_UNAVAILABLE": (Fails(Code.UNAVAILABLE, "VIEWS_UNAVAILABLE"),),
    "TOO_MANY_WATCHERS": (Fails(Code.RESOURCE_EXHAUSTED, "TOO_MANY_WATCHERS"),),
    "LIMIT_EXCEEDED": (Fails(Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"),),
    "INTERNAL": (Fails(Code.INTERNAL),),
    "UNKNOWN": (Fails(Code.UNKNOWN),),
    "ABORTED": (Fails(Code.ABORTED),),
    "CANCELLED": (Fails(Code.CANCELLED),),
    "SHUTTING_DOWN": (closing("c2", DOWN),),
    "VIEWS_REBUILT": (closing("c2", REBUILT),),
    "an end without Closing": (),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_goes_on_behind_the_last_change(ending: str) -> None:
    """Whatever passing thing ends it, the next stream asks for the same, from the last cursor."""
    request = pb.WatchStatusesRequest(
        from_now=True,
        filter=pb.WatchFilter(phones=["1"]),
        progress_interval=Duration(seconds=7),
        include_unchanged=True,
    )
    async with (
        scripted(
            [opened("c0"), changes("c1", "c2"), *ENDINGS[ending]],
            [opened("c2"), changes("c3"), SILENT],
        ) as (server, client),
        client.watch(request) as watch,
    ):
        seen = [(await anext(watch)).cursor for _ in range(3)]
    resumed = pb.WatchStatusesRequest()
    resumed.CopyFrom(request)
    resumed.cursor = "c2"

    assert seen == ["c1", "c2", "c3"]
    assert server.requests == [request, resumed]


@pytest.mark.parametrize("ending", ENDINGS)
async def test_tells_why_it_was_interrupted(ending: str) -> None:
    """Interrupted names the reason, and where the watch goes on."""
    script = [opened("c0"), changes("c1", "c2"), *ENDINGS[ending]]
    async with scripted(script, [opened("c3")]) as (_, client), client.watch(NOW) as watch:
        updates = await _until(watch, "c3")

    assert kinds(updates) == ["Opened", "Changes", "Interrupted", "Opened"]
    assert updates[2].cursor == "c2"
    assert _reasons(updates) == [ending if ending.isupper() else "UNAVAILABLE"]


async def test_silence_counts_as_lost() -> None:
    """A stream that sends nothing for so many progress intervals is left for another one."""
    retry = RetryPolicy(initial_s=0.001, silent_intervals=0.02)
    request = pb.WatchStatusesRequest(from_now=True, progress_interval=Duration(seconds=1))
    async with (
        scripted(
            [opened("c0"), changes("c1"), SILENT], [opened("c1"), changes("c2")], retry=retry
        ) as (server, client),
        client.watch(request) as watch,
    ):
        updates = await _until(watch, "c2")
        await server.left.wait()

    assert kinds(updates) == ["Opened", "Changes", "Interrupted", "Opened", "Changes"]
    assert "sent nothing for 0.02 s" in str(updates[2])


PERMANENT = [
    Fails(Code.INVALID_ARGUMENT, "CURSOR_INVALID"),
    Fails(Code.FAILED_PRECONDITION, "CURSOR_FOREIGN"),
    Fails(Code.INVALID_ARGUMENT, "FIELD_INVALID"),
    Fails(Code.UNAUTHENTICATED, "TOKEN_INVALID"),
    Fails(Code.PERMISSION_DENIED, "INSTANCE_DENIED"),
    Fails(Code.RESOURCE_EXHAUSTED),
]
CURED = [
    Fails(Code.OUT_OF_RANGE, "CURSOR_EXPIRED"),
    Fails(Code.FAILED_PRECONDITION, "CURSOR_DIVERGED"),
    Fails(Code.FAILED_PRECONDITION, "CURSOR_AHEAD"),
]


@pytest.mark.parametrize("resync", [False, True])
@pytest.mark.parametrize("fails", PERMANENT, ids=str)
async def test_raises_what_another_stream_would_not_cure(fails: Fails, resync: bool) -> None:
    """At the start and in the middle, with its code and reason."""
    scripts: list[list[Step]] = [[fails], [opened("c0"), changes("c1"), fails]]
    for script in scripts:
        async with scripted(script) as (server, client):
            with pytest.raises(CallFailed) as caught:
                async with client.watch(NOW, resync=resync) as watch:
                    await _until(watch, "never")

        assert (caught.value.code, caught.value.reason) == (fails.code, fails.reason)
        assert len(server.requests) == 1


@pytest.mark.parametrize("fails", CURED, ids=str)
async def test_a_lost_place_is_raised_or_cured_by_a_snapshot(fails: Fails) -> None:
    """Without resync the caller hears of it; with it the watch begins again, and says so."""
    start = pb.WatchStatusesRequest(cursor="old")
    async with scripted([fails]) as (_, client):
        with pytest.raises(CallFailed) as caught:
            await anext(client.watch(start))
    async with (
        scripted(
            [fails],
            [opened("s0"), changes("s1"), snapshot_end("c5"), Fails(Code.UNAVAILABLE)],
            [opened("c5"), changes("c6")],
        ) as (server, client),
        client.watch(start, resync=True, patient=False) as watch,
    ):
        updates = await _until(watch, "c6")

    assert caught.value.reason == fails.reason
    assert kinds(updates) == [
        *("Interrupted", "SnapshotBegin", "Changes", "SnapshotEnd"),
        *("Interrupted", "Opened", "Changes"),
    ]
    assert updates[0] == Interrupted("", fails.reason, "told to", 0.0)
    assert server.requests == [start, SNAPSHOT, pb.WatchStatusesRequest(cursor="c5")]


async def test_an_interrupted_snapshot_is_continued() -> None:
    """Behind the last message, and not begun again: what is held stays."""
    async with (
        scripted(
            [opened("s0"), Fails(Code.UNAVAILABLE)],
            [opened("s0"), changes("s1"), Fails(Code.UNAVAILABLE)],
            [opened("s1"), changes("s2"), snapshot_end("c1"), caught_up("c2")],
        ) as (server, client),
        client.watch(SNAPSHOT, resync=True) as watch,
    ):
        updates = await _until(watch, "c2")

    assert [kind for kind in kinds(updates) if kind != "Interrupted"] == [
        *("SnapshotBegin", "Opened", "Changes", "Opened", "Changes", "SnapshotEnd", "CaughtUp")
    ]
    assert [request.cursor for request in server.requests] == ["", "s0", "s1"]


async def test_rebuilt_views_make_a_mirror_begin_again() -> None:
    """With resync, another generation is met with a snapshot: at Closing, and found at Opened."""
    async with (
        scripted(
            [opened("s0", 1), snapshot_end("c1"), closing("c2", REBUILT)],
            [opened("s3", 2), snapshot_end("c3"), Fails(Code.UNAVAILABLE)],
            [opened("c3", 3), changes("never")],
            [opened("s4", 3), changes("s5"), snapshot_end("c6"), Fails(Code.UNAVAILABLE)],
            [opened("c6", 3), caught_up("c7")],
        ) as (server, client),
        client.watch(SNAPSHOT, resync=True) as watch,
    ):
        updates = await _until(watch, "c7")
    begun = [update.views_generation for update in updates if isinstance(update, SnapshotBegin)]

    assert begun == [1, 2, 3]
    assert _reasons(updates) == ["VIEWS_REBUILT", "UNAVAILABLE", "VIEWS_REBUILT", "UNAVAILABLE"]
    assert [request.cursor for request in server.requests] == ["", "", "c3", "", "c6"]
    assert "never" not in [update.cursor for update in updates]


async def test_rebuilt_views_without_resync() -> None:
    """The watch goes on by its cursor, and Opened names the new generation."""
    async with (
        scripted([opened("c0", 1), closing("c1", REBUILT)], [opened("c1", 2), changes("c2")]) as (
            server,
            client,
        ),
        client.watch(NOW) as watch,
    ):
        updates = await _until(watch, "c2")
        generation = watch.views_generation

    assert [u.views_generation for u in updates if isinstance(u, Opened)] == [1, 2]
    assert [request.cursor for request in server.requests] == ["", "c1"]
    assert generation == 2


@pytest.mark.parametrize("known", [0, 3, 4])
async def test_a_mirror_that_keeps_its_cursor_itself(known: int) -> None:
    """It says of which generation its copy is; another one makes it begin again."""
    start = pb.WatchStatusesRequest(cursor="c1")
    async with (
        scripted([opened("c1", 3), caught_up("c2")], [opened("s1", 3), snapshot_end("c2")]) as (
            _,
            client,
        ),
        client.watch(start, resync=True, views_generation=known) as watch,
    ):
        updates = await _until(watch, "c2")

    assert ("SnapshotBegin" in kinds(updates)) == (known == 4)


async def test_a_start_now_becomes_a_place_with_opened() -> None:
    """Lost before Opened it starts now again; lost right behind it, from there: none is skipped."""
    async with (
        scripted(
            [Fails(Code.UNAVAILABLE)], [opened("c0"), Fails(Code.UNAVAILABLE)], [opened("c0")]
        ) as (server, client),
        client.watch(NOW) as watch,
    ):
        updates = await _take(watch, 5)

    assert kinds(updates) == ["Interrupted", "Opened", "Interrupted", "Opened", "Interrupted"]
    assert [(r.from_now, r.cursor) for r in server.requests[:3]] == [
        (True, ""),
        (True, ""),
        (False, "c0"),
    ]


async def test_an_unknown_frame_moves_the_cursor() -> None:
    """What a newer server may send is passed over, and its cursor counts."""
    unknown = pb.WatchStatusesResponse(cursor="c1")
    async with (
        scripted([opened("c0"), unknown, Fails(Code.UNAVAILABLE)], [opened("c1")]) as (
            server,
            client,
        ),
        client.watch(NOW) as watch,
    ):
        updates = await _take(watch, 4)

    assert kinds(updates) == ["Opened", "Progress", "Interrupted", "Opened"]
    assert server.requests[1].cursor == "c1"


async def test_the_waits_grow_until_a_stream_gets_further_than_opened() -> None:
    """Each failure doubles the bound up to its limit; a first Closing waits for nothing."""
    retry = RetryPolicy(initial_s=0.001, max_s=0.004, draw=lambda _, bound: bound)
    lost = Fails(Code.UNAVAILABLE)
    scripts: list[list[Step]] = [
        [lost],
        [opened("c0"), lost],
        [opened("c0"), closing("c0", DOWN)],
        [opened("c0"), lost],
        [opened("c0"), caught_up("c0"), lost],
        [opened("c0"), caught_up("c0"), closing("c0", DOWN)],
        [opened("c0"), closing("c0", DOWN)],
    ]
    async with scripted(*scripts, retry=retry) as (_, client), client.watch(NOW) as watch:
        waits_s = []
        async for update in watch.updates():
            if isinstance(update, Interrupted):
                waits_s.append(update.retry_in_s)
            if len(waits_s) == len(scripts):
                break

    assert waits_s == [
        *(0.001, 0.002, 0.004, 0.004),
        *(0.001, 0.0, 0.002),
    ]
