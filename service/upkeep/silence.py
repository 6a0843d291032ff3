"""What is missing: callbacks that should have come by now.

PlugChat promises no delivery, so what goes wrong shows as nothing at all. Looked for are

    an instance     that was heard of within the last days, and not for `silent_after_s`
    messages        that were SENT `stuck_after_s` ago or earlier, and never heard of again
    a webhook       that PlugChat accepted, behind which no callback came for `unconfirmed_s`
    events          that the views have not folded for `behind_s`
"""

import asyncio
import time
from collections.abc import Sequence
from enum import IntEnum

import msgspec
import structlog

from service import errors
from service.clock import US_PER_S, Clock
from service.config import Config
from service.database.readers import ReaderPool
from service.domain.events import Position
from service.domain.status import Status
from service.domain.webhook import WebhookState
from service.eventlog.log import LogReader
from service.telemetry import Metrics
from service.views.store import ViewsReader

_log = structlog.get_logger(__name__)

_PAGE = 1_000
_FRESH_S = 5.0
"""So long what was found is given again."""


class Missing(IntEnum):
    """The numbers are those of the proto."""

    INSTANCE_SILENT = 1
    MESSAGES_STUCK = 2
    WEBHOOK_UNCONFIRMED = 3
    VIEWS_BEHIND = 4


class Finding(msgspec.Struct, frozen=True):
    kind: Missing
    since_us: int
    """0 where there is no one time."""
    instance: str = ""
    """Empty where all are concerned."""
    count: int = 1
    """Messages, or events."""


class Silence:
    """Bound to the loop that runs it."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        log: ReaderPool[LogReader],
        views: ReaderPool[ViewsReader],
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._limits = config.limits
        self._clock = clock
        self._log = log
        self._views = views
        self._metrics = metrics
        self._found: Sequence[Finding] = ()
        self._found_s = -_FRESH_S
        self._told: set[tuple[Missing, str]] = set()

    async def run(self) -> None:
        """Look now and again, for the metrics and the log, until cancelled."""
        while True:
            try:
                self._tell(await self.found())
            except errors.RetryLater:
                pass
            except Exception:  # noqa: BLE001
                _log.exception("looking for what is missing failed, trying again later")
            await asyncio.sleep(self._limits.silence_pause_s)

    async def found(self) -> Sequence[Finding]:
        """All there is now, or was seconds ago, longest missing first within a kind.

        Raises LogUnavailable, ViewsUnavailable.
        """
        if time.monotonic() - self._found_s >= _FRESH_S:
            now_us = self._clock.now_us()
            behind = await self._behind(now_us)
            spans = await self._log.run(lambda log: self._spans(log, now_us))
            of_views = await self._views.run(lambda views: self._in_views(views, now_us, spans))
            self._found = [*behind, *of_views]
            self._found_s = time.monotonic()
        return self._found

    async def _behind(self, now_us: int) -> list[Finding]:
        mark = (await self._views.run(lambda views: views.checkpoint())).mark

        def look(log: LogReader) -> list[Finding]:
            waiting = log.read(mark.position, events_max=1, bytes_max=1)
            since_us = waiting[0].receive_time_us if waiting else now_us
            if now_us - since_us < self._limits.behind_s * US_PER_S:
                return []
            count = log.head().position - mark.position
            return [Finding(Missing.VIEWS_BEHIND, since_us, count=count)]

        return await self._log.run(look)

    def _spans(self, log: LogReader, now_us: int) -> tuple[Position, Position]:
        """From which position on, and up to which one, messages are stuck."""
        times = (self._limits.silence_days * 86_400, self._config.stuck_after_s)
        head = Position(log.head().position + 1)
        first, until = (
            log.received_from(now_us - int(seconds * US_PER_S)) or head for seconds in times
        )
        return first, until

    def _in_views(
        self, views: ViewsReader, now_us: int, span: tuple[Position, Position]
    ) -> list[Finding]:
        stuck = views.count_of_status(Status.SENT, *span, self._limits.stuck_count_max)
        return [
            *self._silent(views, now_us),
            *([Finding(Missing.MESSAGES_STUCK, 0, count=stuck)] if stuck else []),
            *self._unconfirmed(views, now_us),
        ]

    def _silent(self, views: ViewsReader, now_us: int) -> list[Finding]:
        found: list[Finding] = []
        name = ""
        longest_us = int(self._limits.silence_days * 86_400 * US_PER_S)
        least_us = int(self._config.silent_after_s * US_PER_S)
        while page := views.instances(name, _PAGE):
            name = page[-1].instance
            found += [
                Finding(Missing.INSTANCE_SILENT, one.last_callback_time_us, one.instance)
                for one in page
                if least_us <= now_us - one.last_callback_time_us < longest_us
            ]
        return sorted(found, key=lambda one: one.since_us)

    def _unconfirmed(self, views: ViewsReader, now_us: int) -> list[Finding]:
        least_us = int(self._limits.unconfirmed_s * US_PER_S)
        accepted = views.webhooks_in(WebhookState.ACCEPTED)
        # Of an instance only the last update counts, and one that PlugChat took is in force.
        last = {one.instance: one for one in accepted}
        return [
            Finding(Missing.WEBHOOK_UNCONFIRMED, one.update_time_us, one.instance)
            for one in last.values()
            if now_us - one.update_time_us >= least_us
            and (newest := views.last_webhook(one.instance)) is not None
            and newest.update_id == one.update_id
        ]

    def _tell(self, found: Sequence[Finding]) -> None:
        counts = dict.fromkeys(Missing, 0)
        for one in found:
            counts[one.kind] += one.count
        self._metrics.silent_instances.set(counts[Missing.INSTANCE_SILENT])
        self._metrics.stuck_messages.set(counts[Missing.MESSAGES_STUCK])
        self._metrics.unconfirmed_webhooks.set(counts[Missing.WEBHOOK_UNCONFIRMED])
        now = {(one.kind, one.instance) for one in found if one.instance}
        for kind, instance in sorted(now - self._told):
            _log.warning("callbacks are missing", what=kind.name.lower(), instance=instance)
        for kind, instance in sorted(self._told - now):
            _log.info("callbacks are there again", what=kind.name.lower(), instance=instance)
        self._told = now
