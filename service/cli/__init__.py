"""The command line. Data on standard output, narration on standard error.

Exit codes: 0 done; 1 the answer is no (absent, timed out, refused, in use, not reachable);
2 used or configured wrongly.
"""

import gc
import os
import sys
from importlib import import_module
from typing import ClassVar

import click

from service import __version__
from service.cli.failures import exit_code_of


class _Commands(click.Group):
    """Loads a command when it is asked for: one that asks a server needs nothing of what serves."""

    _MODULES: ClassVar = {
        "serve": "serving",
        "migrate": "serving",
        "check": "serving",
        "get": "reading",
        "wait": "reading",
        "watch": "watching",
        "history": "listing",
        "recipients": "listing",
        "list": "listing",
        "quarantine": "listing",
        "status": "listing",
        "update-webhook": "webhooks",
        "webhook": "webhooks",
        "rebuild": "upkeep",
        "forget": "upkeep",
        "backup": "backups",
        "restore": "backups",
        "copy": "copying",
        "simulate": "simulating",
        "token": "tokens",
    }

    def list_commands(self, _context: click.Context) -> list[str]:
        return sorted(self._MODULES)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in self._MODULES:
            return None
        # Nothing of what is loaded becomes garbage; looking for it takes a fifth of the time.
        gc.disable()
        module = import_module(f"service.cli.{self._MODULES[name]}")
        gc.enable()
        return next(
            one
            for one in vars(module).values()
            if isinstance(one, click.Command) and one.name == name
        )


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="plugstatus")
def cli() -> None:
    """Track the status of WhatsApp messages sent through PlugChat.

    `serve` receives PlugChat's callbacks over HTTP, keeps every one of them for good, and answers
    over gRPC what became of each message. The other commands ask a running server, but for
    `migrate`, `check` and `copy`, which work on the stores, and `simulate`, which posts made-up
    callbacks. `rebuild` and `forget` work on the stores while no server runs.

    Every option can also be given as the environment variable that its help names.

    Exit codes: 0 done; 1 the answer is no (absent, timed out, refused, in use, not reachable);
    2 used or configured wrongly.
    """


def main() -> None:
    """The entry point: one line and an exit code for every expected fault."""
    # gRPC writes a line of its own for every handshake that fails, whoever knocks.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
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
