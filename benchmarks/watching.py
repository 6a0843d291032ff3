"""What watchers get: how soon, and how much."""

import itertools
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.bodies import numbered, of_many
from benchmarks.pairs import Row, Slice, measured, measured_times
from benchmarks.processes import serving
from benchmarks.sides.frames import stored
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.server_process import ServerProcess

WATCH = "/plugchat.status.v1.MessageStatusService/WatchStatuses"
_STORED = 100_000
"""Messages, with a report each: a few tenths of a second of frames."""

_FANNED = 1_000
"""Changes a slice, to each of the watchers."""

_WATCHERS = 100
_ON_A_CONNECTION = 100
_POSTS = 25
_POST_S = 0.01

_fresh = itertools.count(2 * 10**9)
"""Numbers of messages that nobody has heard of."""

_EVERYTHING = 10**9
NOW = pb.WatchStatusesRequest(from_now=True).SerializeToString()
ALL = pb.WatchStatusesRequest(from_time=Timestamp(seconds=1)).SerializeToString()
SNAPSHOT = pb.WatchStatusesRequest(snapshot=True).SerializeToString()


def rows(pairs: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name, ServerProcess(Path(name) / "data") as ours:
        for watchers in (1, _WATCHERS):
            yield _latency(ours, watchers, pairs)
        yield _fan_out(Path(name), ours, pairs)
        for first in range(0, _STORED, 10_000):
            _post(ours, of_many(first, 10_000))
        for what, request in (("catch-up", ALL), ("snapshot", SNAPSHOT)):
            yield of_stream(Path(name), ours.grpc, what, request, pairs)


def of_stream(
    folder: Path,
    target: str,
    what: str,
    request: bytes,
    pairs: int,
    changes_max: int = _EVERYTHING,
) -> Row:
    """How fast one watcher gets what is stored, up to so many changes."""
    with grpc.insecure_channel(target, options=_UNBOUNDED) as channel:
        frames: list[bytes] = []
        stream = opened(channel, WATCH, request)
        changes = look_at(stream, changes_max, frames)
        (folder / what).write_bytes(stored(frames))
        frames.clear()
        with (
            serving("frames", str(folder / what)) as other,
            grpc.insecure_channel(other.address, options=_UNBOUNDED) as bare,
        ):
            return measured(
                f"{what} of one watcher, {changes:,} changes looked at",
                lambda: streamed(opened(channel, WATCH, request), changes_max),
                "the same bytes from memory, looked at too",
                lambda: streamed(opened(bare, "/bench.Frames/All", b""), changes_max),
                floor=0.60,
                pairs=pairs,
            )


def streamed(stream: Any, changes_max: int) -> Slice:
    began_s = time.perf_counter()
    changes = look_at(stream, changes_max)
    return Slice(changes / (time.perf_counter() - began_s), [])


def look_at(stream: Any, changes_max: int, frames: list[bytes] | None = None) -> int:
    """As a watcher does that keeps the status of each message, and how far it is: up to so many
    changes, or until it has caught up. How many there were; `frames` are added to."""
    known: dict[str, tuple[int, str]] = {}
    seen = 0
    for frame in stream:
        told = pb.WatchStatusesResponse.FromString(frame)
        if told.HasField("caught_up"):
            break
        if frames is not None:
            frames.append(frame)
        for change in told.changes.changes:
            known[change.message.message_id] = change.message.status, change.cursor
        seen += len(told.changes.changes)
        if seen >= changes_max:
            break
    stream.cancel()
    assert known
    return seen


def _fan_out(folder: Path, ours: ServerProcess, pairs: int) -> Row:
    with ExitStack() as closers:
        first = 10**9
        recorded: list[bytes] = []
        mine = closers.enter_context(_watching(ours.grpc, WATCH, NOW, _WATCHERS))

        def our_slice() -> Slice:
            nonlocal first
            first += _FANNED
            body = of_many(first, _FANNED)
            waiting = mine.until(numbered(first + _FANNED - 1).encode())
            _post(ours, body)
            recorded[:] = waiting()
            return mine.delivered(_FANNED * _WATCHERS)

        our_slice()
        last_recorded = numbered(first + _FANNED - 1).encode()
        (folder / "fan").write_bytes(stored(recorded))
        other = closers.enter_context(serving("frames", str(folder / "fan")))
        theirs = closers.enter_context(
            _watching(other.address, "/bench.Frames/Fan", b"", _WATCHERS)
        )
        bare = closers.enter_context(grpc.insecure_channel(other.address))
        go: Any = bare.unary_unary("/bench.Frames/Go")

        def their_slice() -> Slice:
            waiting = theirs.until(last_recorded)
            go(b"")
            waiting()
            return theirs.delivered(_FANNED * _WATCHERS)

        return measured(
            f"fan-out to {_WATCHERS} watchers, changes delivered",
            our_slice,
            "ready frames written by a bare server",
            their_slice,
            floor=0.80,
            # A slice is 0.03 s.
            pairs=4 * pairs,
        )


def _latency(ours: ServerProcess, watchers: int, pairs: int) -> Row:
    with serving("post_to_frame") as other, ExitStack() as closers:
        sides = []
        for http, target, method in (
            (ours.http.removeprefix("http://"), ours.grpc, WATCH),
            (*other.address.split(), "/bench.Frames/Watch"),
        ):
            closers.enter_context(idle_watchers(target, method, watchers - 1))
            poster = closers.enter_context(Poster(http))
            sides.append(_timed(poster, target, method))
        return measured_times(
            f"callback posted to change at a watcher, of {watchers}, 100/s",
            sides[0],
            "a post, a sync and a frame in one process",
            sides[1],
            ceiling=1.5,
            pairs=pairs,
        )


def _timed(poster: "Poster", target: str, method: str) -> Callable[[], Slice]:
    """Each slice is of a new watcher: where it stands among the others is chance."""

    def a_slice() -> Slice:
        with _watching(target, method, NOW, 1) as watcher:
            return posted_to(watcher)

    def posted_to(watcher: "_Watchers") -> Slice:
        taken = []
        due_s = time.perf_counter()
        for _ in range(_POSTS):
            # Not before its time, however late the one before was.
            due_s += _POST_S
            while (left_s := due_s - time.perf_counter()) > 0:
                time.sleep(left_s)
            one = next(_fresh)
            waiting = watcher.until(numbered(one).encode())
            began_s = time.perf_counter()
            poster.post(of_many(one, 1))
            waiting()
            taken.append(int((watcher.last_s - began_s) * 1e6))
        return Slice(0.0, taken)

    return a_slice


_HEAD = re.compile(rb"HTTP/1.1 (\d+).*?\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"content-length: (\d+)")
_UNBOUNDED = [("grpc.max_receive_message_length", -1)]


def opened(channel: grpc.Channel, method: str, request: bytes) -> Any:
    call: Any = channel.unary_stream(method)
    return call(request)


class _Watchers:
    """Streams that are read to the end of whatever is waited for, on a thread each."""

    def __init__(self, streams: Sequence[Any]) -> None:
        self.last_s = 0.0
        """When the last of them had it."""
        self._first_s = 0.0
        self._wanted = b""
        self._left = 0
        self._changed = threading.Condition()
        self._frames: list[bytes] = []
        for number, stream in enumerate(streams):
            next(stream)
            threading.Thread(target=self._read, args=(stream, number == 0), daemon=True).start()
        self._count = len(streams)

    def until(self, wanted: bytes) -> Callable[[], list[bytes]]:
        """To be called before it is sent; what it returns waits, and gives one's frames."""
        with self._changed:
            self._wanted, self._left, self._frames = wanted, self._count, []
            self._first_s = 0.0
        return self._wait

    def delivered(self, changes: int) -> Slice:
        """So many, from the first frame at one of them to the last at all: without the folding."""
        return Slice(changes / (self.last_s - self._first_s), [])

    def _wait(self) -> list[bytes]:
        with self._changed:
            assert self._changed.wait_for(lambda: self._left == 0, 30)
            return self._frames

    def _read(self, stream: Any, keeps: bool) -> None:
        try:
            for frame in stream:
                self._first_s = self._first_s or time.perf_counter()
                if keeps:
                    self._frames.append(frame)
                if self._wanted in frame:
                    with self._changed:
                        self._left -= 1
                        if not self._left:
                            self.last_s = time.perf_counter()
                            self._changed.notify_all()
        except grpc.RpcError:
            return


@contextmanager
def _watching(target: str, method: str, request: bytes, count: int) -> Iterator[_Watchers]:
    with grpc.insecure_channel(target, options=_UNBOUNDED) as channel:
        streams = [opened(channel, method, request) for _ in range(count)]
        try:
            yield _Watchers(streams)
        finally:
            for stream in streams:
                stream.cancel()


@contextmanager
def idle_watchers(target: str, method: str, count: int) -> Iterator[None]:
    """They read, and that is all: as cheaply as it can be done. 100 on each connection."""
    if not count:
        yield
        return
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(NOW).to_bytes(4, "big") + NOW)
        body.flush()
        process = subprocess.Popen(
            [  # noqa: S607
                "h2load",
                f"--clients={-(-count // _ON_A_CONNECTION)}",
                f"--max-concurrent-streams={min(count, _ON_A_CONNECTION)}",
                "--duration=3600",
                f"--data={body.name}",
                "--header=content-type: application/grpc",
                "--header=te: trailers",
                f"http://{target}{method}",
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()


class Poster:
    """One connection, one request at a time, at no cost worth naming."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def post(self, body: bytes) -> None:
        """Sent, and answered with 200."""
        head = (
            "POST /instancia/bench/status HTTP/1.1\r\nhost: bench\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        answer = b""
        while (found := _HEAD.match(answer)) is None or len(answer) < found.end() + _length(found):
            more = self._socket.recv(4_096)
            assert more, answer
            answer += more
        assert found[1] == b"200", answer


def _length(head: re.Match[bytes]) -> int:
    found = _LENGTH.search(head[0])
    assert found is not None, head[0]
    return int(found[1])


def _post(server: ServerProcess, body: bytes) -> None:
    with Poster(server.http.removeprefix("http://")) as poster:
        poster.post(body)
