"""A full store beside a small one, and what takes a million: with stores that are made once and
kept in this user's cache folder."""

import itertools
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks import projecting, watching
from benchmarks.bodies import USUAL
from benchmarks.h2load import TOKEN, Load
from benchmarks.pairs import Row, Slice, measured
from benchmarks.prepared import kept, with_events
from benchmarks.processes import resident_kb, serving
from benchmarks.questions import GET
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.server_process import ServerProcess, clean_environment

_MILLION = 1_000_000
_FULL = 10_000_000
"""Events, of 3,000,000 messages."""

_SMALL = 10_000
_STREAMS = 5
"""Pairs of streams of a million changes, each of some seconds."""

_LIST = "/plugchat.status.v1.MessageStatusService/ListMessageStatuses"
_IN_FLIGHT = 32
_CALLS = 1_000
_CAUGHT_UP = 8_000
_TIMES = 5
"""Changes, fewer than the small store has, and how often in a slice."""

_SAMPLE_S = 0.2


def rows(pairs: int) -> Iterator[Row]:
    full = kept(_FULL)
    with tempfile.TemporaryDirectory(dir=full.parent) as name:
        folder = Path(name)
        yield _rebuild(folder)
        yield _ingest(folder, pairs)
        with ServerProcess(full) as ours:
            streams = min(pairs, _STREAMS)
            for what, request in (("catch-up", watching.ALL), ("snapshot", watching.SNAPSHOT)):
                yield watching.of_stream(folder, ours.grpc, what, request, streams, _MILLION)
            with ServerProcess(kept(_SMALL)) as small:
                yield _get(ours, small, pairs)
                yield _list(folder, ours, small, pairs)
                yield from _catch_up(ours, small, pairs)


def _rebuild(folder: Path) -> Row:
    """Nearly all of it, in turns."""
    store = kept(_MILLION)
    shutil.copytree(store, folder / "projected")
    (folder / "log").mkdir()
    shutil.copy(store / "events.db", folder / "log")
    with_events(folder / "log", 0)
    turns = _MILLION * 98 // 100 // projecting.A_SLICE
    return projecting.rebuild(folder, turns, f"rebuild of {_MILLION:,} events, SQLite")


def _ingest(folder: Path, pairs: int) -> Row:
    with ExitStack() as running:
        sides = []
        for events in (_FULL, _SMALL):
            data_dir = folder / f"ingest-{events}"
            data_dir.mkdir()
            shutil.copy(kept(events) / "events.db", data_dir)
            settings = {
                "DATA_DIR": str(data_dir),
                "HTTP_BIND": "127.0.0.1:0",
                "WEBHOOK_TOKEN": TOKEN,
            }
            # Else a sync would wait for what was copied.
            os.sync()
            server = running.enter_context(serving("ingest", settings=settings))
            sides.append(Load.of_callbacks(folder, server.address, USUAL, 64))
        full, small = sides
        return _full_beside_small("ingest, 64 connections", full.slice, small.slice, 0.85, pairs)


def _get(full: ServerProcess, small: ServerProcess, pairs: int) -> Row:
    """Of messages by chance, so that not the same pages are read again and again."""
    with grpc.insecure_channel(full.grpc) as one, grpc.insecure_channel(small.grpc) as other:
        return _full_beside_small(
            "GetMessageStatus of any message",
            _calls(one, _some_messages(full)),
            _calls(other, _some_messages(small)),
            0.75,
            pairs,
        )


def _some_messages(server: ServerProcess) -> list[bytes]:
    """Requests."""
    with closing(sqlite3.connect(f"file:{server.data_dir}/views.db?mode=ro", uri=True)) as views:
        found = views.execute("SELECT message_id FROM messages_a").fetchall()
    random.shuffle(found)
    return [
        pb.GetMessageStatusRequest(message_id=message_id).SerializeToString()
        for (message_id,) in found[: 100 * _CALLS]
    ]


