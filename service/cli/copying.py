"""`copy`: a log carried to another database."""

import click

from service.cli.output import plain
from service.cli.progress import ProgressBar
from service.stores import copying
from service.telemetry import configure_logging
from service.wire import encode


@click.command()
@click.option(
    "--from",
    "source",
    required=True,
    metavar="URL",
    envvar="PLUGSTATUS_EVENTS_URL",
    show_envvar=True,
    help="The event log to copy.",
)
@click.option("--to", "target", required=True, metavar="URL", help="An empty database, or a copy.")
def copy(source: str, target: str) -> None:
    """Carry an event log to another database, from SQLite to PostgreSQL or any other way.

    Identity, positions, receive times and erasures stay, so every cursor goes on. Nobody may serve
    either log meanwhile. Killed, it goes on where it was when it is run again; run again after the
    first log has grown, it carries the rest. The views are not copied: the first `serve` on the new
    log builds them.
    """
    configure_logging("warning")
    with ProgressBar() as bar, copying(source, target) as steps:
        last = next(steps)
        for progress in steps:
            bar.show(encode.progress(last))
            last = progress
    click.echo(plain(last.note))
