"""MessageStatusService: one message, and many."""

from service.api import lookup
from service.api.calls import Call
from service.api.fields import Fields
from service.api.hub import Hub
from service.api.starts import Starts
from service.config import Limits
from service.database.readers import ReaderPool
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.views.store import ViewsReader
from service.wire import encode
from service.wire.cursor import CursorCodec


class MessageStatuses:
    """Every method raises FieldsInvalid for a field out of bounds, ViewsUnavailable."""

    def __init__(
        self,
        views: ReaderPool[ViewsReader],
        hub: Hub,
        starts: Starts,
        cursors: CursorCodec,
        limits: Limits,
    ) -> None:
        self._views = views
        self._hub = hub
        self._starts = starts
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
            point = await self._starts.at_cursor(request.min_cursor)
            wait_s = min(call.time_left_s, self._limits.min_cursor_wait_s)
            await self._hub.reached(point.place.position, wait_s)
        message = await self._views.run(
            lambda views: lookup.the_one(views, request.instance, request.message_id)
        )
        return pb.GetMessageStatusResponse(message=encode.message_status(message, self._cursors))

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
        found = await self._views.run(
            lambda views: [lookup.candidates(views, request.instance, one) for one in ids]
        )
        response = pb.BatchGetMessageStatusesResponse()
        for message_id, messages in zip(ids, found, strict=True):
            if len(messages) == 1:
                response.messages.append(encode.message_status(messages[0], self._cursors))
            elif messages:
                response.ambiguous.append(message_id)
            else:
                response.not_found.append(message_id)
        return response
