"""`token new`: a secret for a caller of the API, and what the server's file needs to know of it."""

import hashlib
import json
import os
import secrets
from pathlib import Path

import click

from service.api import access
from service.config import Limits
from service.errors import ConfigInvalid

_PREFIX = "pst_"
"""By which a token that got somewhere it should not be is found."""

_BYTES = 32


@click.group()
def token() -> None:
    """Make tokens for the callers of the API, whom PLUGSTATUS_API_TOKENS_FILE names."""


@token.command()
@click.option("--name", default="caller", show_default=True, help="Who will hold it, for people.")
@click.option(
    "--role",
    type=click.Choice(("reader", "admin")),
    default="reader",
    show_default=True,
    help="What it may do; admin implies reader.",
)
@click.option(
    "--instance",
    "instances",
    multiple=True,
    metavar="NAME",
    help="Limit it to this instance; may be repeated.",
)
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Add its entry to this file of tokens.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def new(name: str, role: str, instances: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Make a token, and print it: this once, because only its SHA-256 is kept anywhere.

    What follows it is its entry for PLUGSTATUS_API_TOKENS_FILE, unless --file adds that by itself.
    A server that runs takes the file's changes within a second.
    """
    secret = _PREFIX + secrets.token_urlsafe(_BYTES)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    entry = _entry(digest, name, role, instances)
    try:
        access.parse(entry, Limits().token_instances_max)
    except ConfigInvalid as error:
        raise click.UsageError(str(error).partition(": token 1 ")[2] or str(error)) from None
    if file is not None:
        _add(file, entry)
    if as_json:
        fields = {"token": secret, "sha256": digest, "name": name, "roles": [role]}
        click.echo(json.dumps(fields | ({"instances": instances} if instances else {})))
    else:
        click.echo(secret)
        if file is None:
            click.echo(f"\n{entry}", nl=False)


def _entry(digest: str, name: str, role: str, instances: tuple[str, ...]) -> str:
    lines = ["[[token]]", f'sha256 = "{digest}"']
    # JSON's texts are TOML's too.
    lines += [f"name = {json.dumps(name)}", f"roles = {json.dumps([role])}"]
    if instances:
        lines.append(f"instances = {json.dumps(instances)}")
    return "\n".join([*lines, ""])


def _add(file: Path, entry: str) -> None:
    """In one write at its end, so that whoever reads it meanwhile sees all of it or nothing."""
    try:
        text = file.read_text() if file.exists() else ""
        if text.strip():
            access.parse(text, Limits().token_instances_max)
        separator = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        with open(file, "a", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
            opened.write(separator + entry)
    except OSError as error:
        raise click.UsageError(f"--file: {file} cannot be written: {error.strerror}") from None
