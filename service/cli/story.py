"""A message's history, and the service's state, told in lines for people."""

from collections.abc import Iterator, Sequence

from service.cli.output import excerpt, labelled, message_text, plain, status_name, table, time_text
from service.gen.plugchat.status.v1 import status_pb2 as pb


def told(
    message: pb.MessageStatus, reports: Sequence[pb.StatusReport], *, with_bodies: bool
) -> Iterator[str]:
    """What the message is now, then every report with what it changed, in arrival order."""
    yield message_text(message)
    yield ""
    yield f"heard {len(reports)} times:"
    highest = pb.STATUS_UNSPECIFIED
    for number, report in enumerate(reports, start=1):
        yield f"{number:>4}. {time_text(report.receive_time)}  {plain(_said(report))}"
        yield f"      {_meant(report, highest)}"
        if with_bodies:
            yield f"      {excerpt(report.raw, characters_max=None)}"
        highest = max(highest, report.status)


def _said(report: pb.StatusReport) -> str:
    word = f"“{report.provider_status}”" if report.provider_status else "no word"
    about = f" for {report.participant}" if report.participant else ""
    when = (
        "without a usable time"
        if report.occur_time_estimated
        else f"happened {time_text(report.occur_time)}"
    )
    return f"{word} = {status_name(report.status)}{about}, {when}"


def _meant(report: pb.StatusReport, highest: pb.Status.ValueType) -> str:
    if report.advanced:
        if not highest:
            return f"first heard of: the message is {status_name(report.status)}"
        return f"the message rose from {status_name(highest)} to {status_name(report.status)}"
    if report.status == highest:
        return f"nothing new: it was {status_name(highest)} already"
    return f"no change of status: {status_name(highest)} outranks it"


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
