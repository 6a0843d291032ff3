"""Random callbacks, the stores they make, and what they come to by a model of a few lines."""

import json
import random
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from service.config import Limits
from service.database.schema import Store
from service.domain.events import EventKind, NewEvent
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.projector.follower import Follower
from service.wire.cursor import CursorCodec
from tests.calls import Api
from tests.stores import log_writer, rows, stores_of

BEGIN_US = 1_793_491_200_000_000
WORDS = {
    "SENT": pb.STATUS_SENT,
    "MESSAGE_RECEIVED": pb.STATUS_RECEIVED,
    "read": pb.STATUS_READ,
    "PLAYED": pb.STATUS_PLAYED,
    "READ-SELF": pb.STATUS_READ_BY_ME,
    "PENDING": pb.STATUS_PENDING,
    "FAILED": pb.STATUS_FAILED,
    "whatever": pb.STATUS_UNRECOGNIZED,
}
_PAGE = 1_000

Said = tuple[str, dict[str, Any]]
"""The instance and the body of a callback."""


class State(NamedTuple):
    """What is told of a message."""

    status: int
    report_count: int
    phone: str
    recipient_count: int


def random_callbacks(chance: random.Random, count: int, ids: int = 300) -> list[Said]:
    """Disordered and repeated ones about so many ids of two instances, and some for quarantine."""
    return [(chance.choice(["acme", "b"]), _random_body(chance, ids)) for _ in range(count)]


def _random_body(chance: random.Random, ids: int) -> dict[str, Any]:
    if chance.random() < 0.05:
        return chance.choice([{"type": "NoSuchCallback"}, {"status": "READ"}, {"type": 7}])
    body: dict[str, Any] = {
        "type": "MessageStatusCallback",
        "status": chance.choice(list(WORDS)),
        "ids": [f"M{chance.randrange(ids)}" for _ in range(chance.choice([1, 1, 1, 3]))],
        "phone": chance.choice(["", "5544999999999", "5511900000102"]),
    }
    if chance.random() < 0.2:
        body["participant"] = f"77{chance.randrange(4)}"
    return body


def modelled(said: list[Said]) -> dict[tuple[str, str], State]:
    """What these callbacks come to: the greatest rank, a count, the first phone, who was named."""
    found: dict[tuple[str, str], State] = {}
    people: dict[tuple[str, str], set[str]] = defaultdict(set)
    for instance, body in said:
        for key in [(instance, one) for one in dict.fromkeys(body.get("ids", ()))]:
            old = found.get(key, State(0, 0, "", 0))
            people[key] |= {body["participant"]} if "participant" in body else set()
            status, phone = max(old.status, WORDS[body["status"]]), old.phone or body["phone"]
            found[key] = State(status, old.report_count + 1, phone, len(people[key]))
    return found


def events_of(said: list[Said], first: int = 1) -> list[NewEvent]:
    return [
        NewEvent(instance, BEGIN_US + number, EventKind.CALLBACK, json.dumps(body).encode())
        for number, (instance, body) in enumerate(said, start=first)
    ]


def recorded(data_dir: Path, said: list[Said]) -> None:
    """Make a data folder whose log holds these, folded into its views."""
    stores = stores_of(data_dir)
    if said:
        with closing(log_writer(data_dir)) as log:
            log.append(events_of(said))
    with (
        closing(stores.open_log_reader()) as reader,
        closing(stores.open_views_writer(reader.identity)) as writer,
    ):
        cursors = CursorCodec(reader.identity)
        live = Follower(reader, writer, cursors, Limits(), Limits().fold_events_max)
        while waiting := live.waiting():
            live.advance(waiting)


def log_of(data_dir: Path) -> list[tuple[Any, ...]]:
    """The log's identity and every event, past the service."""
    return [
        *rows(data_dir, Store.EVENT_LOG, "SELECT identity FROM log"),
        *rows(data_dir, Store.EVENT_LOG, "SELECT * FROM events ORDER BY position"),
    ]


def spare_rows(data_dir: Path) -> int:
    """How many rows the slot that is not live holds."""
    tables = ("messages", "recipients", "feed", "quarantine", "webhooks", "instances")
    ((live,),) = rows(data_dir, Store.VIEWS, "SELECT live_slot FROM views")
    spare = "b" if live == "a" else "a"
    counts = [
        rows(data_dir, Store.VIEWS, f"SELECT count(*) FROM {table}_{spare}")[0][0]
        for table in tables
    ]
    return sum(counts)


async def listed(api: Api) -> dict[tuple[str, str], State]:
    """What the server tells of every message."""
    found: dict[tuple[str, str], State] = {}
    token = ""
    while True:
        page: pb.ListMessageStatusesResponse = await api.status.ListMessageStatuses(
            pb.ListMessageStatusesRequest(page_size=_PAGE, page_token=token), timeout=30
        )
        for message in page.messages:
            assert (message.instance, message.message_id) not in found
            found[message.instance, message.message_id] = state_of(message)
        token = page.next_page_token
        if not token:
            return found


def state_of(message: pb.MessageStatus) -> State:
    return State(message.status, message.report_count, message.phone, message.recipient_count)
