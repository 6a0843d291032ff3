"""`update-webhook` and `webhook`: the address PlugChat posts callbacks to."""

import sys

import click

from service.cli import output
from service.cli.asking import run, target_of
from service.cli.options import api_options, json_option
from service.gen.plugchat.status.v1 import status_pb2 as pb

_required_instance = click.option("--instance", required=True, metavar="NAME", help="The instance.")


@click.command("update-webhook")
@click.argument("url")
@_required_instance
@click.option("--validate-only", is_flag=True, help="Check the address, and send nothing.")
@click.option(
    "--request-id",
    default="",
    metavar="UUID",
    help="Makes a repeat harmless: an answer PlugChat gave is repeated, not asked for again.",
)
@json_option
@api_options
def update_webhook(
    url: str,
    instance: str,
    validate_only: bool,
    request_id: str,
    as_json: bool,
    **options: str | None,
) -> None:
    """Have PlugChat post the instance's callbacks to URL.

    `-` reads the address from standard input, which keeps a token in it out of the process list.
    """
    if url == "-":
        url = sys.stdin.readline().strip()
    request = pb.UpdateWebhookRequest(
        instance=instance, url=url, validate_only=validate_only, request_id=request_id
    )
    changed = run(target_of(options), lambda client: client.update_webhook(request))
    click.echo(output.json_line(changed) if as_json else output.webhook_text(changed))


@click.command()
@_required_instance
@json_option
@api_options
def webhook(instance: str, as_json: bool, **options: str | None) -> None:
    """Show the instance's last webhook update, and the address in force.

    Exit code 1 if none was ever attempted.
    """
    last = run(target_of(options), lambda client: client.get_webhook(instance))
    click.echo(output.json_line(last) if as_json else output.webhook_text(last))
