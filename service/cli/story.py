"""A message's history, and the service's state, told in lines for people."""

from collections.abc import Iterator, Sequence

from google.protobuf.timestamp_pb2 import Timestamp

from service.cli.output import excerpt, labelled, message_text, plain, status_name, table, time_text
from service.domain.events import Event, EventKind, Position
from service.domain.message import Folded, Message, Recipient, Report, fold
from service.domain.status import Status
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.plugchat.decode import decode

_MEANS_LITTLE = {
    pb.STATUS_READ_BY_ME: "we read it: no news of its delivery",
    pb.STATUS_UNRECOGNIZED: "unknown: no news of its delivery",
}


def told(
    message: pb.MessageStatus, reports: Sequence[pb.StatusReport], *, with_bodies: bool
) -> Iterator[str]:
    """What the message is now, then every report with what it changed, in arrival order."""
    yield message_text(message)
    yield ""
    whole = message.report_count <= len(reports)
    kept = "" if whole else f", of {message.report_count} ever"
    yield f"heard {'once' if len(reports) == 1 else f'{len(reports)} times'}{kept}:"
    heard = _Heard(whole=whole)
    for number, report in enumerate(reports, start=1):
        read = _read(message, report)
        yield f"{number:>4}. {time_text(report.receive_time)}  {plain(_said(report, read))}"
        yield f"      {plain(heard.meaning(report, read))}"
        if with_bodies:
            yield f"      {excerpt(report.raw, characters_max=None) or '(its body was erased)'}"


class _Heard:
    """What the reports so far have come to.

    They are folded here as the server folds them, since a report alone does not show what else it
    brought than a status. Where that cannot be known, because some are gone, or a body is, or the
    server reads it otherwise, only the status is told.
    """

    def __init__(self, *, whole: bool) -> None:
        self._exact = whole
        self._nothing_yet = whole
        self._status: pb.Status.ValueType = pb.STATUS_UNSPECIFIED
        """The message's, right before the next report; UNSPECIFIED where it is not known."""
        self._message: Message | None = None
        self._recipients: dict[str, Recipient] = {}

    def meaning(self, report: pb.StatusReport, read: Report | None) -> str:
        """What one more report changed, and why no more."""
        before, first = self._status, self._nothing_yet
        self._nothing_yet = False
        if report.advanced:
            self._status = report.status
        elif report.status > before:
            self._status = before = pb.STATUS_UNSPECIFIED
        news = self._news(report, read)
        if first and report.advanced:
            return f"first heard of: the message is {status_name(report.status)}"
        if report.advanced:
            rose_from = f" from {status_name(before)}" if before else ""
            return "; ".join(
                [f"the message rose{rose_from} to {status_name(report.status)}", *news]
            )
        if not before:
            return "it did not raise the status, which came from what is no longer kept"
        stays = f"the message stays {status_name(before)}, which outranks it"
        if report.status < before:
            return "; ".join([*(news or self._none()), stays])
        return "; ".join(news) or ": ".join(
            [*self._none(), f"it was {status_name(before)} already"]
        )

    def _news(self, report: pb.StatusReport, read: Report | None) -> list[str]:
        """What the report brought beside a higher status."""
        if read is None or not self._exact:
            self._exact = False
            return []
        before, known = self._message, self._recipients.get(read.participant)
        folded = fold(before, known, read)
        self._message = folded.message
        if folded.recipient is not None:
            self._recipients[read.participant] = folded.recipient
        self._exact = folded.advanced == report.advanced
        if before is None or not self._exact or not folded.changed:
            return []
        news = [*_of_recipient(known, folded), *_of_message(before, folded, read)]
        return news or ([] if folded.advanced else ["a detail of what was heard before"])

    def _none(self) -> list[str]:
        return ["nothing new"] if self._exact else []


def _of_recipient(known: Recipient | None, folded: Folded) -> Iterator[str]:
    told = folded.recipient
    if told is None:
        return
    if known is None:
        yield f"first heard of {told.participant}"
    elif told.status > known.status:
        yield f"{told.participant} rose from {known.status.name} to {told.status.name}"
    elif told.occur_time_us < known.occur_time_us:
        yield f"{told.participant} was {told.status.name} earlier than heard before"


