"""An asynchronous client of one plugstatus server."""

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from service.client.failures import failed
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs

_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)
_DEADLINE_S = 30.0

ResponseT = TypeVar("ResponseT")


class StatusClient:
    """One channel to one server. Every call raises CallFailed when it fails.

    Use it as an asynchronous context manager, on the loop that created it.
    """

    def __init__(self, target: str, *, token: str = "", ca_file: Path | None = None) -> None:
        """Without `ca_file` the channel is plain; a token is only ever sent over TLS."""
        self._metadata = (("authorization", f"Bearer {token}"),) if token and ca_file else ()
        if ca_file is None:
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(ca_file.read_bytes())
            self._channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
        self._status: Any = stubs.MessageStatusServiceStub(self._channel)
        self._admin: Any = stubs.AdminServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every call under way. Idempotent."""
        await self._channel.close()

    async def get(
        self, message_id: str, *, instance: str = "", min_cursor: str = ""
    ) -> pb.MessageStatus:
        """The message's status; with `min_cursor` as it is once that callback is folded in."""
        request = pb.GetMessageStatusRequest(
            message_id=message_id, instance=instance, min_cursor=min_cursor
        )
        response: pb.GetMessageStatusResponse = await self._call(
            self._status.GetMessageStatus(request, timeout=_DEADLINE_S, metadata=self._metadata)
        )
        return response.message

    async def watch(
        self, request: pb.WatchStatusesRequest
    ) -> AsyncIterator[pb.WatchStatusesResponse]:
        """The frames of one stream, until the server ends it."""
        async for response in self._streamed(self._status.WatchStatuses, request):
            yield response

    async def rebuild_views(self, *, check: bool = False) -> AsyncIterator[pb.RebuildViewsResponse]:
        """Build the views anew, or only compare; how far it is. Leaving ends the rebuild."""
        request = pb.RebuildViewsRequest(check=check)
        async for response in self._streamed(self._admin.RebuildViews, request):
            yield response

    async def forget(self, request: pb.ForgetRequest) -> AsyncIterator[pb.ForgetResponse]:
        """Erase a message or a phone; how far it is. The last one says what went."""
        async for response in self._streamed(self._admin.Forget, request):
            yield response

    async def update_webhook(self, request: pb.UpdateWebhookRequest) -> pb.Webhook:
        """Change the address PlugChat posts the instance's callbacks to."""
        response: pb.UpdateWebhookResponse = await self._call(
            self._admin.UpdateWebhook(request, timeout=_DEADLINE_S, metadata=self._metadata)
        )
        return response.webhook

    async def get_webhook(self, instance: str) -> pb.Webhook:
        """The instance's last attempt to change it, and the address in force."""
        response: pb.GetWebhookResponse = await self._call(
            self._admin.GetWebhook(
                pb.GetWebhookRequest(instance=instance),
                timeout=_DEADLINE_S,
                metadata=self._metadata,
            )
        )
        return response.webhook

    def list_messages(
        self, request: pb.ListMessageStatusesRequest
    ) -> AsyncIterator[pb.MessageStatus]:
        """Every page's messages, last changed first."""
        return self._listed(self._status.ListMessageStatuses, request, "messages")

    def list_recipients(self, request: pb.ListRecipientsRequest) -> AsyncIterator[pb.Recipient]:
        return self._listed(self._status.ListRecipients, request, "recipients")

    def list_reports(self, request: pb.ListStatusReportsRequest) -> AsyncIterator[pb.StatusReport]:
        """Every report heard of the message, in arrival order."""
        return self._listed(self._status.ListStatusReports, request, "reports")

    def list_quarantined(
        self, request: pb.ListQuarantinedCallbacksRequest
    ) -> AsyncIterator[pb.QuarantinedCallback]:
        """Newest first."""
        return self._listed(self._admin.ListQuarantinedCallbacks, request, "callbacks")

    def list_webhook_updates(
        self, request: pb.ListWebhookUpdatesRequest
    ) -> AsyncIterator[pb.WebhookUpdate]:
        """Newest first."""
        return self._listed(self._admin.ListWebhookUpdates, request, "updates")

    async def service_status(self) -> pb.GetServiceStatusResponse:
        response: pb.GetServiceStatusResponse = await self._call(
            self._admin.GetServiceStatus(
                pb.GetServiceStatusRequest(), timeout=_DEADLINE_S, metadata=self._metadata
            )
        )
        return response

    async def _streamed(self, rpc: Any, request: Any) -> AsyncIterator[Any]:
        stream = rpc(request, metadata=self._metadata)
        try:
            async for response in stream:
                yield response
        except grpc.aio.AioRpcError as error:
            raise failed(error) from error
        finally:
            stream.cancel()

    async def _listed(self, rpc: Any, request: Any, field: str) -> AsyncIterator[Any]:
        """Every entry of every page. The caller's request is left as it is."""
        page = type(request)()
        page.CopyFrom(request)
        while True:
            response = await self._call(rpc(page, timeout=_DEADLINE_S, metadata=self._metadata))
            for entry in getattr(response, field):
                yield entry
            if not response.next_page_token:
                return
            page.page_token = response.next_page_token

    async def _call(self, call: Awaitable[ResponseT]) -> ResponseT:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise failed(error) from error
