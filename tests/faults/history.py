"""What happened in a round, as the clients saw it, and the log that came of it.

Times are seconds of the harness's monotonic clock. A history is written to a file as JSON and read
back from it, so that a failed round can be judged again.
"""

from pathlib import Path
from typing import Any

import msgspec
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.faults.bodies import Body

NEVER_S = 1e12
"""Later than everything; infinity has no place in JSON."""


class LoggedEvent(msgspec.Struct, frozen=True):
    """An event as the log holds it."""

    position: int
    instance: str
    time_us: int
    number: int
    """Of the body that it holds."""


class Post(msgspec.Struct):
    """One callback that was posted."""

    body: Body
    sent_s: float
    answered_s: float | None = None
    """None: it was not answered with 200, and may or may not be in the log."""
    cursor: str = ""


class Frame(msgspec.Struct, frozen=True):
    at_s: float
    response: pb.WatchStatusesResponse

    @property
    def kind(self) -> str:
        return str(self.response.WhichOneof("frame"))


class End(msgspec.Struct, frozen=True):
    """How a stream ended."""

    at_s: float
    how: str
    """`ok`, `error`, `cancelled` by the client; `stuck`, or `lost` if not even Opened had come: it
    was waited for in vain."""
    code: str = ""
    reason: str = ""
    details: str = ""


class Resumed(msgspec.Struct, frozen=True):
    """Where a stream's cursor was received."""

    stream: int
    frame: int
    change: int | None = None
    """In that frame. None: the cursor is the frame's own."""


class Stream(msgspec.Struct):
    number: int
    watcher: str
    request: pb.WatchStatusesRequest
    asked_s: float
    prompt: bool = True
    """It reads whatever there is at once."""
    server: int = 0
    """Which of several, each of which learns by itself that views were rebuilt."""
    resumed: Resumed | None = None
    frames: list[Frame] = []
    end: End | None = None


class Outage(msgspec.Struct):
    """From a signal to the server until it was ready again."""

    signal: str
    at_s: float
    up_s: float = NEVER_S


class Rebuild(msgspec.Struct):
    asked_s: float
    done_s: float = NEVER_S


class Sample(msgspec.Struct, frozen=True):
    """What the server says of itself, and what the kernel says of it."""

    at_s: float
    queued_bytes: int
    """The most that waits for one watcher."""
    queue_bytes_max: int
    rss_bytes: int
    run: int
    """Which start of the server it is of."""


class Stall(msgspec.Struct):
    """A time in which a client took nothing from its connection."""

    stream: int
    from_s: float
    until_s: float = NEVER_S
    posted: str = ""
    """The cursor of the last callback that was posted meanwhile."""
    posted_s: float = 0.0


class Wait(msgspec.Struct):
    """One call of WaitForStatus."""

    request: pb.WaitForStatusRequest
    asked_s: float
    timeout_s: float
    end: End | None = None
    message: pb.MessageStatus | None = None


class History(msgspec.Struct):
    seed: int
    log_identity: str = ""
    events: list[LoggedEvent] = []
    posts: list[Post] = []
    streams: list[Stream] = []
    outages: list[Outage] = []
    rebuilds: list[Rebuild] = []
    samples: list[Sample] = []
    stalls: list[Stall] = []
    waits: list[Wait] = []
    last_cursor: str = ""
    """Of the last callback answered: what is open then has to come so far."""


def save(history: History, path: Path) -> None:
    path.write_bytes(msgspec.json.encode(history, enc_hook=_encoded))


def load(path: Path) -> History:
    return msgspec.json.decode(path.read_bytes(), type=History, dec_hook=_decoded)


def _encoded(value: Any) -> Any:
    assert isinstance(value, Message)
    return MessageToDict(value, preserving_proto_field_name=True)


def _decoded(kind: type, value: Any) -> Any:
    assert issubclass(kind, Message)
    return ParseDict(value, kind())
