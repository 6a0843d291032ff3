"""The command line. Data on standard output, narration on standard error.

Exit codes: 0 done; 1 the answer is no (absent, timed out, refused, in use, not reachable);
2 used or configured wrongly.
"""

import sys

import click

from service import __version__
from service.cli.failures import exit_code_of
from service.cli.listing import history, list_messages, quarantine, recipients, status
from service.cli.reading import get, wait
from service.cli.serving import check, migrate, serve
from service.cli.simulating import simulate
from service.cli.upkeep import forget, rebuild
from service.cli.watching import watch
from service.cli.webhooks import update_webhook, webhook


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="plugstatus")
def cli() -> None:
    """Track the status of WhatsApp messages sent through PlugChat.

    `serve` receives PlugChat's callbacks over HTTP, keeps every one of them for good, and answers
    over gRPC what became of each message. The other commands ask a running server, but for
    `migrate` and `check`, which work on the stores, and `simulate`, which posts made-up callbacks.
    `rebuild` and `forget` work on the stores while no server runs.

    Every option can also be given as the environment variable that its help names.

    Exit codes: 0 done; 1 the answer is no (absent, timed out, refused, in use, not reachable);
    2 used or configured wrongly.
    """


for command in (
    serve,
    migrate,
    check,
    get,
    history,
    recipients,
    wait,
    watch,
    list_messages,
    update_webhook,
    webhook,
    quarantine,
    rebuild,
    forget,
    status,
    simulate,
):
    cli.add_command(command)


def main() -> None:
    """The entry point: one line and an exit code for every expected fault."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise
        click.echo(f"plugstatus: {error}", err=True)
        sys.exit(code)
