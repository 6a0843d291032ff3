"""`migrate` and `check`: before `serve`, and when it does not do what it should."""

import sys

import click

from service import config, errors, stores
from service.cli.checking import checks
from service.cli.options import given_settings, setting_options


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
