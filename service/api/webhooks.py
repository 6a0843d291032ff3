"""UpdateWebhook as a process, from the fields' check to the recorded outcome.

1. Check the fields and the credentials. Nothing is recorded yet, nor with `validate_only`.
2. Wait for the turn of the instance, and of the request id if there is one.
3. With a request id, bring the views to the log's head, and look up what was heard before.
4. Record the attempt. What cannot be recorded is not sent.
5. Ask PlugChat, and record the outcome.

Steps 2 to 5 are a task of their own: a caller that leaves ends its waiting and nothing else. A
drain interrupts the waiting and the asking, never the recording, so an attempt that was under way
has the outcome UNKNOWN in the log before the log closes. A server that dies leaves PENDING, which
`recover` turns into UNKNOWN when a server starts.

The whole address is held in memory only. Everything recorded or raised has it redacted.
"""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple

import msgspec
import structlog

from service import errors
from service.api import outcomes
from service.api.access import Caller
from service.api.fields import Fields
from service.api.outcomes import Heard
from service.clock import Clock
from service.config import Limits, Secret
from service.database.readers import ReaderPool
from service.database.turns import LocalTurns, Turns
from service.domain.events import BEFORE_FIRST, EventKind, NewEvent, Position
from service.domain.webhook import (
    Attempt,
    Outcome,
    WebhookState,
    WebhookUpdate,
    attempted,
    concluded,
)
from service.eventlog.group_commit import GroupCommit
from service.eventlog.log import LogReader
from service.plugchat import webhook_url
from service.plugchat.client import PlugchatClient, Sleep
from service.plugchat.credentials import Credentials
from service.telemetry import Metrics
from service.views.store import ViewsReader

_log = structlog.get_logger(__name__)

