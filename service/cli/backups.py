"""`backup` and `restore`: the stores carried to a folder, and back."""

from collections.abc import Callable
from pathlib import Path

import click

from service import config, stores
from service.cli.options import given_settings, setting_options
from service.cli.output import plain
from service.cli.progress import ProgressBar
from service.clock import Clock, SystemClock
from service.config import Config
from service.domain.progress import Progress
from service.telemetry import configure_logging
from service.wire import encode

_store_options = setting_options(config.SETTINGS[:3])
_folder = click.argument(
    "folder", metavar="DIR", type=click.Path(file_okay=False, resolve_path=True, path_type=Path)
)


@click.command()
@_folder
@_store_options
def backup(folder: Path, **options: str | None) -> None:
    """Copy the stores to a new folder, also while they are served; then verify the copy.

    The log's copy is one state of it. Positions and identity stay, so cursors up to there go on
    after `restore`. Whatever is erased later is still in older backups: erase there too, or delete
    them. Of PostgreSQL the log is copied, row by row; its own tools do that faster.
    """
    _carry(stores.back_up, folder, options)


@click.command()
@_folder
@_store_options
def restore(folder: Path, **options: str | None) -> None:
    """Put a backup in place of the stores, under the same identity.

    Only while nobody serves them. What is there is kept beside, under another name. Cursors up to
    the backup go on; those from behind it get CURSOR_AHEAD, and CURSOR_DIVERGED once the log has
    grown past them: such a client takes a snapshot. A PostgreSQL database has to be empty.
    """
    _carry(stores.restore, folder, options)


def _carry(
    way: Callable[[Config, Path, Clock, Callable[[Progress], None]], str],
    folder: Path,
    options: dict[str, str | None],
) -> None:
    settings = config.load(given_settings(options), insecure=True)
    configure_logging("warning")
    with ProgressBar() as bar:
        told = way(
            settings, folder, SystemClock(), lambda progress: bar.show(encode.progress(progress))
        )
    click.echo(plain(told))
