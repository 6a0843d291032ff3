"""MessageStatusService: one message, and many."""

import msgspec

from service import errors
from service.api.calls import Call
from service.api.cursors import Cursors
from service.api.fields import Fields
from service.api.hub import Hub
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.message import Message
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.views.store import MessageKey, ViewsReader
from service.wire import encode

_NAMED_INSTANCES_MAX = 10
"""Instances an AMBIGUOUS_MESSAGE_ID names: more would not fit a trailer."""


class _Lookup(msgspec.Struct, frozen=True):
    """What the views hold of one id: exactly one message, none, or several."""

    found: list[Message]

    @property
    def message(self) -> Message | None:
        return self.found[0] if len(self.found) == 1 else None


class MessageStatuses:
    """Every method raises FieldsInvalid for a field out of bounds, ViewsUnavailable."""

    def __init__(
        self, views: ReaderPool[ViewsReader], hub: Hub, cursors: Cursors, limits: Limits
    ) -> None:
        self._views = views
        self._hub = hub
        self._cursors = cursors
        self._limits = limits

    async def get(
        self, request: pb.GetMessageStatusRequest, call: Call
    ) -> pb.GetMessageStatusResponse:
        """The message as it is now, or as it is once the views have reached `min_cursor`.

        Raises MessageNotFound, AmbiguousMessageId, CursorError, ViewsBehind.
        """
        fields = Fields()
        fields.message_id("message_id", request.message_id)
        fields.instance("instance", request.instance)
        fields.done()
        if request.min_cursor:
            point = await self._cursors.resolve(request.min_cursor)
            wait_s = min(call.time_left_s, self._limits.min_cursor_wait_s)
            await self._hub.reached(point.place.position, wait_s)
        lookup = await self._views.run(
            lambda views: _look_up(views, request.instance, request.message_id)
        )
        if lookup.message is None:
            raise _not_one(request.message_id, lookup)
        return pb.GetMessageStatusResponse(
            message=encode.message_status(lookup.message, self._cursors.codec)
        )

    async def batch_get(
        self, request: pb.BatchGetMessageStatusesRequest, _call: Call
    ) -> pb.BatchGetMessageStatusesResponse:
        """Each id once, in the order asked; what is missing or ambiguous is named."""
        fields = Fields()
        if fields.at_most("message_ids", request.message_ids, self._limits.batch_get_ids_max):
            for place, message_id in enumerate(request.message_ids):
                fields.message_id(f"message_ids[{place}]", message_id)
        fields.instance("instance", request.instance)
        fields.done()
        ids = list(dict.fromkeys(request.message_ids))
        lookups = await self._views.run(
            lambda views: [_look_up(views, request.instance, message_id) for message_id in ids]
        )
        response = pb.BatchGetMessageStatusesResponse()
        for message_id, lookup in zip(ids, lookups, strict=True):
            if lookup.message is not None:
                response.messages.append(encode.message_status(lookup.message, self._cursors.codec))
            elif lookup.found:
                response.ambiguous.append(message_id)
            else:
                response.not_found.append(message_id)
        return response


def _look_up(views: ViewsReader, instance: str, message_id: str) -> _Lookup:
    if instance:
        message = views.message(MessageKey(instance, message_id))
        return _Lookup([message] if message else [])
    return _Lookup(views.messages_by_id(message_id, _NAMED_INSTANCES_MAX))


def _not_one(message_id: str, lookup: _Lookup) -> errors.CallerError:
    if not lookup.found:
        return errors.MessageNotFound(message_id)
    return errors.AmbiguousMessageId(message_id, [message.instance for message in lookup.found])
