"""`rebuild` and `forget`: asked of the running server, or done here while none runs."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import click

from service import config
from service.cli.asking import run, target_of
from service.cli.failures import Unreachable
from service.cli.options import api_options, given_settings, instance_option, setting_options
from service.cli.output import plain
from service.cli.progress import ProgressBar
from service.client import StatusClient, is_loopback
from service.clock import SystemClock
from service.config import Config
from service.core import Core
from service.domain.erasure import Subject
from service.domain.progress import Progress
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.stores import Stores
from service.telemetry import Metrics, configure_logging
from service.wire import encode

_store_options = setting_options(config.SETTINGS[:3])

_LAST_S = 0.5
"""Nothing follows the last progress for that long; behind others something soon does."""

Step = tuple[pb.TaskProgress, int]
"""The progress, and how many differences there are so far."""


@click.command()
@click.option("--check", is_flag=True, help="Only compare; the live views stay.")
@_store_options
@api_options
def rebuild(check: bool, **options: str | None) -> None:
    """Build the views anew from the event log, then switch to them.

    The service goes on meanwhile: at the switch every watch stream is closed with VIEWS_REBUILT
    and resumes with its cursor. Killed, it goes on where it was when it is run again. Without a
    server it works on the stores itself.

    With --check nothing is switched, and exit code 1 means that something differs.
    """

    async def ask(client: StatusClient) -> AsyncIterator[Step]:
        async for response in client.rebuild_views(check=check):
            yield response.progress, response.difference_count

    _, differences = _done(options, ask, lambda own: own.upkeep.rebuild(check=check))
    if differences:
        sys.exit(1)


@click.command()
@click.option("--message", "message_id", default="", metavar="ID", help="Forget this message.")
@instance_option
@click.option("--phone", default="", metavar="PHONE", help="Forget this phone, wherever it is.")
@click.option("--dry-run", is_flag=True, help="Only say what would be erased.")
@_store_options
@api_options
def forget(
    message_id: str, instance: str, phone: str, dry_run: bool, **options: str | None
) -> None:
    """Erase a message, or everything about a phone, for good.

    Every callback that names the message, or holds the phone anywhere, loses its body, and the
    views lose the message, or every message and recipient of the phone. What the same callbacks
    said about others stays. It cannot be undone. Backups are not touched: erase there as well.
    Without a server it works on the stores itself.
    """
    if bool(message_id) == bool(phone):
        raise click.UsageError("give either --message ID or --phone PHONE")
    if phone and instance:
        raise click.UsageError("a phone is forgotten in every instance: leave --instance out")
    request = pb.ForgetRequest(
        message_id=message_id, instance=instance, phone=phone, dry_run=dry_run
    )
    subject = Subject(phone=phone, message_id=message_id, instance=instance)

    async def ask(client: StatusClient) -> AsyncIterator[Step]:
        async for response in client.forget(request):
            yield response.progress, 0

    _done(options, ask, lambda own: own.upkeep.forget(subject, dry_run=dry_run))


def _done(
    options: dict[str, str | None],
    ask: Callable[[StatusClient], AsyncIterator[Step]],
    work: Callable[[Core], AsyncGenerator[Progress]],
) -> Step:
    """Have it done, with a bar; what came of it goes to standard output, and is returned."""
    target = target_of(options)
    answered = False
    with ProgressBar() as bar:

        async def asked(client: StatusClient) -> AsyncIterator[Step]:
            nonlocal answered
            async for step in ask(client):
                answered = True
                yield step

        try:
            last = run(target, lambda client: _followed(asked(client), bar))
        except Unreachable:
            if answered:
                # It may be on its way back: the stores are its own.
                raise Unreachable(
                    f"the plugstatus at {target.address} ended meanwhile: what it has done stays "
                    "done, and run again this goes on from there"
                ) from None
            settings = config.load(given_settings(options), insecure=True)
            # A server elsewhere has its stores there: those here are not the ones that were meant.
            if not is_loopback(target.address) or not Stores(settings).exist():
                raise
            click.echo(
                f"no plugstatus answers at {target.address}: working on the stores in "
                f"{settings.data_dir}",
                err=True,
            )
            configure_logging("warning")
            last = asyncio.run(_followed(_worked(settings, work), bar))
    click.echo(plain(last[0].note))
    return last


async def _followed(steps: AsyncIterator[Step], bar: ProgressBar) -> Step:
    """Show all but the last one, which is what came of it."""
    last: Step | None = None
    while True:
        coming = asyncio.ensure_future(anext(steps, None))
        ended, _ = await asyncio.wait({coming}, timeout=_LAST_S)
        if last is not None and not ended:
            bar.show(last[0])
        step = await coming
        if step is None:
            return last or (pb.TaskProgress(), 0)
        if last is not None and ended:
            bar.show(last[0])
        last = step


async def _worked(
    settings: Config, work: Callable[[Core], AsyncGenerator[Progress]]
) -> AsyncIterator[Step]:
    """Do it here. Raises DataDirInUse if another process has the stores."""
    async with Core(settings, SystemClock(), Metrics()) as own, aclosing(work(own)) as steps:
        async for progress in steps:
            yield encode.progress(progress), progress.differences
