"""`get` and `watch`: what a server knows of messages."""

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import click

from service.cli import output
from service.cli.options import api_options, instance_option, json_option, run, target_of
from service.gen.plugchat.status.v1 import status_pb2 as pb


@click.command()
@click.argument("message_id", metavar="ID")
@instance_option
@click.option("--min-cursor", default="", metavar="CURSOR", help="Wait for this callback first.")
@json_option
@api_options
def get(
    message_id: str, instance: str, min_cursor: str, as_json: bool, **options: str | None
) -> None:
    """Show the status of one message.

    Exit code 1 if no callback has named it yet.
    """
    message = run(
        target_of(options),
        lambda client: client.get(message_id, instance=instance, min_cursor=min_cursor),
    )
    click.echo(output.json_line(message) if as_json else output.message_text(message))


@click.command()
@click.option("--cursor", default=None, metavar="CURSOR", help="Start behind this cursor.")
@click.option(
    "--from-time", default=None, metavar="TIME", help="Start at this time, as 2026-01-31T12:00:00Z."
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
@json_option
@api_options
def watch(
    cursor: str | None,
    from_time: str | None,
    instances: tuple[str, ...],
    message_ids: tuple[str, ...],
    phones: tuple[str, ...],
    statuses: tuple[str, ...],
    unchanged: bool,
    as_json: bool,
    **options: str | None,
) -> None:
    """Follow changes as they come, until interrupted with Ctrl-C.

    Starts now, unless told to start behind a cursor or at a time. Each change is a line on
    standard output; what else the stream says goes to standard error.
    """
    request = pb.WatchStatusesRequest(
        filter=pb.WatchFilter(
            instances=instances,
            message_ids=message_ids,
            phones=phones,
            statuses=map(output.status_value, statuses),
        ),
        include_unchanged=unchanged,
    )
    if cursor is not None and from_time is not None:
        raise click.UsageError("--cursor and --from-time exclude each other")
    if cursor is not None:
        request.cursor = cursor
    elif from_time is not None:
        request.from_time.FromDatetime(_time(from_time))
    else:
        request.from_now = True
    try:
        run(target_of(options), lambda client: _follow(client.watch(request), as_json))
    except KeyboardInterrupt:
        sys.exit(0)


async def _follow(responses: AsyncIterator[pb.WatchStatusesResponse], as_json: bool) -> None:
    async for response in responses:
        if response.WhichOneof("frame") != "changes":
            click.echo(_narrated(response), err=True)
        for change in response.changes.changes:
            click.echo(output.json_line(change) if as_json else output.change_text(change))


def _narrated(response: pb.WatchStatusesResponse) -> str:
    frame = response.WhichOneof("frame") or "an unknown frame"
    detail = ""
    if frame == "closing":
        detail = " " + pb.ClosingReason.Name(response.closing.reason).removeprefix(
            "CLOSING_REASON_"
        )
    return f"# {frame}{detail}  cursor {response.cursor}"


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"--from-time: {text!r} is no time: write it as 2026-01-31T12:00:00Z"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
