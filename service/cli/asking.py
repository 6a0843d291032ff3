"""Asking a server, for the commands that do."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from service import config, errors
from service.cli.failures import explained
from service.client import CallFailed, StatusClient

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
        return asyncio.run(asked())
    except CallFailed as error:
        raise explained(error, target.address) from error
