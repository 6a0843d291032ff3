"""A message's history, and the service's state, told in lines for people."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from service.cli.output import excerpt, labelled, message_text, plain, status_name, table, time_text
from service.gen.plugchat.status.v1 import status_pb2 as pb


def told(
    message: pb.MessageStatus, reports: Sequence[pb.StatusReport], *, with_bodies: bool
) -> Iterator[str]:
    """What the message is now, then every report with what it changed, in arrival order."""
    yield message_text(message)
    yield ""
    kept = f", of {message.report_count} ever" if message.report_count > len(reports) else ""
    yield f"heard {len(reports)} times{kept}:"
    heard = _Heard()
    for number, report in enumerate(reports, start=1):
        yield f"{number:>4}. {time_text(report.receive_time)}  {plain(_said(report))}"
        yield f"      {plain(heard.meaning(report))}"
        if with_bodies:
            yield f"      {excerpt(report.raw, characters_max=None) or '(its body was erased)'}"


class _Heard:
    """What the reports so far have told, as far as a report shows it."""

    def __init__(self) -> None:
        self._highest: pb.Status.ValueType = pb.STATUS_UNSPECIFIED
        self._times: dict[int, datetime] = {}
        self._recipients: dict[str, pb.Status.ValueType] = {}

    def meaning(self, report: pb.StatusReport) -> str:
        """What one more report changed, and why no more."""
        before = self._highest
        known = [self._news_of_recipient(report), self._news_of_stage(report)]
        self._highest = max(before, report.status)
        news = [one for one in known if one]
        if report.advanced and not before:
            return f"first heard of: the message is {status_name(report.status)}"
        if not before:
            return "what was heard before it is no longer kept"
        if report.advanced:
            return f"the message rose from {status_name(before)} to {status_name(report.status)}"
        if report.status < before:
            news.append(f"the message stays {status_name(before)}, which outranks it")
        elif not news:
            return f"nothing new: it was {status_name(before)} already"
        return "; ".join(news)

    def _news_of_recipient(self, report: pb.StatusReport) -> str:
        name, status = report.participant, report.status
        if not name:
            return ""
        before = self._recipients.get(name)
        self._recipients[name] = max(before or status, status)
        if before is None:
            return f"first heard of {name}"
        if status > before:
            return f"{name} rose from {status_name(before)} to {status_name(status)}"
        return ""

    def _news_of_stage(self, report: pb.StatusReport) -> str:
        time, status = report.occur_time.ToDatetime(), report.status
        before = self._times.get(status)
        self._times[status] = min(before or time, time)
        if before is None:
            return f"first heard that it was {status_name(status)}"
        if time < before:
            return f"it was {status_name(status)} earlier than heard before"
        return ""


def _said(report: pb.StatusReport) -> str:
    word = f"“{report.provider_status}”" if report.provider_status else "no word"
    about = f" for {report.participant}" if report.participant else ""
    when = (
        "without a usable time"
        if report.occur_time_estimated
        else f"happened {time_text(report.occur_time)}"
    )
    return f"{word} = {status_name(report.status)}{about}, {when}"


def service(now: pb.GetServiceStatusResponse) -> Iterator[str]:
    """Where log, views, watchers and instances stand."""
    lag = now.lag_duration.ToSeconds()
    yield f"plugstatus {now.version}, {', '.join(now.roles)}, since {time_text(now.start_time)}"
    yield from labelled(
        [
            ("log", f"{now.log_id}, last position {now.log_head_position}"),
            ("views", f"position {now.projector_position}, generation {now.views_generation}"),
            (
                "behind",
                f"{now.lag_events} events, {lag} s" if now.lag_events else "nothing",
            ),
            ("watchers", str(now.watcher_count)),
            ("oldest event", time_text(now.removals.oldest_event_time)),
            ("removed", _removed(now.removals)),
        ]
    )
    for store in now.stores:
        yield f"  {store.name}: {store.engine} {store.engine_version}, {store.schema_revision}"
    if now.watchers:
        yield ""
        yield from table([("watching since", "from", "phase", "behind", "filter"), *_watchers(now)])
    if now.instances:
        yield ""
        yield from table([("instance", "last callback", "connection"), *_instances(now)])


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
            str(watcher.lag_events),
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
