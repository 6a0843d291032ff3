"""Options shared by commands, built from the table of settings."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from service import config, errors
from service.cli.failures import explained
from service.client import CallFailed, StatusClient

Command = TypeVar("Command", bound=Callable[..., Any])
ResultT = TypeVar("ResultT")


class Target(NamedTuple):
    """Where the commands find the API."""

    address: str
    token: str
    ca_file: Path | None
    certificate_file: Path | None
    key_file: Path | None

    def client(self) -> StatusClient:
        """Raises ConfigInvalid if what was given cannot be used."""
        try:
            return StatusClient(
                self.address,
                token=self.token,
                ca_file=self.ca_file,
                certificate_file=self.certificate_file,
                key_file=self.key_file,
            )
        except OSError as error:
            fault = f"{error.filename} cannot be read: {error.strerror}"
            raise errors.ConfigInvalid(f"{config.PREFIX}API_…_FILE", fault) from None
        except ValueError as error:
            raise errors.ConfigInvalid(f"{config.PREFIX}API_…", str(error)) from None


def setting_options(settings: tuple[config.Setting, ...]) -> Callable[[Command], Command]:
    """An option for each setting, named after it, that falls back to its variable."""

    def decorate(command: Command) -> Command:
        for setting in reversed(settings):
            command = _option(setting)(command)
        return command

    return decorate


def given_settings(options: dict[str, str | None]) -> dict[str, str]:
    """What was given, by setting name: options first, then the environment."""
    given = {
        setting.name: os.environ[setting.variable]
        for setting in config.SETTINGS
        if setting.variable in os.environ
    }
    for setting in config.SETTINGS:
        value = options.get(setting.name.lower())
        if value is not None:
            given[setting.name] = value
    return given


def api_options(command: Command) -> Command:
    """The options every command that asks a server has."""
    return setting_options(config.CLIENT_SETTINGS)(command)


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
instance_option = click.option("--instance", default="", metavar="NAME", help="The instance.")


def target_of(options: dict[str, str | None]) -> Target:
    """From the client options; the address defaults to the gRPC bind."""
    address = options["api_target"] or os.environ.get(f"{config.PREFIX}GRPC_BIND", "")
    default = next(s.default for s in config.SETTINGS if s.name == "GRPC_BIND")

    def path(name: str) -> Path | None:
        given = options[name]
        return Path(given) if given else None

    return Target(
        address or default,
        options["api_token"] or "",
        path("api_ca_file"),
        path("api_cert_file"),
        path("api_key_file"),
    )


def run(target: Target, ask: Callable[[StatusClient], Awaitable[ResultT]]) -> ResultT:
    """Ask the server. Raises CallFailed, or Unreachable if nothing answers there."""

    async def asked() -> ResultT:
        async with target.client() as client:
            return await ask(client)

    try:
        return run_async(asked())
    except CallFailed as error:
        raise explained(error, target.address) from error


def run_async(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    return asyncio.run(work)


def _option(setting: config.Setting) -> Callable[[Command], Command]:
    shown = setting.shown_default or setting.default
    return click.option(
        setting.option,
        setting.name.lower(),
        metavar=setting.metavar,
        # The value itself is read by `config.load`, which tells an empty variable from none.
        envvar=setting.variable,
        show_envvar=True,
        help=f"{setting.meaning}. [default: {shown}]",
    )
