"""A token limited to instances sees what a server would show that never heard of the others.

The same questions are asked with a limited token where others' messages, phones and ids are the
same as its own, and with one of a server that holds nothing else. But for cursors, positions and
times the answers are the same.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf.json_format import MessageToDict

from service.domain.events import Point
from service.domain.message import MessageKey
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.wire.cursor import CursorCodec, InSnapshot, instance_digest
from tests.calls import Api, callback, error_info, post
from tests.secured import TokenFile, bearer
from tests.server_process import ServerProcess

pytestmark = pytest.mark.both_stores

PHONE = "5511900000777"
OWN = ("acme", "acme.two")
FOREIGN = ("aaa-first", "acme-x", "zebra")
UNSAME = {"cursor", "update_time", "receive_time", "occur_time", "next_page_token", "opened"}
"""Fields that differ from server to server, whoever asks."""


class Site:
    """A server, and a limited token of each role."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.api = Api(server.grpc)
        self.http = httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=20)

    async def fill(self, instances: tuple[str, ...]) -> None:
        """The same in each of them, one behind the other."""
        for status in ("SENT", "RECEIVED", "READ"):
            for instance in instances:
                for number in range(4):
                    body = callback(f"M{number}", status, phone=PHONE, participant="77@lid")
                    await post(self.http, body, instance)
                await post(self.http, {"type": "Nonsense", "of": instance}, instance)
        for instance in instances:
            last = callback(f"only-{instance[::-1]}", "SENT", phone=PHONE)
            self.cursor = await post(self.http, last, instance)

    async def close(self) -> None:
        await self.http.aclose()
        await self.api.channel.close()


