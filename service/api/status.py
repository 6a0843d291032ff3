"""MessageStatusService: one message, many, and one that has to get somewhere."""

import asyncio
import math

from service import errors
from service.api import lookup
from service.api.calls import Call
from service.api.fields import Fields
from service.api.hub import Hub
from service.api.starts import Starts
from service.api.waits import Wait
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.status import Status
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.telemetry import Metrics
from service.views.store import EncodedMessage, ViewsReader
from service.wire import frames

_SHORT_IDS = 100
"""As many are looked up in less than a millisecond."""


class MessageStatuses:
    """Every method returns an encoded response.

    Raises FieldsInvalid for a field out of bounds, ViewsUnavailable.
    """

    def __init__(
        self,
        views: ReaderPool[ViewsReader],
        hub: Hub,
        starts: Starts,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._views = views
        self._hub = hub
        self._starts = starts
        self._limits = limits
        self._metrics = metrics

    async def get(self, request: pb.GetMessageStatusRequest, call: Call) -> bytes:
        """The message as it is now, or as it is once the views have reached `min_cursor`.

        Raises MessageNotFound, AmbiguousMessageId, CursorError, ViewsBehind.
        """
        fields = Fields()
        fields.message_id("message_id", request.message_id)
        fields.instance("instance", request.instance)
        fields.done()
        instances = call.caller.visible(request.instance)
        if request.min_cursor:
            point = await self._starts.at_cursor(request.min_cursor)
            wait_s = min(call.time_left_s, self._limits.min_cursor_wait_s)
            await self._hub.reached(point.place.position, wait_s)
        message = await self._views.run_short(
            lambda views: lookup.the_one(views, instances, request.message_id)
        )
        return frames.of_message(message.encoded)

    async def batch_get(self, request: pb.BatchGetMessageStatusesRequest, call: Call) -> bytes:
        """Each id once, in the order asked; what is missing or ambiguous is named."""
        fields = Fields()
        if fields.at_most("message_ids", request.message_ids, self._limits.batch_get_ids_max):
            for place, message_id in enumerate(request.message_ids):
                fields.message_id(f"message_ids[{place}]", message_id)
        fields.instance("instance", request.instance)
        fields.done()
        instances = call.caller.visible(request.instance)
        ids = list(dict.fromkeys(request.message_ids))
        run = self._views.run_short if len(ids) <= _SHORT_IDS else self._views.run
        found = await run(lambda views: lookup.candidates_of_each(views, instances, ids))
        others = pb.BatchGetMessageStatusesResponse()
        parts = []
        for message_id, messages in found.items():
            if len(messages) == 1:
                parts.append(frames.of_message(messages[0].encoded))
            elif messages:
                others.ambiguous.append(message_id)
            else:
                others.not_found.append(message_id)
        return b"".join([*parts, others.SerializeToString()])

    async def wait(self, request: pb.WaitForStatusRequest, call: Call) -> bytes:
        """The message once it is where the caller wants it, or FAILED.

        Raises WaitTimedOut, AmbiguousMessageId, ShuttingDown.
        """
        fields = Fields()
        fields.message_id("message_id", request.message_id)
        fields.instance("instance", request.instance)
        if request.at_least not in _WAITED_FOR:
            fields.refuse("at_least", "must be SENT, RECEIVED, READ or PLAYED")
        fields.done()
        wait = Wait(
            request.message_id,
            call.caller.visible(request.instance),
            Status(request.at_least),
            ignore_failure=request.ignore_failure,
        )
        self._hub.waits.add(wait)
        wait_s = self._limits.wait_s
        if not math.isinf(call.time_left_s):
            wait_s = self._hub.waits.wait_s(call.time_left_s)
        self._metrics.waits.inc()
        try:
            async with asyncio.timeout(wait_s):
                message = await self._arrival(wait)
        except TimeoutError:
            raise errors.WaitTimedOut(wait_s) from None
        finally:
            self._hub.waits.discard(wait)
            self._metrics.waits.dec()
        return frames.of_message(message.encoded)

    async def _arrival(self, wait: Wait) -> EncodedMessage:
        while True:
            wait.listen()
            found = await self._views.run_short(
                lambda views: lookup.candidates(views, wait.instances, wait.message_id)
            )
            wait.look(found)
            if len(found) > 1:
                raise errors.AmbiguousMessageId(
                    wait.message_id, [message.instance for message in found]
                )
            if found and wait.satisfied_by(found[0].status):
                return found[0]
            await wait.woken()


_WAITED_FOR = (pb.STATUS_SENT, pb.STATUS_RECEIVED, pb.STATUS_READ, pb.STATUS_PLAYED)
