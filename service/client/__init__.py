"""What internal services import to ask plugstatus; the command line uses it too.

It needs grpcio, protobuf and the generated code, and nothing else, and lives beside stubs that a
caller generated from the same proto file.

    from service.client import StatusClient
    from service.gen.plugchat.status.v1 import status_pb2 as pb

    async with StatusClient("127.0.0.1:50051") as client:
        message = await client.get("3EB0…", instance="acme")
        message = await client.wait("3EB0…", pb.STATUS_READ, instance="acme")
        async with client.watch(pb.WatchStatusesRequest(from_now=True)) as watch:
            async for change in watch:
                ...
"""

from service.client.client import StatusClient, is_loopback
from service.client.cursor_file import Bookmark, CursorFile, CursorFileError, CursorFileInUse
from service.client.failures import CallFailed
from service.client.retry import RetryPolicy
from service.client.updates import (
    CaughtUp,
    Changes,
    FellBehind,
    Interrupted,
    Opened,
    Progress,
    SnapshotBegin,
    SnapshotEnd,
    Update,
)
from service.client.watch import Watch

__all__ = [
    "Bookmark",
    "CallFailed",
    "CaughtUp",
    "Changes",
    "CursorFile",
    "CursorFileError",
    "CursorFileInUse",
    "FellBehind",
    "Interrupted",
    "Opened",
    "Progress",
    "RetryPolicy",
    "SnapshotBegin",
    "SnapshotEnd",
    "StatusClient",
    "Update",
    "Watch",
    "is_loopback",
]
