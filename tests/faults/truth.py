"""What every report of a log has to come to, by a model of its own.

It shares nothing with the service's fold. `test_truth` holds it against the slow model in
`tests.fold_model`, which answers each question from all that was said.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from google.protobuf.timestamp_pb2 import Timestamp

from service.domain import events
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.wire.cursor import CursorCodec
from tests.fold_model import FAILED, Key, Place, Said

END = events.END_OF_CALLBACK


class Heard(NamedTuple):
    """What is known of a status: the first word that says something, and the least times."""

    word: str
    occur_us: int
    time_us: int

    def and_also(self, said: Said) -> "Heard":
        return Heard(
            self.word or said.word,
            min(self.occur_us, said.occur_us),
            min(self.time_us, said.time_us),
        )


class Expected(NamedTuple):
    """What a watcher has to get for a report."""

    place: Place
    key: Key
    changed: bool
    change: pb.StatusChange


@dataclass
class _Message:
    """What was said of a message so far."""

    stages: dict[int, Heard] = field(default_factory=dict)
    people: dict[str, dict[int, Heard]] = field(default_factory=dict)
    phone: str = ""
    group: bool = False
    code: str = ""
    reason: str = ""
    count: int = 0
    changed_at: Place = (0, 0)
    update_time_us: int = 0

    @property
    def rank(self) -> int:
        return max(self.stages, default=0)

    def hear(self, said: Said) -> bool:
        """Did anything change that is told of the message, or of who was named?"""
        before = self._shown(said.participant)
        _hear(self.stages, said)
        if said.participant:
            _hear(self.people.setdefault(said.participant, {}), said)
        self.phone = self.phone or said.phone
        self.group = self.group or said.group
        if said.rank == FAILED:
            self.code = self.code or said.code
            self.reason = self.reason or said.reason
        self.count += 1
        changed = before != self._shown(said.participant)
        if changed:
            self.changed_at, self.update_time_us = said.place, said.time_us
        return changed

    def _shown(self, who: str) -> object:
        heard = self.people.get(who, {})
        top = max(heard, default=0)
        return (
            self.rank,
            self.stages[self.rank].word if self.stages else "",
            sorted((rank, one.occur_us, one.time_us) for rank, one in self.stages.items()),
            (self.phone, self.group, self.code, self.reason, len(self.people)),
            (top, heard.get(top)),
        )


def _hear(stages: dict[int, Heard], said: Said) -> None:
    heard = stages.get(said.rank, Heard("", said.occur_us, said.time_us))
    stages[said.rank] = heard.and_also(said)


class Truth:
    """Every report in log order, and every message at any time."""

    def __init__(self, said: Iterable[Said], codec: CursorCodec) -> None:
        """`said` in log order."""
        self._codec = codec
        self.reports: list[Expected] = []
        self.by_message: dict[Key, list[Expected]] = defaultdict(list)
        messages: dict[Key, _Message] = defaultdict(_Message)
        for one in said:
            message = messages[one.key]
            before = message.rank
            changed = message.hear(one)
            report = Expected(one.place, one.key, changed, self._change(message, one, before))
            self.reports.append(report)
            self.by_message[one.key].append(report)
        self.keys: Sequence[Key] = sorted(self.by_message)
        """By instance, then by message id, both by code point."""
        self.by_place = {report.place: report for report in self.reports}
        self._places = [report.place for report in self.reports]

    def between(self, after: Place, until: Place) -> Sequence[Expected]:
        """Those behind one place, up to another."""
        places = self._places
        return self.reports[bisect_right(places, after) : bisect_right(places, until)]

    def last_change(self, key: Key, until: Place) -> Expected | None:
        """The report that last changed a message up to there; None if it was not known then."""
        found = self.by_message.get(key, [])
        at = bisect_right(found, until, key=lambda report: report.place)
        return next((report for report in reversed(found[:at]) if report.changed), None)

    def count(self, key: Key, until: Place) -> int:
        """How many reports of a message there are up to there."""
        found = self.by_message.get(key, [])
        return bisect_right(found, until, key=lambda report: report.place)

    def next_change(self, key: Key, after: Place) -> Expected | None:
        """The first report behind a place that changes a message."""
        found = self.by_message.get(key, [])
        at = bisect_right(found, after, key=lambda report: report.place)
        return next((report for report in found[at:] if report.changed), None)

    def _change(self, message: _Message, said: Said, before: int) -> pb.StatusChange:
        change = pb.StatusChange(
            message=self._message(message, said.key),
            previous_status=_status(before),
            cursor=self.cursor(said.place, said.time_us),
        )
        if said.participant:
            change.recipient.CopyFrom(_recipient(said.participant, message))
        return change

    def _message(self, message: _Message, key: Key) -> pb.MessageStatus:
        current = message.stages[message.rank]
        told = pb.MessageStatus(
            instance=key[0],
            message_id=key[1],
            phone=message.phone,
            group=message.group,
            status=_status(message.rank),
            provider_status=current.word,
            occur_time=_time(current.occur_us),
            receive_time=_time(current.time_us),
            stages=[
                pb.Stage(
                    status=_status(rank),
                    occur_time=_time(heard.occur_us),
                    receive_time=_time(heard.time_us),
                )
                for rank, heard in sorted(message.stages.items())
            ],
            recipient_count=len(message.people),
            report_count=message.count,
            update_time=_time(message.update_time_us),
            cursor=self.cursor(message.changed_at, message.update_time_us),
        )
        if FAILED in message.stages:
            told.failure.code = message.code
            told.failure.reason = message.reason
            told.failure.occur_time.CopyFrom(_time(message.stages[FAILED].occur_us))
        return told

    def cursor(self, place: Place, time_us: int) -> str:
        """The cursor of a place, given the receive time of its event."""
        at = events.Place(events.Position(place[0]), place[1])
        return self._codec.encode(at, time_us)


def _recipient(who: str, message: _Message) -> pb.Recipient:
    heard = message.people[who]
    rank = max(heard)
    return pb.Recipient(
        participant=who,
        status=_status(rank),
        provider_status=heard[rank].word,
        occur_time=_time(heard[rank].occur_us),
        receive_time=_time(heard[rank].time_us),
    )


def _status(rank: int) -> pb.Status.ValueType:
    return cast("pb.Status.ValueType", rank)


def _time(time_us: int) -> Timestamp:
    seconds, fraction_us = divmod(time_us, 1_000_000)
    return Timestamp(seconds=seconds, nanos=fraction_us * 1_000)


def wanted(request: pb.WatchStatusesRequest, report: Expected) -> bool:
    """Does a stream asked for like this carry that report?"""
    if not (report.changed or request.include_unchanged):
        return False
    return wanted_message(request.filter, report.change.message)


def wanted_message(chosen: pb.WatchFilter, message: pb.MessageStatus) -> bool:
    """Do all fields of the filter that are given hold for the message as it is?"""
    return (
        (not chosen.instances or message.instance in chosen.instances)
        and (not chosen.message_ids or message.message_id in chosen.message_ids)
        and (not chosen.phones or message.phone in chosen.phones)
        and (not chosen.statuses or message.status in chosen.statuses)
    )
