"""Every list of both services, a page at a time.

Every list goes on behind the key of its last row, so a page costs the same wherever it is, and
rows that come or change meanwhile shift nothing. A page ends at page_size entries, or as soon as
it holds `page_bytes_max` bytes, so it may be shorter than asked and still have a token.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

from service.api import lookup
from service.api.access import Caller
from service.api.calls import Call
from service.api.fields import Fields
from service.config import Limits
from service.database.readers import ReaderPool
from service.domain.events import BEFORE_FIRST, END_OF_CALLBACK, EventKind, Mark, Place, Position
from service.domain.message import MessageKey
from service.domain.status import Status
from service.eventlog.log import LogReader
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.views.store import MessageFilter, QuarantineRow, ViewsReader
from service.wire import encode
from service.wire.cursor import CursorCodec
from service.wire.page_token import PageTokens

EntryT = TypeVar("EntryT")

_BEFORE_ALL = Place(BEFORE_FIRST)
_NEWEST = Position(2**62)
_BEHIND_ALL = Place(_NEWEST, END_OF_CALLBACK)


def fitting(
    entries: Iterable[EntryT], size_of: Callable[[EntryT], int], bytes_max: int
) -> tuple[list[EntryT], bool]:
    """The entries up to the one that reaches `bytes_max` bytes, and whether some were left."""
    taken: list[EntryT] = []
    size = 0
    for entry in entries:
        if taken and size >= bytes_max:
            return taken, True
        taken.append(entry)
        size += size_of(entry)
    return taken, False


class Listings:
    """Each method raises FieldsInvalid, PageTokenInvalid and ViewsUnavailable."""

    def __init__(
        self,
        views: ReaderPool[ViewsReader],
        log: ReaderPool[LogReader],
        cursors: CursorCodec,
        tokens: PageTokens,
        limits: Limits,
    ) -> None:
        self._views = views
        self._log = log
        self._cursors = cursors
        self._tokens = tokens
        self._limits = limits

    async def messages(
        self, request: pb.ListMessageStatusesRequest, call: Call
    ) -> pb.ListMessageStatusesResponse:
        """Last changed first; `cursor` is from before the page was read."""
        page_size, wanted = self._wanted(request, call.caller)
        before = self._tokens.place(request) or _BEHIND_ALL
        checkpoint = await self._views.run(lambda views: views.checkpoint())
        page = await self._views.run(
            lambda views: views.last_changed(
                wanted, before, page_size, self._limits.page_looked_max
            )
        )
        found = map(pb.MessageStatus.FromString, page.encoded)
        messages, cut = fitting(found, pb.MessageStatus.ByteSize, self._limits.page_bytes_max)
        end = page.messages[len(messages) - 1].changed_at if cut else page.end
        return pb.ListMessageStatusesResponse(
            messages=messages,
            next_page_token=self._tokens.behind(request, end.position, end.index) if end else "",
            cursor=self._cursors.end_of(checkpoint.mark),
        )

    async def recipients(
        self, request: pb.ListRecipientsRequest, call: Call
    ) -> pb.ListRecipientsResponse:
        """By participant. Raises MessageNotFound, AmbiguousMessageId."""
        page_size, instances = self._of_message(request, call.caller)
        after = self._tokens.name(request) or ""
        key = await self._message(request, instances)
        found = await self._views.run(lambda views: views.recipients(key, after, page_size + 1))
        page = found[:page_size]
        more = len(found) > page_size
        return pb.ListRecipientsResponse(
            recipients=[encode.recipient(one) for one in page],
            next_page_token=self._tokens.behind(request, page[-1].participant) if more else "",
        )

    async def reports(
        self, request: pb.ListStatusReportsRequest, call: Call
    ) -> pb.ListStatusReportsResponse:
        """In log order, repeated ones too, each with the body it came in.

        Raises MessageNotFound, AmbiguousMessageId, LogUnavailable.
        """
        page_size, instances = self._of_message(request, call.caller)
        after = self._tokens.place(request) or _BEFORE_ALL
        key = await self._message(request, instances)
        found = await self._views.run(lambda views: views.reports(key, after, page_size + 1))

        def with_bodies(log: LogReader) -> tuple[list[pb.StatusReport], bool]:
            reports = (_report(one.report, log, one.place.position) for one in found[:page_size])
            return fitting(reports, pb.StatusReport.ByteSize, self._limits.page_bytes_max)

        reports, cut = await self._log.run(with_bodies)
        more = cut or len(found) > page_size
        last = found[len(reports) - 1].place if more else None
        return pb.ListStatusReportsResponse(
            reports=reports,
            next_page_token=self._tokens.behind(request, last.position, last.index) if last else "",
        )

    async def webhook_updates(
        self, request: pb.ListWebhookUpdatesRequest, call: Call
    ) -> pb.ListWebhookUpdatesResponse:
        """Every attempt, newest first."""
        page_size, instances = self._of_instance(request, call.caller)
        before = self._tokens.position(request) or _NEWEST
        found = await self._views.run(
            lambda views: views.webhook_updates(instances, before, page_size + 1)
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
        self, request: pb.ListQuarantinedCallbacksRequest, call: Call
    ) -> pb.ListQuarantinedCallbacksResponse:
        """Newest first, each with its body. Raises LogUnavailable too."""
        page_size, instances = self._of_instance(request, call.caller)
        before = self._tokens.position(request) or _NEWEST
        found = await self._views.run(
            lambda views: views.quarantine(instances, before, page_size + 1)
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

    def _wanted(
        self, request: pb.ListMessageStatusesRequest, caller: Caller
    ) -> tuple[int, MessageFilter]:
        fields = Fields()
        fields.instance("instance", request.instance)
        if request.phone:
            fields.phone("phone", request.phone)
        if fields.at_most("statuses", request.statuses, self._limits.filter_values_max):
            for place, status in enumerate(request.statuses):
                fields.status(f"statuses[{place}]", status)
        bounds = [
            fields.given_time_us(name, getattr(request, name))
            for name in ("updated_after", "updated_before")
        ]
        page_size = fields.page_size("page_size", request.page_size, self._limits)
        fields.done()
        wanted = MessageFilter(
            instances=caller.visible(request.instance),
            phone=request.phone,
            statuses=frozenset(Status(status) for status in request.statuses),
            updated_from_us=bounds[0],
            updated_until_us=bounds[1],
        )
        return page_size, wanted

    def _of_message(
        self, request: pb.ListRecipientsRequest | pb.ListStatusReportsRequest, caller: Caller
    ) -> tuple[int, frozenset[str]]:
        """The page's size, and the instances it is about; none for all."""
        fields = Fields()
        fields.message_id("message_id", request.message_id)
        fields.instance("instance", request.instance)
        page_size = fields.page_size("page_size", request.page_size, self._limits)
        fields.done()
        return page_size, caller.visible(request.instance)

    async def _message(
        self,
        request: pb.ListRecipientsRequest | pb.ListStatusReportsRequest,
        instances: frozenset[str],
    ) -> MessageKey:
        message = await self._views.run(
            lambda views: lookup.the_one(views, instances, request.message_id)
        )
        return MessageKey(message.instance, message.message_id)

    def _of_instance(
        self,
        request: pb.ListWebhookUpdatesRequest | pb.ListQuarantinedCallbacksRequest,
        caller: Caller,
    ) -> tuple[int, frozenset[str]]:
        """As `_of_message`."""
        fields = Fields()
        fields.instance("instance", request.instance)
        page_size = fields.page_size("page_size", request.page_size, self._limits)
        fields.done()
        return page_size, caller.visible(request.instance)

    def _quarantined(self, row: QuarantineRow, log: LogReader) -> pb.QuarantinedCallback:
        event = log.event(row.position)
        kept = event is not None and event.kind is not EventKind.TOMBSTONE
        return pb.QuarantinedCallback(
            cursor=self._cursors.end_of(Mark(row.position, row.receive_time_us)),
            instance=row.instance,
            reason=encode.quarantine_reason(row.reason),
            receive_time=encode.timestamp(row.receive_time_us),
            raw=event.content if event is not None and kept else b"",
        )


def _report(encoded: bytes, log: LogReader, position: Position) -> pb.StatusReport:
    report = pb.StatusReport.FromString(encoded)
    event = log.event(position)
    if event is not None and event.kind is EventKind.CALLBACK:
        report.raw = event.content
    return report
