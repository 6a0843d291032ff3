"""What internal services import to ask plugstatus; the command line uses it too.

It needs grpcio, protobuf and the generated code, and nothing else of ours, and lives beside stubs
a caller generated from the same proto file.

    async with StatusClient("127.0.0.1:50051") as client:
        message = await client.get("3EB0…", instance="acme")
        async for response in client.watch(pb.WatchStatusesRequest(from_now=True)):
            ...
"""

from service.client.client import StatusClient
from service.client.failures import CallFailed

__all__ = ["CallFailed", "StatusClient"]
