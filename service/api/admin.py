"""AdminService, as far as it is offered."""

from service.api.calls import Call
from service.api.cursors import Cursors
from service.api.fields import Fields
from service.api.listings import fitting
from service.api.webhooks import WebhookUpdates
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.events import EventKind, Mark, Position
from service.eventlog.log import LogReader
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.views.store import QuarantineRow, ViewsReader
from service.wire import encode
from service.wire.page_token import PageTokens

_BEHIND_ALL = Position(2**62)


class Admin:
    """Each listing raises FieldsInvalid, PageTokenInvalid and ViewsUnavailable."""

    def __init__(
        self,
        webhooks: WebhookUpdates,
        views: ReaderPool[ViewsReader],
        log: ReaderPool[LogReader],
        cursors: Cursors,
        tokens: PageTokens,
        limits: Limits,
    ) -> None:
        self._webhooks = webhooks
        self._views = views
        self._log = log
        self._cursors = cursors
        self._tokens = tokens
        self._limits = limits

    async def update_webhook(
        self, request: pb.UpdateWebhookRequest, call: Call
    ) -> pb.UpdateWebhookResponse:
        """Raises what `WebhookUpdates.update` raises."""
        update = await self._webhooks.update(
            instance=request.instance,
            url=request.url,
            validate_only=request.validate_only,
            request_id=request.request_id,
            caller=call.caller,
        )
        return pb.UpdateWebhookResponse(webhook=encode.webhook(update))

    async def get_webhook(
        self, request: pb.GetWebhookRequest, _call: Call
    ) -> pb.GetWebhookResponse:
        """Raises FieldsInvalid, WebhookNotFound, ViewsUnavailable."""
        update = await self._webhooks.get(request.instance)
        return pb.GetWebhookResponse(webhook=encode.webhook(update))

    async def webhook_updates(
        self, request: pb.ListWebhookUpdatesRequest, _call: Call
    ) -> pb.ListWebhookUpdatesResponse:
        """Every attempt, newest first."""
        page_size = self._page_size(request)
        before = self._tokens.position(request) or _BEHIND_ALL
        found = await self._views.run(
            lambda views: views.webhook_updates(request.instance, before, page_size + 1)
        )
        updates, cut = fitting(
            map(encode.webhook_update, found[:page_size]),
            pb.WebhookUpdate.ByteSize,
            self._limits.page_bytes_max,
        )
        more = cut or len(found) > page_size
        last = found[len(updates) - 1].attempt_position if more else None
        return pb.ListWebhookUpdatesResponse(
            updates=updates,
            next_page_token=self._tokens.behind(request, last) if last else "",
        )

    async def quarantined(
        self, request: pb.ListQuarantinedCallbacksRequest, _call: Call
    ) -> pb.ListQuarantinedCallbacksResponse:
        """Newest first, each with its body. Raises LogUnavailable too."""
        page_size = self._page_size(request)
        before = self._tokens.position(request) or _BEHIND_ALL
        found = await self._views.run(
            lambda views: views.quarantine(request.instance, before, page_size + 1)
        )

        def with_bodies(log: LogReader) -> tuple[list[pb.QuarantinedCallback], bool]:
            callbacks = (self._quarantined(row, log) for row in found[:page_size])
            return fitting(callbacks, pb.QuarantinedCallback.ByteSize, self._limits.page_bytes_max)

        callbacks, cut = await self._log.run(with_bodies)
        more = cut or len(found) > page_size
        last = found[len(callbacks) - 1].position if more else None
        return pb.ListQuarantinedCallbacksResponse(
            callbacks=callbacks,
            next_page_token=self._tokens.behind(request, last) if last else "",
        )

    def _page_size(
        self, request: pb.ListWebhookUpdatesRequest | pb.ListQuarantinedCallbacksRequest
    ) -> int:
        fields = Fields()
        fields.instance("instance", request.instance)
        page_size = fields.page_size("page_size", request.page_size, self._limits)
        fields.done()
        return page_size

    def _quarantined(self, row: QuarantineRow, log: LogReader) -> pb.QuarantinedCallback:
        event = log.event(row.position)
        kept = event is not None and event.kind is not EventKind.TOMBSTONE
        return pb.QuarantinedCallback(
            cursor=self._cursors.codec.end_of(Mark(row.position, row.receive_time_us)),
            instance=row.instance,
            reason=encode.quarantine_reason(row.reason),
            receive_time=encode.timestamp(row.receive_time_us),
            raw=event.content if event is not None and kept else b"",
        )