@pytest.fixture(scope="module")
def servers(store_kind: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One that serves others too, and one that does not."""
    folder: Path = tmp_path_factory.mktemp("tenants")
    tokens = TokenFile(folder / "tokens.toml")
    tokens.put("reading", "tenant", "reader", instances=OWN)
    tokens.put("ruling", "tenant", "admin", instances=OWN)
    tokens.put("all", "everybody", "admin")
    settings = {"API_TOKENS_FILE": str(tokens.path)}
    with (
        ServerProcess(folder / "shared", settings) as shared,
        ServerProcess(folder / "alone", settings) as alone,
    ):
        asyncio.run(_fill(shared, tuple(sorted((*OWN, *FOREIGN)))))
        asyncio.run(_fill(alone, OWN))
        yield shared, alone


async def _fill(server: ServerProcess, instances: tuple[str, ...]) -> None:
    site = Site(server)
    await site.fill(instances)
    request = pb.GetMessageStatusRequest(message_id="M0", instance="acme", min_cursor=site.cursor)
    await site.api.status.GetMessageStatus(request, metadata=bearer("all"), timeout=20)
    await site.close()


@pytest.fixture
async def sites(servers: tuple[ServerProcess, ServerProcess]) -> AsyncIterator[tuple[Site, Site]]:
    both = Site(servers[0]), Site(servers[1])
    yield both
    for site in both:
        await site.close()


def plain(message: Any) -> Any:
    """A response as a dictionary, without what differs from server to server."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(one) for name, one in value.items() if name not in UNSAME}
        return [kept(one) for one in value] if isinstance(value, list) else value

    return kept(MessageToDict(message, preserving_proto_field_name=True))


QUESTIONS: dict[str, tuple[str, Any]] = {
    "get": ("GetMessageStatus", pb.GetMessageStatusRequest(message_id="M0", instance="acme")),
    "get one of one": ("GetMessageStatus", pb.GetMessageStatusRequest(message_id="only-emca")),
    "get of others": ("GetMessageStatus", pb.GetMessageStatusRequest(message_id="only-arbez")),
    "get ambiguous": ("GetMessageStatus", pb.GetMessageStatusRequest(message_id="M1")),
    "batch": (
        "BatchGetMessageStatuses",
        pb.BatchGetMessageStatusesRequest(
            message_ids=["M0", "only-emca", "only-arbez", "only-owt.emca", "unknown"]
        ),
    ),
    "list": ("ListMessageStatuses", pb.ListMessageStatusesRequest(page_size=3)),
    "list by phone": (
        "ListMessageStatuses",
        pb.ListMessageStatusesRequest(phone=PHONE, page_size=2),
    ),
    "list by status": (
        "ListMessageStatuses",
        pb.ListMessageStatusesRequest(statuses=[pb.STATUS_SENT]),
    ),
    "list one": ("ListMessageStatuses", pb.ListMessageStatusesRequest(instance="acme.two")),
    "recipients": ("ListRecipients", pb.ListRecipientsRequest(message_id="only-arbez")),
    "recipients ambiguous": ("ListRecipients", pb.ListRecipientsRequest(message_id="M2")),
    "reports": ("ListStatusReports", pb.ListStatusReportsRequest(message_id="M1", instance="acme")),
    "reports of others": (
        "ListStatusReports",
        pb.ListStatusReportsRequest(message_id="only-arbez"),
    ),
    "wait": (
        "WaitForStatus",
        pb.WaitForStatusRequest(message_id="only-emca", at_least=pb.STATUS_SENT),
    ),
    "wait ambiguous": (
        "WaitForStatus",
        pb.WaitForStatusRequest(message_id="M1", at_least=pb.STATUS_SENT),
    ),
    "quarantine": ("ListQuarantinedCallbacks", pb.ListQuarantinedCallbacksRequest(page_size=4)),
    "webhooks": ("ListWebhookUpdates", pb.ListWebhookUpdatesRequest()),
    "webhook": ("GetWebhook", pb.GetWebhookRequest(instance="acme")),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_answers_are_those_of_a_server_of_its_own(
    sites: tuple[Site, Site], question: str
) -> None:
    """Page by page, errors included; with a token for all they are other ones."""
    rpc, request = QUESTIONS[question]

    shared, alone = [await _answers(site, rpc, request) for site in sites]

    assert shared == alone
    assert not any(name in str(shared) for name in FOREIGN)


async def test_the_comparison_would_find_a_difference(sites: tuple[Site, Site]) -> None:
    """Asked with a token for all, most answers differ."""
    differing = [
        question
        for question, (rpc, request) in QUESTIONS.items()
        if await _answers(sites[0], rpc, request, "all") != await _answers(sites[1], rpc, request)
    ]

    assert len(differing) >= len(QUESTIONS) / 2


async def _answers(site: Site, rpc: str, request: Any, whose: str = "ruling") -> list[Any]:
    """Every page, or the error."""
    stub = site.api.status if hasattr(site.api.status, rpc) else site.api.admin
    page = type(request)()
    page.CopyFrom(request)
    found: list[Any] = []
    while True:
        try:
            response = await getattr(stub, rpc)(page, metadata=bearer(whose), timeout=20)
        except grpc.aio.AioRpcError as error:
            info = error_info(error)
            return [*found, error.code().name, info.reason, dict(info.metadata)]
        found.append(plain(response))
        if not getattr(response, "next_page_token", ""):
            return found
        page.page_token = response.next_page_token


DENIED: dict[str, tuple[str, Any]] = {
    "get": (
        "GetMessageStatus",
        pb.GetMessageStatusRequest(message_id="M0", instance="zebra"),
    ),
    "nowhere": (
        "GetMessageStatus",
        pb.GetMessageStatusRequest(message_id="M0", instance="nowhere"),
    ),
    "batch": (
        "BatchGetMessageStatuses",
        pb.BatchGetMessageStatusesRequest(message_ids=["M0"], instance="zebra"),
    ),
    "list": ("ListMessageStatuses", pb.ListMessageStatusesRequest(instance="zebra")),
    "recipients": (
        "ListRecipients",
        pb.ListRecipientsRequest(message_id="M0", instance="zebra"),
    ),
    "reports": (
        "ListStatusReports",
        pb.ListStatusReportsRequest(message_id="M0", instance="zebra"),
    ),
    "wait": (
        "WaitForStatus",
        pb.WaitForStatusRequest(message_id="M0", instance="zebra", at_least=pb.STATUS_SENT),
    ),
    "watch": (
        "WatchStatuses",
        pb.WatchStatusesRequest(filter=pb.WatchFilter(instances=["acme", "zebra"])),
    ),
    "quarantine": (
        "ListQuarantinedCallbacks",
        pb.ListQuarantinedCallbacksRequest(instance="zebra"),
    ),
    "webhooks": ("ListWebhookUpdates", pb.ListWebhookUpdatesRequest(instance="zebra")),
    "webhook": ("GetWebhook", pb.GetWebhookRequest(instance="zebra")),
    "update": (
        "UpdateWebhook",
        pb.UpdateWebhookRequest(instance="zebra", url="https://a.example.com/"),
    ),
    "rebuild": ("RebuildViews", pb.RebuildViewsRequest(check=True)),
    "forget phone": ("Forget", pb.ForgetRequest(phone=PHONE, dry_run=True)),
    "forget message": (
        "Forget",
        pb.ForgetRequest(message_id="M0", instance="acme", dry_run=True),
    ),
}


@pytest.mark.parametrize("question", DENIED)
async def test_others_are_denied_by_name(sites: tuple[Site, Site], question: str) -> None:
    """An instance the token does not cover is denied whether or not it is there."""
    rpc, request = DENIED[question]
    stub = sites[0].api.status if hasattr(sites[0].api.status, rpc) else sites[0].api.admin
    call = getattr(stub, rpc)(request, metadata=bearer("ruling"), timeout=20)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call.read() if hasattr(call, "read") else call)

    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert error_info(caught.value).reason == "INSTANCE_DENIED"


async def test_fields_come_before_the_instance(sites: tuple[Site, Site]) -> None:
    """A faulty request is told its faults, of whatever instance it is."""
    request = pb.GetMessageStatusRequest(message_id="x" * 129, instance="zebra")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sites[0].api.status.GetMessageStatus(request, metadata=bearer("reading"), timeout=20)

    assert error_info(caught.value).reason == "FIELD_INVALID"


WATCHES = {
    "all of it": pb.WatchStatusesRequest(snapshot=True),
    "by id": pb.WatchStatusesRequest(
        snapshot=True, filter=pb.WatchFilter(message_ids=["M0", "M1", "only-arbez"])
    ),
    "by phone": pb.WatchStatusesRequest(snapshot=True, filter=pb.WatchFilter(phones=[PHONE])),
    "one of its own": pb.WatchStatusesRequest(
        snapshot=True, filter=pb.WatchFilter(instances=["acme.two"])
    ),
    "from the beginning": pb.WatchStatusesRequest(include_unchanged=True),
}
WATCHES["from the beginning"].from_time.FromSeconds(1)


@pytest.mark.parametrize("watch", WATCHES)
async def test_a_watcher_sees_its_own(sites: tuple[Site, Site], watch: str) -> None:
    """In a snapshot, in catching up and live; no frame's cursor names a message of others."""
    seen = []
    for site in sites:
        request = pb.WatchStatusesRequest()
        request.CopyFrom(WATCHES[watch])
        stream = site.api.status.WatchStatuses(request, metadata=bearer("reading"), timeout=60)
        frames = [await stream.read()]
        while frames[-1].WhichOneof("frame") != "caught_up":
            frames.append(await stream.read())
        # Others go first, so that what they said has passed when our own comes.
        for instance in (*FOREIGN, "acme.two"):
            if site is sites[0] or instance in OWN:
                body = callback("M1", "READ", phone=PHONE, participant=f"{watch}@lid")
                await post(site.http, body, instance)
        while not frames[-1].changes.changes:
            frames.append(await stream.read())
        stream.cancel()
        changes = [change for frame in frames for change in frame.changes.changes]
        seen.append([plain(change) for change in changes])
        await _check_cursors(site, frames)

    assert seen[0] == seen[1]
    assert {one["message"]["instance"] for one in seen[0]} <= set(OWN)


async def _check_cursors(site: Site, frames: list[pb.WatchStatusesResponse]) -> None:
    status = await site.api.admin.GetServiceStatus(
        pb.GetServiceStatusRequest(), metadata=bearer("all"), timeout=20
    )
    codec = CursorCodec(status.log_id)
    named = [codec.decode(frame.cursor).snapshot for frame in frames]
    own = {b"", *map(instance_digest, OWN)}

    assert {inside.instance_digest for inside in named if inside and inside.message_id} <= own


async def test_a_snapshot_cursor_is_no_oracle_for_names(sites: tuple[Site, Site]) -> None:
    """A made-up cursor tells nothing of whether an instance that is not ours is there."""
    site = sites[0]
    status = await site.api.admin.GetServiceStatus(
        pb.GetServiceStatusRequest(), metadata=bearer("all"), timeout=20
    )
    codec = CursorCodec(status.log_id)
    listed = await site.api.status.ListMessageStatuses(
        pb.ListMessageStatusesRequest(), metadata=bearer("reading"), timeout=20
    )
    head = codec.decode(listed.cursor)
    reasons = []
    for name in ("zebra", "nowhere"):
        made_up = codec.inside(
            Point(head.place, head.fingerprint), InSnapshot.behind(MessageKey(name, "M0"))
        )
        stream = site.api.status.WatchStatuses(
            pb.WatchStatusesRequest(cursor=made_up), metadata=bearer("reading"), timeout=20
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _drained(stream)
        reasons.append((caught.value.code(), error_info(caught.value).reason))

    assert reasons[0] == reasons[1]


async def _drained(stream: Any) -> None:
    """Read to its end. Raises what it ends with."""
    while await stream.read() != grpc.aio.EOF:
        pass


async def test_the_status_of_the_service_is_that_of_its_own(sites: tuple[Site, Site]) -> None:
    """Instances, watchers, waits and removals of others are not told to a limited administrator."""
    site = sites[0]
    watches = [
        site.api.status.WatchStatuses(
            pb.WatchStatusesRequest(filter=pb.WatchFilter(instances=instances)),
            metadata=bearer(token),
            timeout=60,
        )
        for token, instances in (
            ("reading", []),
            ("all", []),
            ("all", ["zebra"]),
            ("all", ["acme"]),
        )
    ]
    for watch in watches:
        await watch.read()

    told = [
        await site.api.admin.GetServiceStatus(
            pb.GetServiceStatusRequest(), metadata=bearer(token), timeout=20
        )
        for token in ("ruling", "all")
    ]

    assert [one.instance for one in told[0].instances] == list(OWN)
    assert sorted(one.caller for one in told[0].watchers) == ["everybody", "tenant"]
    assert told[0].watcher_count == 2
    assert not told[0].HasField("removals")
    assert len(told[1].instances) == len(OWN) + len(FOREIGN)
    assert told[1].watcher_count == len(watches)
