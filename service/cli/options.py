"""Options shared by commands, built from the table of settings."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from service import config

Command = TypeVar("Command", bound=Callable[..., Any])


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
