"""What a gRPC client hears when retention removes what it has not read yet."""

import dataclasses
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from service.app import Application
from service.config import Limits
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, error_info
from tests.clock import FakeClock
from tests.histories import BEGIN_US, Said, recorded
from tests.stores import loaded

DAY_US = 24 * 3_600 * 1_000_000
LITTLE_ON_ITS_WAY = ("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536)
"""A window of 64 KiB a stream; a client that measures its line lets it grow to megabytes."""
IDS, CALLBACKS = 20, 500
SMALL_PAGES = Limits(catch_up_rows_max=2 * IDS, frame_changes_max=1)
LONG: list[Said] = [
    ("acme", callback("", ids=[f"M{number}-{each}" for each in range(IDS)]))
    for number in range(CALLBACKS)
]
"""Many more frames than are on its way to a client that does not read."""


async def test_a_client_that_reads_slowly_is_told(tmp_path: Path) -> None:
    """The changes on their way still come, in order and without a gap; then the stream ends with
    OUT_OF_RANGE and CURSOR_EXPIRED. What it starts then is served, and the removal is counted."""
    recorded(tmp_path, LONG)
    settings = loaded(tmp_path, HTTP_BIND="127.0.0.1:0", GRPC_BIND="127.0.0.1:0")
    settings = dataclasses.replace(settings, limits=SMALL_PAGES)
    async with Application(settings, FakeClock(BEGIN_US + 10 * DAY_US)) as application:
        assert application._grpc is not None
        api = Api(f"127.0.0.1:{application._grpc.port}", *LITTLE_ON_ITS_WAY)
        stream = api.watch(pb.WatchStatusesRequest(from_time=Timestamp(seconds=1)))
        await stream.until("changes")
        await application._core.upkeep.retain(1.5)
        with pytest.raises(grpc.aio.AioRpcError) as expired:
            await stream.until("caught_up")
        with pytest.raises(grpc.aio.AioRpcError) as again:
            await api.watch(pb.WatchStatusesRequest(cursor=stream.responses[-1].cursor)).next()
        anew = api.watch(pb.WatchStatusesRequest(from_now=True))
        await anew.until("caught_up")
        status = await api.admin.GetServiceStatus(pb.GetServiceStatusRequest())
        last = await api.get(f"M{CALLBACKS - 1}-0")
        anew.cancel()
        await api.channel.close()
    sent = [
        change.message.message_id
        for response in stream.responses
        for change in response.changes.changes
    ]

    assert expired.value.code() is again.value.code() is grpc.StatusCode.OUT_OF_RANGE
    assert error_info(expired.value).reason == error_info(again.value).reason == "CURSOR_EXPIRED"
    assert sent == [one for _, body in LONG for one in body["ids"]][: len(sent)]
    assert 0 < len(sent) < IDS * CALLBACKS
    assert status.removals.expired_event_count == CALLBACKS - 1
    assert status.removals.oldest_event_time.ToMicroseconds() == BEGIN_US + CALLBACKS
    assert last.status == pb.STATUS_SENT
