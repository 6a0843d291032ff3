"""The whole log, read now and again: damage is found before somebody needs what is lost.

After each start the newest events come first, which a power failure could have hurt; then, once a
day, all of them from the first one on. It takes a small part of one reader's time, so a log of a
hundred gigabytes takes most of a day. An event whose checksum is another one is told of, and kept.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import structlog

from service import errors
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.events import Event, Position
from service.eventlog.log import LogReader
from service.telemetry import Metrics

_log = structlog.get_logger(__name__)

_TOLD_MAX = 10
"""Damaged events that are told one by one in a pass."""

_PART = 0.1
"""Of the time of one reader."""


class Scrub:
    """Bound to the loop that runs it."""

    def __init__(self, log: ReaderPool[LogReader], limits: Limits, metrics: Metrics) -> None:
        self._log = log
        self._limits = limits
        self._metrics = metrics
        self._known = 0

    async def run(self) -> None:
        """Until cancelled."""
        try:
            head = await self._log.run(lambda log: log.head())
            newest = Position(max(0, head.position - self._limits.scrub_tail_events))
            await self._pass(newest)
        except errors.RetryLater:
            pass
        while True:
            try:
                first = await self._log.run(lambda log: log.kept_from())
                damaged = await self._pass(Position(first - 1))
            except errors.RetryLater as error:
                _log.error("the event log cannot be read to its end", reason=str(error))
                self._metrics.log_unreadable.set(1)
            except Exception:  # noqa: BLE001
                _log.exception("reading the whole event log failed, trying again later")
            else:
                self._metrics.log_unreadable.set(0)
                self._known = damaged
                self._metrics.damaged_events.set(damaged)
                self._metrics.scrubbed_at.set_to_current_time()
            await asyncio.sleep(self._limits.scrub_pause_s)

    async def _pass(self, after: Position) -> int:
        """From there to the end; how many damaged events there are. Raises LogUnavailable."""
        damaged = 0
        while True:
            began_s = time.monotonic()
            page = await self._log.run(partial(self._page, after))
            if not page:
                return damaged
            after = page[-1].position
            for event in page:
                if event.damaged:
                    damaged += 1
                    self._tell(event, damaged)
            await asyncio.sleep((time.monotonic() - began_s) * (1 / _PART - 1))

    def _page(self, after: Position, log: LogReader) -> Sequence[Event]:
        return log.read(after, self._limits.scrub_events_max, self._limits.scrub_bytes_max)

    def _tell(self, event: Event, damaged: int) -> None:
        self._known = max(self._known, damaged)
        self._metrics.damaged_events.set(self._known)
        if damaged <= _TOLD_MAX:
            _log.error(
                "an event of the log is damaged: see Damage in docs/operating.md",
                position=event.position,
            )