def _calls(channel: grpc.Channel, requests: list[bytes]) -> Callable[[], Slice]:
    ask: Any = channel.unary_unary(GET)
    asked = itertools.cycle(requests)

    def a_slice() -> Slice:
        room = threading.Semaphore(_IN_FLIGHT)
        taken: list[int] = []
        began_s = time.perf_counter()
        for request in itertools.islice(asked, _CALLS):
            room.acquire()
            sent_s = time.perf_counter()

            def answered(call: Any, sent_s: float = sent_s) -> None:
                assert call.result()
                taken.append(int((time.perf_counter() - sent_s) * 1e6))
                room.release()

            ask.future(request).add_done_callback(answered)
        for _ in range(_IN_FLIGHT):
            room.acquire()
        assert len(taken) == _CALLS
        return Slice(_CALLS / (time.perf_counter() - began_s), taken)

    return a_slice


def _list(folder: Path, full: ServerProcess, small: ServerProcess, pairs: int) -> Row:
    asked = pb.ListMessageStatusesRequest(instance="bench", page_size=100).SerializeToString()
    sides = [
        Load.of_calls(folder, one.grpc, _LIST, asked, in_flight=4).slice for one in (full, small)
    ]
    return _full_beside_small("the newest page of 100 messages", sides[0], sides[1], 0.85, pairs)


def _catch_up(full: ServerProcess, small: ServerProcess, pairs: int) -> Iterator[Row]:
    """Of one that was away for a moment, and from anywhere: there the server goes on to send what
    nobody waits for, and the pages are cold. `from_time` finds the place."""
    with grpc.insecure_channel(full.grpc) as one, grpc.insecure_channel(small.grpc) as other:
        first_s, away_s = _times(full)

        def since(time_s: int) -> Slice:
            asked = pb.WatchStatusesRequest(from_time=Timestamp(seconds=time_s))
            return streams(one, asked.SerializeToString())

        def small_one() -> Slice:
            return streams(other, watching.ALL)

        def streams(channel: grpc.Channel, request: bytes) -> Slice:
            began_s = time.perf_counter()
            changes = sum(
                watching.look_at(watching.opened(channel, watching.WATCH, request), _CAUGHT_UP)
                for _ in range(_TIMES)
            )
            return Slice(changes / (time.perf_counter() - began_s), [])

        yield _full_beside_small(
            f"the last {_CAUGHT_UP:,} changes", lambda: since(away_s), small_one, 0.85, pairs
        )
        yield _full_beside_small(
            f"{_CAUGHT_UP:,} changes from anywhere",
            lambda: since(random.randint(first_s, away_s)),
            small_one,
            None,
            pairs,
        )


def _times(server: ServerProcess) -> tuple[int, int]:
    """Seconds: of the first event, and of the one that has as many behind it as the small store."""
    with closing(sqlite3.connect(f"file:{server.data_dir}/events.db?mode=ro", uri=True)) as log:
        (found,) = log.execute(
            "SELECT min(receive_time_us), (SELECT receive_time_us FROM events WHERE position = ?) "
            "FROM events",
            (_FULL - _SMALL,),
        ).fetchall()
    first_s, away_s = (time_us // 1_000_000 for time_us in found)
    return first_s + 1, away_s


def _full_beside_small(
    what: str,
    full: Callable[[], Slice],
    small: Callable[[], Slice],
    floor: float | None,
    pairs: int,
) -> Row:
    return measured(
        f"{what}, {_FULL:,} events",
        full,
        f"the same with {_SMALL:,}",
        small,
        floor=floor,
        pairs=pairs,
    )


def run() -> list[str]:
    """What a rebuild takes of memory, as it goes."""
    store = kept(_MILLION)
    with tempfile.TemporaryDirectory(dir=store.parent) as name:
        data_dir = shutil.copytree(store, Path(name) / "data")
        command = [str(Path(sys.executable).parent / "plugstatus"), "rebuild"]
        environment = clean_environment({"DATA_DIR": str(data_dir)})
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            taken_kb = []
            while process.poll() is None:
                taken_kb.append(resident_kb(process.pid))
                time.sleep(_SAMPLE_S)
        assert process.returncode == 0
    tenth = len(taken_kb) // 10
    return [
        f"{f'resident while rebuilding, {what}':44}{kb / 1024:>8.1f} MiB"
        for what, kb in (
            ("after a tenth", taken_kb[tenth]),
            ("at half", taken_kb[5 * tenth]),
            ("greatest", max(taken_kb)),
        )
    ]