ViewsReached = Callable[[Position, float], Awaitable[None]]
"""Waits at most so many seconds until the views have reached it; raises ViewsBehind."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)

_NOT_SENT = "nothing was sent, because recording the attempt took too long: run the update again"


class _Wanted(NamedTuple):
    """A checked request."""

    instance: str
    url: Secret
    url_redacted: str
    url_sha256: str
    request_id: str
    caller: str
    begun_s: float


class WebhookUpdates:
    """Changes webhooks, one update of an instance at a time. Bound to one loop."""

    def __init__(
        self,
        *,
        appender: GroupCommit,
        log: ReaderPool[LogReader],
        views: ReaderPool[ViewsReader],
        views_reached: ViewsReached,
        plugchat: PlugchatClient,
        credentials: Credentials,
        clock: Clock,
        limits: Limits,
        allowed_hosts: frozenset[str] | None,
        metrics: Metrics,
        turns: Turns | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`turns` are those of this process, unless others hold across processes."""
        self._appender = appender
        self._log = log
        self._views = views
        self._views_reached = views_reached
        self._plugchat = plugchat
        self._credentials = credentials
        self._clock = clock
        self._limits = limits
        self._allowed_hosts = allowed_hosts
        self._metrics = metrics
        self._turns = LocalTurns() if turns is None else turns
        self._sleep = sleep
        self._draining = False
        self._drain_until_s = 0.0
        self._tasks: set[asyncio.Task[WebhookUpdate]] = set()
        # What a drain cuts short: the waits that are under way now.
        self._waits: set[asyncio.Timeout] = set()
        # Attempts of this process without an outcome: not for `recover` to end.
        self._under_way: set[str] = set()

    async def update(
        self, instance: str, url: str, validate_only: bool, request_id: str, caller: Caller
    ) -> WebhookUpdate:
        """Have PlugChat call `url`; returns the accepted update, within `webhook_update_s`.

        With `validate_only` nothing is sent or recorded, and the state is UNSPECIFIED. With a
        `request_id` whose answer was heard before, that answer is returned or raised again.

        Raises FieldsInvalid, InstanceDenied, CredentialsMissing or RequestIdReused for what has to
        be changed first, and the ProviderError of PlugChat's answer; LimitExceeded if too many
        updates are under way, or the instance's turn does not come in time; ViewsBehind or
        ViewsUnavailable if a request id cannot be looked up; LogUnavailable if the attempt
        cannot be recorded: then nothing was sent. Also LogUnavailable if the outcome cannot, and
        ShuttingDown in a drain: then the update may or may not have been made.
        """
        wanted = self._wanted(instance, url, request_id, caller)
        self._credentials.authorization(instance)
        if validate_only:
            return _checked_only(wanted)
        task = self._begin(wanted)
        try:
            async with asyncio.timeout(self._limits.webhook_update_s):
                return await asyncio.shield(task)
        except TimeoutError:
            raise errors.LogUnavailable(
                "the event log does not answer, and the update is not known to be recorded: see "
                "GetWebhook before you run it again"
            ) from None
        finally:
            if not task.done():
                task.add_done_callback(_log_defect)

    async def get(self, instance: str, caller: Caller) -> WebhookUpdate:
        """The instance's last attempt.

        Raises FieldsInvalid, InstanceDenied, WebhookNotFound if there was none, ViewsUnavailable.
        """
        fields = Fields()
        fields.instance("instance", instance, required=True)
        fields.done()
        caller.visible(instance)
        last = await self._views.run(lambda views: views.last_webhook(instance))
        if last is None:
            raise errors.WebhookNotFound(instance)
        return last

    async def recover(self) -> int:
        """Give every attempt that a server left PENDING the outcome UNKNOWN; returns how many.

        To be called once, when the views stand at the log's head. Earlier does no harm, since an
        outcome that is already in the log stays, but overlooks attempts not folded in yet. One
        whose server may still be at it has the turn of its instance, which is waited for.
        Raises LogUnavailable or ViewsUnavailable.
        """
        pending = await self._views.run(lambda views: views.webhooks_in(WebhookState.PENDING))
        left = [update for update in pending if update.update_id not in self._under_way]
        for update in left:
            async with self._turns.turn(_turn_of(update.instance)):
                outcome = outcomes.abandoned(update)
                await self._append(update.instance, EventKind.WEBHOOK_OUTCOME, outcome)
        return len(left)

    async def drain(self) -> None:
        """Refuse new updates, end those under way, and return once their outcomes are recorded.

        To be called while the log still takes events. Idempotent.
        """
        if not self._draining:
            self._draining = True
            self._drain_until_s = self._clock.monotonic_s() + self._limits.drain_outcome_s
        now_s = asyncio.get_running_loop().time()
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(now_s)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _wanted(self, instance: str, url: str, request_id: str, caller: Caller) -> _Wanted:
        fields = Fields()
        fields.instance("instance", instance, required=True)
        for path, fault in webhook_url.violations(
            url,
            allowed_hosts=self._allowed_hosts,
            characters_max=self._limits.url_characters_max,
        ):
            fields.refuse(path, fault)
        if request_id and not _UUID.fullmatch(request_id):
            fields.refuse("request_id", "must be a UUID, as 8-4-4-4-12 hexadecimal digits")
        fields.done()
        caller.visible(instance)
        return _Wanted(
            instance=instance,
            url=Secret(url),
            url_redacted=webhook_url.redacted(url),
            url_sha256=webhook_url.sha256(url),
            request_id=request_id.lower(),
            caller=caller.name,
            begun_s=self._clock.monotonic_s(),
        )

    def _begin(self, wanted: _Wanted) -> asyncio.Task[WebhookUpdate]:
        if self._draining:
            raise errors.ShuttingDown
        if len(self._tasks) >= self._limits.webhook_updates_max:
            raise errors.LimitExceeded("webhook_updates_max", self._limits.webhook_updates_max)
        task = asyncio.create_task(self._run(wanted), name=f"webhook update of {wanted.instance}")
        # The loop itself keeps only a weak reference.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, wanted: _Wanted) -> WebhookUpdate:
        async with AsyncExitStack() as turns:
            await self._take_turns(wanted, turns)
            return await self._heard_before(wanted) or await self._attempt(wanted)

    async def _take_turns(self, wanted: _Wanted, turns: AsyncExitStack) -> None:
        # The request's turn always comes before the instance's, so nobody waits in a circle.
        names = [f"request {wanted.request_id}"] if wanted.request_id else []
        try:
            async with self._interruptible(self._wait_s(wanted)):
                for name in [*names, _turn_of(wanted.instance)]:
                    await turns.enter_async_context(self._turns.turn(name))
        except TimeoutError:
            raise errors.LimitExceeded("webhook_updates_of_one_instance_max", 1) from None

    async def _heard_before(self, wanted: _Wanted) -> WebhookUpdate | None:
        """The answer that the same request got before; None if it is to be sent."""
        if not wanted.request_id:
            return None
        async with self._interruptible(None):
            head = await self._log.run(lambda log: log.head())
            await self._views_reached(head.position, self._wait_s(wanted))
            earlier = await self._views.run(
                lambda views: views.webhook_by_request(wanted.request_id)
            )
        if earlier is None:
            return None
        if (earlier.instance, earlier.url_sha256) != (wanted.instance, wanted.url_sha256):
            raise errors.RequestIdReused(wanted.request_id)
        return outcomes.heard_again(earlier)

    async def _attempt(self, wanted: _Wanted) -> WebhookUpdate:
        authorization = self._credentials.authorization(wanted.instance)
        attempt = Attempt(
            update_id=str(uuid.uuid4()),
            request_id=wanted.request_id,
            url=wanted.url_redacted,
            url_sha256=wanted.url_sha256,
            updated_by=wanted.caller,
        )
        self._under_way.add(attempt.update_id)
        try:
            position, time_us = await self._append(
                wanted.instance, EventKind.WEBHOOK_ATTEMPT, attempt
            )
            heard = await self._ask(wanted, authorization)
            outcome = heard.outcome(attempt.update_id)
            concluded_at, concluded_us = await self._record_outcome(wanted.instance, outcome)
        finally:
            self._under_way.discard(attempt.update_id)
        self._tell(wanted.instance, outcome)
        await self._wait_until_shown(wanted, concluded_at)
        if heard.fault is not None:
            raise heard.fault
        # Accepted, so the address in force is this one, whatever it was before.
        begun = attempted(attempt, wanted.instance, position, time_us, url_in_force="")
        return concluded(begun, outcome, concluded_us)

    async def _ask(self, wanted: _Wanted, authorization: Secret) -> Heard:
        left_s = self._left_s(wanted) - self._limits.outcome_record_s
        if left_s <= 0:
            return outcomes.heard(errors.LogUnavailable(_NOT_SENT))
        try:
            async with self._interruptible(None):
                await self._plugchat.update_webhook(
                    wanted.url.reveal(), authorization, min(left_s, self._limits.provider_total_s)
                )
        except Exception as error:  # noqa: BLE001
            # A defect of ours too is recorded first, and raised to the caller afterwards.
            return outcomes.heard(error)
        return outcomes.ACCEPTED

    async def _record_outcome(self, instance: str, outcome: Outcome) -> tuple[Position, int]:
        """Its position and time. Raises LogUnavailable after `outcome_appends_max` tries."""
        for attempt in range(self._limits.outcome_appends_max):
            if attempt and self._draining and self._clock.monotonic_s() >= self._drain_until_s:
                # What a drain has no time for: the next start makes the attempt UNKNOWN.
                break
            if attempt:
                with suppress(errors.ShuttingDown):
                    async with self._interruptible(None):
                        await self._sleep(self._limits.retry_s)
            with suppress(errors.LogUnavailable):
                return await self._append(instance, EventKind.WEBHOOK_OUTCOME, outcome)
        raise errors.LogUnavailable(
            "the outcome of the update cannot be recorded: run it again once the log is back"
        )

    async def _wait_until_shown(self, wanted: _Wanted, position: Position) -> None:
        """So that a GetWebhook right after the answer shows it; nothing depends on it."""
        # Half of what is left: the answer itself must not come too late for the wait.
        shown_s = min(self._limits.outcome_shown_s, max(0.0, self._left_s(wanted) / 2))
        with suppress(errors.RetryLater):
            async with self._interruptible(None):
                await self._views_reached(position, shown_s)

    def _tell(self, instance: str, outcome: Outcome) -> None:
        state = outcome.state.name
        self._metrics.webhook_updates.labels(state.lower()).inc()
        _log.info(
            "webhook update concluded", instance=instance, state=state, reason=outcome.error_reason
        )

    async def _append(
        self, instance: str, kind: EventKind, content: Attempt | Outcome
    ) -> tuple[Position, int]:
        time_us = self._clock.now_us()
        event = NewEvent(instance, time_us, kind, msgspec.json.encode(content))
        return await self._appender.append(event), time_us

    @asynccontextmanager
    async def _interruptible(self, seconds: float | None) -> AsyncIterator[None]:
        """Raises ShuttingDown inside once a drain begins, TimeoutError after so many seconds."""
        if self._draining:
            raise errors.ShuttingDown
        try:
            async with asyncio.timeout(seconds) as wait:
                self._waits.add(wait)
                try:
                    yield
                finally:
                    self._waits.discard(wait)
        except TimeoutError:
            if self._draining:
                raise errors.ShuttingDown from None
            raise

    def _left_s(self, wanted: _Wanted) -> float:
        return self._limits.webhook_update_s - (self._clock.monotonic_s() - wanted.begun_s)

    def _wait_s(self, wanted: _Wanted) -> float:
        """How long to wait before the attempt, so that PlugChat still has time for an answer."""
        limits = self._limits
        kept_s = limits.provider_attempt_s + limits.outcome_record_s
        return max(0.0, self._left_s(wanted) - kept_s)


def _turn_of(instance: str) -> str:
    return f"instance {instance}"


def _checked_only(wanted: _Wanted) -> WebhookUpdate:
    return WebhookUpdate(
        instance=wanted.instance,
        update_id="",
        request_id=wanted.request_id,
        url=wanted.url_redacted,
        url_sha256=wanted.url_sha256,
        updated_by=wanted.caller,
        state=WebhookState.UNSPECIFIED,
        update_time_us=0,
        error="",
        error_reason="",
        attempt_time_us=0,
        attempt_position=BEFORE_FIRST,
        url_in_force="",
    )


def _log_defect(task: asyncio.Task[WebhookUpdate]) -> None:
    """Nobody waits for the task any more, so its exception is told here or nowhere."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, errors.PlugstatusError):
        _log.error("webhook update failed", exc_info=error)
