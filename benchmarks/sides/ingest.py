"""The service's ingress over its event log and nothing else: no views, no API.

    python -m benchmarks.sides.ingest

The settings are the service's own. The parts are put together as `service.core` and `service.app`
do it: the receiving process, group commit, fsync, token check and metrics included.
"""

import asyncio
from collections.abc import Sequence

import uvloop

from service import config, interpreter
from service.cli.options import given_settings
from service.eventlog.group_commit import GroupCommit
from service.receiver import Receiver
from service.stores import Stores
from service.telemetry import Metrics


async def _ready() -> Sequence[str]:
    return []


async def serve(settings: config.Config, receiver: Receiver) -> None:
    stores = Stores(settings)
    stores.upgrade()
    appender = GroupCommit(
        stores.log_writer_opener(None, settings.limits), lambda: None, limits=settings.limits
    )
    appender.start()
    identity = stores.open_log_reader().identity
    await receiver.connect(appender, identity, Metrics(http=False).page, _ready)
    await receiver.start()
    interpreter.calm_collection()
    print(receiver.http_bind, flush=True)
    await asyncio.Event().wait()


def main() -> None:
    settings = config.load(given_settings({}))
    uvloop.run(serve(settings, Receiver.forked(settings)))


if __name__ == "__main__":
    main()