def _of_message(before: Message, folded: Folded, report: Report) -> Iterator[str]:
    after, status = folded.message, report.status
    was, now = before.stage(status), after.stage(status)
    if was is None and not folded.advanced:
        yield f"first heard that it was {status.name}"
    if was is not None and now is not None and now.occur_time_us < was.occur_time_us:
        yield f"it was {status.name} earlier than heard before ({_time_text(was.occur_time_us)})"
    if after.provider_status != before.provider_status and not folded.advanced:
        yield f"first told the word, “{after.provider_status}”"
    if after.phone != before.phone:
        yield f"first told the phone, {after.phone}"
    if after.group != before.group:
        yield "first told that it went to a group"
    if after.failure_code != before.failure_code:
        yield f"first told the failure's code, {after.failure_code}"
    if after.failure_reason != before.failure_reason:
        yield f"first told the failure's reason, “{after.failure_reason}”"


def _read(message: pb.MessageStatus, report: pb.StatusReport) -> Report | None:
    """The report with all that its body says; None if that is gone, or read otherwise here."""
    event = Event(
        Position(1),
        message.instance,
        report.receive_time.ToMicroseconds(),
        EventKind.CALLBACK,
        report.raw,
    )
    for one in decode(event).reports if report.raw else ():
        if one.message_id == message.message_id:
            said = int(one.status), one.provider_status, one.participant, one.occur_time_us
            shown = int(report.status), report.provider_status, report.participant
            return one if said == (*shown, report.occur_time.ToMicroseconds()) else None
    return None


def _said(report: pb.StatusReport, read: Report | None) -> str:
    word = f"“{report.provider_status}”" if report.provider_status else "no word"
    note = _MEANS_LITTLE.get(report.status, "")
    if read is not None and read.status is Status.FAILED:
        note = " ".join(part for part in (read.failure_code, read.failure_reason) if part)
    about = f" for {report.participant}" if report.participant else ""
    when = (
        "without a usable time"
        if report.occur_time_estimated
        else f"happened {time_text(report.occur_time)}"
    )
    noted = f" ({note})" if note else ""
    return f"{word} = {status_name(report.status)}{noted}{about}, {when}"


def _time_text(time_us: int) -> str:
    time = Timestamp()
    time.FromMicroseconds(time_us)
    return time_text(time)


def service(now: pb.GetServiceStatusResponse) -> Iterator[str]:
    """Where log, views, watchers and instances stand."""
    yield f"plugstatus {now.version}, {', '.join(now.roles)}, since {time_text(now.start_time)}"
    yield from labelled(
        [
            ("log", f"{now.log_id}, last position {now.log_head_position}"),
            ("views", f"position {now.projector_position}, generation {now.views_generation}"),
            ("behind", _behind(now)),
            ("watchers", f"{now.watcher_count} of at most {now.watchers_max}"),
            ("waits", str(now.wait_count)),
            ("oldest event", time_text(now.removals.oldest_event_time)),
            ("removed", _removed(now.removals)),
        ]
    )
    for store in now.stores:
        yield f"  {store.name}: {store.engine} {store.engine_version}, {store.schema_revision}"
    for warning in now.warnings:
        yield f"  WARNING: {plain(warning.text)}"
    if now.watchers:
        yield ""
        header = ("watching since", "from", "phase", "behind", "queued", "filter")
        yield from table([header, *_watchers(now)])
    if now.instances:
        yield ""
        yield from table([("instance", "last callback", "connection"), *_instances(now)])


def _behind(one: pb.GetServiceStatusResponse | pb.WatcherStatus) -> str:
    """How far the views, or a watcher, are behind the log."""
    if not one.lag_events:
        return "nothing"
    return f"{one.lag_events} events, {one.lag_duration.ToSeconds()} s"


def _removed(removals: pb.RemovalStatus) -> str:
    if not removals.erased_event_count and not removals.expired_event_count:
        return ""
    last = removals.last_erasure_time
    when = f" (last {time_text(last)})" if removals.erased_event_count else ""
    return (
        f"{removals.erased_event_count} events erased{when}, {removals.expired_event_count} expired"
    )


def _watchers(now: pb.GetServiceStatusResponse) -> Iterator[tuple[str, ...]]:
    for watcher in now.watchers:
        yield (
            time_text(watcher.start_time),
            watcher.peer,
            pb.WatcherPhase.Name(watcher.phase).removeprefix("WATCHER_PHASE_"),
            _behind(watcher),
            f"{watcher.queued_bytes} bytes",
            watcher.filter or "none",
        )


def _instances(now: pb.GetServiceStatusResponse) -> Iterator[tuple[str, ...]]:
    for instance in now.instances:
        state = pb.ConnectionState.Name(instance.connection_state)
        yield (
            instance.instance,
            time_text(instance.last_callback_time),
            "never told"
            if not instance.connection_state
            else state.removeprefix("CONNECTION_STATE_"),
        )
