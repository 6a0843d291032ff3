"""AdminService: changing the webhook. Its lists are in `listings`."""

from service.api.calls import Call
from service.api.webhooks import WebhookUpdates
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.wire import encode


class Admin:
    def __init__(self, webhooks: WebhookUpdates) -> None:
        self._webhooks = webhooks

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

    async def get_webhook(self, request: pb.GetWebhookRequest, call: Call) -> pb.GetWebhookResponse:
        """Raises FieldsInvalid, InstanceDenied, WebhookNotFound, ViewsUnavailable."""
        update = await self._webhooks.get(request.instance, call.caller)
        return pb.GetWebhookResponse(webhook=encode.webhook(update))
