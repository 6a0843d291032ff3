"""The service's ingress over its event log and nothing else: no views, no API.

    python -m benchmarks.sides.ingest

The settings are the service's own. The parts are put together as `service.core` and `service.app`
do it, group commit, fsync, token check and metrics included.
"""

import asyncio
from collections.abc import Sequence

from service import config
from service.app import calm_garbage_collection
from service.cli.options import given_settings
from service.clock import SystemClock
from service.eventlog.group_commit import GroupCommit
from service.ingress.ingress import Ingress
from service.stores import Stores
from service.telemetry import Metrics
from service.wire.cursor import CursorCodec


async def _ready() -> Sequence[str]:
    return []


async def main() -> None:
    settings = config.load(given_settings({}))
    limits = settings.limits
    stores = Stores(settings)
    stores.upgrade()
    appender = GroupCommit(
        stores.log_writer_opener(None, limits),
        lambda: None,
        batch_events_max=limits.batch_events_max,
        batch_bytes_max=limits.batch_bytes_max,
        waiting_events_max=limits.waiting_events_max,
        waiting_bytes_max=limits.waiting_bytes_max,
        waiting_s_max=limits.waiting_s_max,
    )
    appender.start()
    ingress = Ingress(
        settings,
        SystemClock(),
        Metrics(),
        appender,
        CursorCodec(stores.open_log_reader().identity),
        _ready,
    )
    await ingress.start()
    calm_garbage_collection()
    print(ingress.http_bind, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
