"""What a watch request asks for, checked and understood."""

import enum

import msgspec

from service.api.access import Caller
from service.api.fields import Fields
from service.config import Limits
from service.domain.status import Status
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.views.feed import FeedFilter


class Start(enum.Enum):
    CURSOR = enum.auto()
    TIME = enum.auto()
    NOW = enum.auto()
    SNAPSHOT = enum.auto()


_STARTS = {"cursor": Start.CURSOR, "from_time": Start.TIME, "snapshot": Start.SNAPSHOT}


class Plan(msgspec.Struct, frozen=True):
    """A watch request, understood."""

    start: Start
    cursor: str
    from_time_us: int
    wanted: FeedFilter
    progress_interval_s: float


def planned(request: pb.WatchStatusesRequest, caller: Caller, limits: Limits) -> Plan:
    """Raises FieldsInvalid for what breaks a bound, InstanceDenied."""
    fields = Fields()
    given = request.WhichOneof("start")
    if given is not None and given != "from_time" and not getattr(request, given):
        fields.refuse(given, "is set but empty: leave the start out to begin now")
    from_time_us = fields.time_us("from_time", request.from_time) if given == "from_time" else 0
    interval_s = limits.progress_interval_s
    if request.HasField("progress_interval"):
        interval_s = fields.progress_interval_s(
            "progress_interval", request.progress_interval, limits
        )
    _check_filter(fields, request.filter, limits)
    fields.done()
    return Plan(
        start=_STARTS.get(given or "", Start.NOW),
        cursor=request.cursor,
        from_time_us=from_time_us,
        wanted=FeedFilter(
            instances=caller.among(request.filter.instances),
            message_ids=frozenset(request.filter.message_ids),
            phones=frozenset(request.filter.phones),
            statuses=frozenset(Status(status) for status in request.filter.statuses),
            unchanged=request.include_unchanged,
        ),
        progress_interval_s=interval_s,
    )


def in_short(wanted: FeedFilter) -> str:
    """A filter for people: values are counted, not shown. Empty for no filter."""
    counted = [
        f"{len(values)} {name}"
        for name, values in (
            ("instances", wanted.instances),
            ("message ids", wanted.message_ids),
            ("phones", wanted.phones),
            ("statuses", wanted.statuses),
        )
        if values
    ]
    return ", ".join([*counted, *(["unchanged too"] if wanted.unchanged else [])])


def _check_filter(fields: Fields, wanted: pb.WatchFilter, limits: Limits) -> None:
    if fields.at_most("filter.instances", wanted.instances, limits.filter_values_max):
        for place, instance in enumerate(wanted.instances):
            fields.instance(f"filter.instances[{place}]", instance, required=True)
    if fields.at_most("filter.message_ids", wanted.message_ids, limits.filter_values_max):
        for place, message_id in enumerate(wanted.message_ids):
            fields.message_id(f"filter.message_ids[{place}]", message_id)
    if fields.at_most("filter.phones", wanted.phones, limits.filter_values_max):
        for place, phone in enumerate(wanted.phones):
            fields.phone(f"filter.phones[{place}]", phone)
    if fields.at_most("filter.statuses", wanted.statuses, limits.filter_values_max):
        for place, status in enumerate(wanted.statuses):
            fields.status(f"filter.statuses[{place}]", status)
