"""`watch`: what changes, for as long as anybody looks."""

import asyncio
import contextlib
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from service.cli import output
from service.cli.asking import run, target_of
from service.cli.options import api_options, json_option
from service.client import (
    CaughtUp,
    Changes,
    CursorFile,
    FellBehind,
    Interrupted,
    Opened,
    Progress,
    SnapshotBegin,
    SnapshotEnd,
    StatusClient,
    Update,
    Watch,
)
from service.gen.plugchat.status.v1 import status_pb2 as pb

_TOLD: dict[type[Update], str] = {
    Opened: "opened",
    SnapshotBegin: "snapshot_begin",
    SnapshotEnd: "snapshot_end",
    CaughtUp: "caught_up",
    FellBehind: "fell_behind",
    Progress: "progress",
}

_INTERVAL_S_MIN, _INTERVAL_S_MAX = 1.0, 600.0


@click.command()
@click.option(
    "--snapshot", is_flag=True, help="Start with every message as it is; again when need be."
)
@click.option("--cursor", default=None, metavar="CURSOR", help="Start behind this cursor.")
@click.option(
    "--from-time", default=None, metavar="TIME", help="Start at this time, as 2026-01-31T12:00:00Z."
)
@click.option(
    "--cursor-file",
    "cursor_file",
    default=None,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the place here, and start there if it holds one.",
)
@click.option("--instance", "instances", multiple=True, metavar="NAME", help="Only these.")
@click.option("--message-id", "message_ids", multiple=True, metavar="ID", help="Only these.")
@click.option("--phone", "phones", multiple=True, metavar="PHONE", help="Only these.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(output.STATUS_CHOICES, case_sensitive=False),
    help="Only changes that end in these.",
)
@click.option("--unchanged", is_flag=True, help="Also reports that changed nothing.")
@click.option(
    "--progress-interval",
    "progress_interval_s",
    default=None,
    type=click.FloatRange(_INTERVAL_S_MIN, _INTERVAL_S_MAX),
    metavar="SECONDS",
    help="Longest time without a sign of life.  [default: the server's, 15]",
)
@json_option
@api_options
def watch(
    snapshot: bool,
    cursor: str | None,
    from_time: str | None,
    cursor_file: Path | None,
    instances: tuple[str, ...],
    message_ids: tuple[str, ...],
    phones: tuple[str, ...],
    statuses: tuple[str, ...],
    unchanged: bool,
    progress_interval_s: float | None,
    as_json: bool,
    **options: str | None,
) -> None:
    """Follow changes as they come, until interrupted with Ctrl-C.

    Starts now, unless told to start with a snapshot, behind a cursor or at a time. Each change is
    a line on standard output; what else the stream says goes to standard error. When the server
    restarts or is lost, the watch goes on behind the last change printed.

    With --cursor-file it does so too when it is itself started again: nothing is left out then,
    and only what was being printed during a SIGKILL may come again. The place that the file holds
    counts instead of any other start.

    With --snapshot it takes another snapshot when it cannot go on where it was, because retention
    has removed the place or a backup was restored, and when the views were rebuilt.
    """
    request = _from(snapshot, cursor, from_time)
    request.filter.CopyFrom(
        pb.WatchFilter(
            instances=instances,
            message_ids=message_ids,
            phones=phones,
            statuses=map(output.status_value, statuses),
        )
    )
    request.include_unchanged = unchanged
    if progress_interval_s is not None:
        request.progress_interval.FromTimedelta(timedelta(seconds=progress_interval_s))
    file = CursorFile(cursor_file) if cursor_file is not None else None

    async def ask(client: StatusClient) -> None:
        watch = client.watch(request, cursor_file=file, resync=snapshot, patient=False)
        await _follow(watch, as_json)

    with contextlib.suppress(KeyboardInterrupt):
        run(target_of(options), ask)


def _from(snapshot: bool, cursor: str | None, from_time: str | None) -> pb.WatchStatusesRequest:
    if snapshot + (cursor is not None) + (from_time is not None) > 1:
        raise click.UsageError("--snapshot, --cursor and --from-time exclude each other")
    if snapshot:
        return pb.WatchStatusesRequest(snapshot=True)
    if cursor is not None:
        return pb.WatchStatusesRequest(cursor=cursor)
    if from_time is not None:
        request = pb.WatchStatusesRequest()
        request.from_time.FromDatetime(_time(from_time))
        return request
    return pb.WatchStatusesRequest(from_now=True)


async def _follow(watch: Watch, as_json: bool) -> None:
    """Print until Ctrl-C or SIGTERM: both end it in order, with the cursor file up to date."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        async with watch:
            async for update in watch.updates():
                _print(update, as_json)


def _print(update: Update, as_json: bool) -> None:
    if isinstance(update, Changes):
        for change in update.changes:
            click.echo(output.json_line(change) if as_json else output.change_text(change))
    else:
        click.echo(f"# {_narrated(update)}", err=True)


def _narrated(update: Update) -> str:
    if isinstance(update, Interrupted):
        why = output.plain(f"{update.reason}: {update.message}")
        when = f"in {update.retry_in_s:.1f} s" if update.retry_in_s else "at once"
        return f"interrupted  {why}; goes on {when}"
    return f"{_TOLD[type(update)]}  cursor {update.cursor}"


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"--from-time: {text!r} is no time: write it as 2026-01-31T12:00:00Z"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
