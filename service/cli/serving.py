"""`serve`."""

import click

from service import config, process
from service.cli.options import given_settings, setting_options
from service.telemetry import configure_logging

_LOG_LEVELS = ("debug", "info", "warning", "error")

_insecure = click.option(
    "--insecure", is_flag=True, help="Accept addresses that anybody could reach."
)


@click.command()
@setting_options(config.SETTINGS)
@_insecure
@click.option(
    "--log-level",
    type=click.Choice(_LOG_LEVELS),
    default="info",
    show_default=True,
    envvar="PLUGSTATUS_LOG_LEVEL",
    show_envvar=True,
    help="Ids and phones are logged at debug only.",
)
@click.option(
    "--workers",
    "count",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes behind the same addresses; SQLite: 1.",
)
def serve(insecure: bool, log_level: str, count: int, **options: str | None) -> None:
    """Receive callbacks, fold them, and answer over gRPC.

    Creates and upgrades the SQLite stores by itself. SIGTERM or Ctrl-C drains and exits 0 within
    ten seconds; a second one ends it at once. Tokens, credentials and certificates are read again
    when their files change, and at SIGHUP.
    """
    settings = config.load(given_settings(options), insecure=insecure, workers=count)
    configure_logging(log_level)
    if count > 1:
        # Only here: it loads nearly all there is, which one process does behind its fork.
        from service import workers

        workers.run(settings, log_level)
    else:
        process.run(settings)
