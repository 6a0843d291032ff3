"""`get` and `wait`: what a server knows of one message."""

import sys

import click

from service.cli import output
from service.cli.asking import run, target_of
from service.cli.failures import NO
from service.cli.options import api_options, instance_option, json_option
from service.gen.plugchat.status.v1 import status_pb2 as pb

_AT_LEAST = ("sent", "received", "read", "played")


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
@click.argument("message_id", metavar="ID")
@click.option(
    "--at-least",
    required=True,
    type=click.Choice(_AT_LEAST, case_sensitive=False),
    help="Wait for this status or a higher one.",
)
@instance_option
@click.option("--ignore-failure", is_flag=True, help="FAILED does not end the wait.")
@click.option(
    "--timeout",
    "timeout_s",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Give up after this time.",
)
@json_option
@api_options
def wait(
    message_id: str,
    at_least: str,
    instance: str,
    ignore_failure: bool,
    timeout_s: float,
    as_json: bool,
    **options: str | None,
) -> None:
    """Wait until a message has reached a status, and show it.

    The message may be unknown as yet, and the server may restart meanwhile. Exit code 1 if the
    message has failed, which is shown as well, or if the time is up.
    """
    message = run(
        target_of(options),
        lambda client: client.wait(
            message_id,
            output.status_value(at_least),
            instance=instance,
            ignore_failure=ignore_failure,
            timeout_s=timeout_s,
            patient=False,
        ),
    )
    click.echo(output.json_line(message) if as_json else output.message_text(message))
    if message.status == pb.STATUS_FAILED:
        sys.exit(NO)
