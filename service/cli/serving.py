"""`serve`, `migrate` and `check`: the commands of whoever runs the service."""

import sys

import click

from service import app, config, errors, stores, workers
from service.cli.checking import checks
from service.cli.options import given_settings, run_async, setting_options
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
    workers.leave_none_behind(settings)
    configure_logging(log_level)
    if count > 1:
        run_async(workers.serve(settings, log_level))
    else:
        app.run(settings)


@click.command()
@setting_options(config.SETTINGS[:3])
def migrate(**options: str | None) -> None:
    """Create the stores, or upgrade them to this version's schema.

    Only while no `serve` uses them. Running it again changes nothing.
    """
    settings = config.load(given_settings(options), insecure=True)
    for label, place, revision in stores.migrate(settings):
        click.echo(f"{label:<10} {revision}  {place}")


@click.command()
@setting_options(config.SETTINGS)
@click.option(
    "--full", is_flag=True, help="Read every page and every event of SQLite stores of any size."
)
def check(full: bool, **options: str | None) -> None:
    """Say of each thing the service depends on whether it is usable, or what to run next.

    Changes nothing, and may run beside a server. Exit code 1 if something is not usable.
    """
    settings = config.load(given_settings(options), insecure=True)
    failed = False
    for label, look in checks(settings, full=full):
        try:
            told = look()
        except errors.PlugstatusError as error:
            failed = True
            click.echo(f"FAILED  {label}: {error}")
        else:
            click.echo(f"OK      {label}: {told}")
    sys.exit(1 if failed else 0)
