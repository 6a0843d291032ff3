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


class _Commands(click.Group):
    """Loads a command when it is asked for: one that asks a server needs nothing of what serves."""

    _SECTIONS: ClassVar[dict[str, dict[str, str]]] = {
        "Run the service": {
            "serve": "serving",
            "check": "setting_up",
            "migrate": "setting_up",
            "token": "tokens",
            "simulate": "simulating",
        },
        "Ask a running server": {
            "get": "reading",
            "wait": "reading",
            "watch": "watching",
            "history": "listing",
            "list": "listing",
            "recipients": "listing",
            "quarantine": "listing",
            "status": "listing",
        },
        "Ask a running server to change PlugChat's webhook": {
            "update-webhook": "webhooks",
            "webhook": "webhooks",
        },
        "Look after the stores (rebuild, forget and backup also while they are served)": {
            "rebuild": "upkeep",
            "forget": "upkeep",
            "backup": "backups",
            "restore": "backups",
            "copy": "copying",
        },
    }
    _MODULES: ClassVar = {
        name: module for section in _SECTIONS.values() for name, module in section.items()
    }

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self._MODULES)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """In sections, each with its whole first sentence."""
        column = max(map(len, self._MODULES))
        for title, names in self._SECTIONS.items():
            with formatter.section(title):
                commands = [(name, self.get_command(context, name)) for name in names]
                formatter.write_dl(
                    [
                        (name.ljust(column), command.get_short_help_str(limit=1_000))
                        for name, command in commands
                        if command is not None
                    ]
                )

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
    over gRPC what became of each message. It keeps its data in ./data, and listens on loopback
    only, unless it is told otherwise. The commands that ask find it there.

    \b
    Examples:
      plugstatus serve
      plugstatus get 3EB0C767D097B7C1F2
      plugstatus watch --snapshot --cursor-file place.json
      plugstatus history 3EB0C767D097B7C1F2 --raw
      plugstatus list --phone 5511987654321 --json

    COMMAND --help tells everything about a command. Each option can also be given as the
    environment variable named there; where both are given, the option counts.

    Data goes to standard output, and narration to standard error. Exit codes: 0 done; 1 the
    answer is no (absent, timed out, refused, in use, not reachable); 2 used or configured wrongly.
    """


def main() -> None:
    """The entry point: one line and an exit code for every expected fault."""
    # gRPC writes a line of its own for every handshake that fails, whoever knocks. It reads this
    # when it is loaded, so nothing above may load it.
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
        code = import_module("service.cli.failures").exit_code_of(error)
        if code is None:
            raise
        click.echo(f"plugstatus: {error}", err=True)
        sys.exit(code)
