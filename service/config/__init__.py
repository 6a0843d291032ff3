"""The configuration: read once, from options and the environment, into one frozen object.

`SETTINGS` is the table of all variables; the command line builds its options and help texts from
it, and the documentation is checked against it. An empty variable is an unset one, except where
the table says otherwise. Every limit the service has stands in `Limits`.
"""

from service.config.limits import Limits
from service.config.loading import ROLES, is_instance, load, parse_bind, parse_tokens
from service.config.settings import CLIENT_SETTINGS, PREFIX, SETTINGS, Setting
from service.config.values import Bind, Config, Secret, describe

__all__ = [
    "CLIENT_SETTINGS",
    "PREFIX",
    "ROLES",
    "SETTINGS",
    "Bind",
    "Config",
    "Limits",
    "Secret",
    "Setting",
    "describe",
    "is_instance",
    "load",
    "parse_bind",
    "parse_tokens",
]
