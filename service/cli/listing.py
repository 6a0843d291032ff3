"""`list`, `recipients`, `history`, `quarantine`, `status`: tables for people, or JSON lines."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import click

from service.cli import output, story
from service.cli.asking import run, target_of
from service.cli.options import api_options, instance_option, json_option
from service.client import StatusClient
from service.gen.plugchat.status.v1 import status_pb2 as pb

_limit_option = click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1), help="How many at most."
)


@click.command("list")
@instance_option
@click.option("--phone", default="", metavar="PHONE", help="Only messages to this phone.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(output.STATUS_CHOICES, case_sensitive=False),
    help="Only messages with one of these.",
)
@_limit_option
@json_option
@api_options
def list_messages(
    instance: str,
    phone: str,
    statuses: tuple[str, ...],
    limit: int,
    as_json: bool,
    **options: str | None,
) -> None:
    """List messages, last changed first."""
    request = pb.ListMessageStatusesRequest(
        instance=instance,
        phone=phone,
        statuses=map(output.status_value, statuses),
        page_size=min(limit, 1_000),
    )
    _print(
        options,
        as_json,
        limit,
        lambda client: client.list_messages(request),
        ("last change", "instance", "message", "status", "phone"),
        lambda one: (
            output.time_text(one.update_time),
            one.instance,
            one.message_id,
            output.status_name(one.status),
            one.phone,
        ),
    )


@click.command()
@click.argument("message_id", metavar="ID")
@instance_option
@json_option
@api_options
def recipients(message_id: str, instance: str, as_json: bool, **options: str | None) -> None:
    """List who of a group or broadcast has received and read a message.

    Exit code 1 if no callback has named the message yet.
    """
    request = pb.ListRecipientsRequest(message_id=message_id, instance=instance, page_size=1_000)
    _print(
        options,
        as_json,
        None,
        lambda client: client.list_recipients(request),
        ("participant", "status", "since"),
        lambda one: (
            one.participant,
            output.status_name(one.status),
            output.time_text(one.occur_time),
        ),
    )


@click.command()
@click.argument("message_id", metavar="ID")
@instance_option
@click.option("--raw", is_flag=True, help="Also show each callback's body.")
@json_option
@api_options
def history(
    message_id: str, instance: str, raw: bool, as_json: bool, **options: str | None
) -> None:
    """Tell everything that was heard about a message, and what it changed.

    Exit code 1 if no callback has named it yet.
    """
    request = pb.ListStatusReportsRequest(message_id=message_id, instance=instance)

    async def ask(client: StatusClient) -> tuple[pb.MessageStatus, list[pb.StatusReport]]:
        message = await client.get(message_id, instance=instance)
        return message, [report async for report in client.list_reports(request)]

    message, reports = run(target_of(options), ask)
    lines: Iterable[str] = map(output.json_line, reports)
    click.echo("\n".join(lines if as_json else story.told(message, reports, with_bodies=raw)))


@click.command()
@instance_option
@_limit_option
@json_option
@api_options
def quarantine(instance: str, limit: int, as_json: bool, **options: str | None) -> None:
    """List callbacks that were kept and could not be understood, newest first."""
    request = pb.ListQuarantinedCallbacksRequest(instance=instance, page_size=min(limit, 1_000))
    _print(
        options,
        as_json,
        limit,
        lambda client: client.list_quarantined(request),
        ("received", "instance", "reason", "body"),
        lambda one: (
            output.time_text(one.receive_time),
            one.instance,
            pb.QuarantineReason.Name(one.reason).removeprefix("QUARANTINE_REASON_"),
            output.excerpt(one.raw),
        ),
    )


@click.command()
@json_option
@api_options
def status(as_json: bool, **options: str | None) -> None:
    """Show where the service stands: log, views, watchers, instances."""
    now = run(target_of(options), lambda client: client.service_status())
    click.echo(output.json_line(now) if as_json else "\n".join(story.service(now)))


def _print(
    options: dict[str, str | None],
    as_json: bool,
    limit: int | None,
    listed: Callable[[StatusClient], AsyncIterator[Any]],
    header: tuple[str, ...],
    row: Callable[[Any], tuple[str, ...]],
) -> None:
    """Print at most `limit` entries, as a table or a line each."""

    async def ask(client: StatusClient) -> list[Any]:
        entries: list[Any] = []
        async for entry in listed(client):
            entries.append(entry)
            if len(entries) == limit:
                break
        return entries

    entries = run(target_of(options), ask)
    if as_json:
        for entry in entries:
            click.echo(output.json_line(entry))
        return
    for line in output.table([header, *map(row, entries)]):
        click.echo(line)
    if not entries:
        click.echo("# none", err=True)
    elif len(entries) == limit:
        click.echo(f"# {limit} shown; if there are more, --limit shows them", err=True)
