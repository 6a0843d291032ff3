"""AdminService: the tasks that take their time, as streams of progress."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from service.api.calls import Call, Write
from service.api.fields import Fields
from service.api.lanes import Lane, Limit
from service.config import Limits
from service.domain.erasure import Subject
from service.domain.progress import Progress
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.wire import encode


class Upkeep(Protocol):
    """What does the tasks. Closing the progress ends a task."""

    def rebuild(self, *, check: bool) -> AsyncGenerator[Progress]: ...

    def forget(self, subject: Subject, *, dry_run: bool) -> AsyncGenerator[Progress]: ...


class LongTasks:
    """A task ends when its caller leaves; what it has done stays done."""

    def __init__(self, upkeep: Upkeep, limits: Limits) -> None:
        self._upkeep = upkeep
        self._lane = Lane(Limit("long_tasks_max", limits.long_tasks_max), None)

    async def rebuild_views(
        self, request: pb.RebuildViewsRequest, call: Call, write: Write
    ) -> None:
        """Raises InstanceDenied, LimitExceeded, LogUnavailable, ViewsUnavailable, ShuttingDown."""
        call.caller.require_all_instances()
        with self._lane.place(call.caller):
            await self._rebuild(request, write)

    async def _rebuild(self, request: pb.RebuildViewsRequest, write: Write) -> None:
        async with aclosing(self._upkeep.rebuild(check=request.check)) as steps:
            async for progress in steps:
                response = pb.RebuildViewsResponse(
                    progress=encode.progress(progress), difference_count=progress.differences
                )
                await write(response.SerializeToString())

    async def forget(self, request: pb.ForgetRequest, call: Call, write: Write) -> None:
        """Raises FieldsInvalid, and what `rebuild_views` raises."""
        subject = _subject(request)
        call.caller.require_all_instances()
        with self._lane.place(call.caller):
            await self._forget(subject, request.dry_run, write)

    async def _forget(self, subject: Subject, dry_run: bool, write: Write) -> None:
        async with aclosing(self._upkeep.forget(subject, dry_run=dry_run)) as steps:
            async for progress in steps:
                response = pb.ForgetResponse(progress=encode.progress(progress))
                await write(response.SerializeToString())


def _subject(request: pb.ForgetRequest) -> Subject:
    fields = Fields()
    if bool(request.message_id) == bool(request.phone):
        fields.refuse("message_id", "either this or phone must be given, and not both")
    elif request.phone:
        fields.phone("phone", request.phone)
        if request.instance:
            fields.refuse("instance", "a phone is forgotten in every instance: leave it empty")
    else:
        fields.message_id("message_id", request.message_id)
        fields.instance("instance", request.instance)
    fields.done()
    return Subject(phone=request.phone, message_id=request.message_id, instance=request.instance)
