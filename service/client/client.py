"""An asynchronous client of one plugstatus server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from service.client.cursor_file import CursorFile
from service.client.failures import CallFailed, failed
from service.client.retry import Backoff, RetryPolicy
from service.client.watch import Watch
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs

_OPTIONS = (
    # A dead peer is found although a watch only listens.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The channel's own backoff, up to 2 min by default, would have attempts fail at once that come
    # meanwhile, however long the server is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # This one is how long an attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", 10_000),
)
_DEADLINE_S = 30.0
_RETRY = RetryPolicy()
_LAST_TRY_S = 0.1
"""With less time than this left, a wait does not try again."""
_TIMED_OUT, _LIMIT = "WAIT_TIMED_OUT", "LIMIT_EXCEEDED"
# A call that reaches a server in its last moments may be cancelled by it.
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_READY, _REFUSED = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE

ResponseT = TypeVar("ResponseT")


def is_loopback(target: str) -> bool:
    """Whether HOST:PORT is on this machine; False for every other way to name a server."""
    host = target.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class StatusClient:
    """One channel to one server. Every call raises CallFailed when it fails.

    Use it as an asynchronous context manager, on the loop that created it.
    """

    def __init__(
        self,
        target: str,
        *,
        token: str = "",
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        retry: RetryPolicy = _RETRY,
    ) -> None:
        """Nothing is connected yet.

        `target` is HOST:PORT, or any other name that gRPC resolves. Without `ca_file`, the PEM file
        of the CA that signed the server's certificate, the channel is plain. `certificate_file` and
        `key_file`, PEM too, are for a server that wants a certificate of its clients. `retry` is
        for `watch` and `wait`; other calls are made once.

        Raises ValueError for a token that would leave this machine without TLS, or cannot be one,
        and for a certificate without a CA file or without its key; OSError for a file that cannot
        be read.
        """
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise ValueError("a token has characters that none has: copy it again")
        if token and ca_file is None and not is_loopback(target):
            raise ValueError(
                f"a token is sent over TLS or loopback only, and {target} is neither without the "
                "server's CA file"
            )
        if bool(certificate_file) != bool(key_file) or (certificate_file and not ca_file):
            raise ValueError("a client's certificate needs its key and the server's CA file")
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        if ca_file is None:
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(
                ca_file.read_bytes(),
                key_file.read_bytes() if key_file else None,
                certificate_file.read_bytes() if certificate_file else None,
            )
            self._channel = grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
        self._retry = retry
        self._watches: set[Watch] = set()
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
        """End every call and watch. Idempotent."""
        try:
            for watch in list(self._watches):
                await watch.close()
        finally:
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

    async def wait(
        self,
        message_id: str,
        at_least: pb.Status.ValueType,
        *,
        instance: str = "",
        ignore_failure: bool = False,
        timeout_s: float = 60.0,
        patient: bool = True,
    ) -> pb.MessageStatus:
        """The message once its status is `at_least` or higher, or FAILED: look at its status.

        `at_least` is SENT, RECEIVED, READ or PLAYED. With `ignore_failure` FAILED ends no wait. The
        message may be unknown as yet, and the server may stop and come back meanwhile; with
        `patient=False` it has to be there at first.

        Raises CallFailed with the reason WAIT_TIMED_OUT after `timeout_s` seconds; with the code
        UNAVAILABLE if the server was away then, or at first and `patient` is False; and for what
        can't be answered, such as AMBIGUOUS_MESSAGE_ID.
        """
        request = pb.WaitForStatusRequest(
            message_id=message_id,
            instance=instance,
            at_least=at_least,
            ignore_failure=ignore_failure,
        )
        until_s = time.monotonic() + timeout_s
        backoff = Backoff(self._retry)
        reachable = patient or await self._connected(timeout_s)
        while True:
            left_s = max(0.0, until_s - time.monotonic())
            try:
                response: pb.WaitForStatusResponse = await self._call(
                    self._status.WaitForStatus(request, timeout=left_s, metadata=self._metadata)
                )
            except CallFailed as failure:
                if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
                    # The server gives the reason shortly before, unless its answer is held up.
                    raise CallFailed(failure.code, _TIMED_OUT, str(failure)) from failure
                passing = failure.code in _AWAY or failure.reason == _LIMIT
                left_s = until_s - time.monotonic()
                if not (passing and reachable) or left_s < _LAST_TRY_S:
                    raise
                # However long the backoff has become, there is another try before the end.
                await asyncio.sleep(min(backoff.next_s(), left_s / 2))
            else:
                return response.message

    def watch(
        self,
        request: pb.WatchStatusesRequest,
        *,
        cursor_file: CursorFile | None = None,
        resync: bool = False,
        patient: bool = True,
        views_generation: int = 0,
    ) -> Watch:
        """Changes from the request's start on, in the order of the log, none left out or twice.

            async with client.watch(pb.WatchStatusesRequest(from_now=True)) as watch:
                async for change in watch:
                    ...

        It has no end. When the server stops, is lost, is full or says nothing for four progress
        intervals, the watch opens another stream behind what it last handed out, as often as it
        takes and with the same filter. Nothing is connected before it is iterated over. Leaving
        or closing it, or cancelling the task, cancels the stream; iterated over again after a
        cancellation it goes on in a new one.

        `cursor_file` keeps the place of what was dealt with, for the next process. Once there is
        one in it, it counts instead of the request's start.

        `resync` is for mirrors, which hold a copy of every message that matches: when the cursor
        can't be resumed from (CURSOR_EXPIRED, CURSOR_DIVERGED, CURSOR_AHEAD) or the views were
        rebuilt, the watch begins again with a snapshot. Read `updates()` then: SnapshotBegin says
        when to drop what is held. A mirror that keeps its cursor itself starts with it, and with
        the `views_generation` that it kept beside it.

        With `patient=False` the first stream has to open at the first attempt.

        Iterating raises CallFailed for what trying again would not cure: a cursor as above without
        `resync`, one of another log (CURSOR_FOREIGN), or damaged (CURSOR_INVALID); a wrong filter,
        a wrong token. It raises CursorFileError if the file is in use, damaged or can't be written.
        """
        watch = Watch(
            lambda wanted: self._status.WatchStatuses(wanted, metadata=self._metadata),
            self._watches.discard,
            request,
            self._retry,
            cursor_file=cursor_file,
            resync=resync,
            patient=patient,
            views_generation=views_generation,
        )
        self._watches.add(watch)
        return watch

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

    async def _connected(self, timeout_s: float) -> bool:
        """Whether the server can be reached now."""
        try:
            async with asyncio.timeout(timeout_s):
                state = self._channel.get_state(try_to_connect=True)
                while state not in (_READY, _REFUSED):
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        return state is _READY

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
