"""Rules that the files of the repository keep."""

import ast
import re
import tomllib
from collections.abc import Iterator
from enum import IntEnum
from importlib import import_module
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.cli import cli
from service.domain.events import QuarantineReason
from service.domain.instance import ConnectionState
from service.domain.status import Status
from service.domain.webhook import WebhookState
from service.gen.plugchat.status.v1 import status_pb2 as pb

ROOT = Path(__file__).parents[2]
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

SOURCES = sorted(
    path
    for folder in ("service", "tests", "migrations", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
    if "gen" not in path.relative_to(ROOT).parts
)
FOLDERS = ("service", "tests", "migrations", "protos", "docs", "deploy", "benchmarks", ".ci")
TEXTS = sorted(
    path
    for path in [*ROOT.glob("*"), *(path for each in FOLDERS for path in (ROOT / each).rglob("*"))]
    if path.is_file() and path.suffix not in (".binpb", ".pyc", ".db")
)
LOCKS = {
    name: ROOT / name
    for name in ("requirements.lock", "requirements-dev.lock", "benchmarks/peers.lock")
}


def _named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


@pytest.mark.parametrize("path", SOURCES, ids=_named(SOURCES))
def test_modules_and_functions_are_short(path: Path) -> None:
    """No module is longer than 400 lines, and no function than 60."""
    source = path.read_text()

    too_long = [
        f"{node.name}: {lines}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]

    assert [] == too_long
    assert source.count("\n") <= MODULE_LINES_MAX


# Put together, so that this file does not break its own rule.
FORBIDDEN = re.compile(
    "|".join(
        (
            r"(?<![\w.~-])/" + r"(work|home|root|Users)/",
            "file:" + "//",
            "index-" + "url",
        )
    )
)


@pytest.mark.parametrize("path", TEXTS, ids=_named(TEXTS))
def test_no_file_knows_the_machine_it_was_written_on(path: Path) -> None:
    """No file names a folder of one machine, or a package index of one company."""
    found = [
        line.strip()
        for line in path.read_text(errors="replace").splitlines()
        if FORBIDDEN.search(line)
    ]

    assert [] == found


def _locked(path: Path) -> dict[str, str]:
    """The pinned version of each package."""
    pins = re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[.*?\])?==([^\s;\\]+)", path.read_text(), re.MULTILINE
    )
    return {canonicalize_name(name): version for name, version in pins}


def _declared() -> Iterator[tuple[str, Requirement]]:
    """What pyproject.toml asks for, and the lock file that has to give it."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        pyproject = tomllib.load(file)
    project = pyproject["project"]
    everyone = [*project["dependencies"], *pyproject["dependency-groups"]["build"]]
    for text in everyone:
        yield "requirements.lock", Requirement(text)
    for extra, lock in (("dev", "requirements-dev.lock"), ("peers", "benchmarks/peers.lock")):
        for text in [*everyone, *project["optional-dependencies"][extra]]:
            yield lock, Requirement(text)


def test_every_dependency_is_locked() -> None:
    """Each dependency has a pinned version that satisfies what pyproject.toml asks for."""
    locked = {name: _locked(path) for name, path in LOCKS.items()}

    missing = [
        f"{lock}: {requirement}"
        for lock, requirement in _declared()
        if not requirement.specifier.contains(
            locked[lock].get(canonicalize_name(requirement.name), "0")
        )
    ]

    assert [] == missing


def test_the_lock_files_agree() -> None:
    """What runs is what is tested and measured: all lock files pin the same versions of it."""
    run, *others = (_locked(path) for path in LOCKS.values())

    for other in others:
        assert run == {name: other.get(name, "") for name in run}


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_is_known_by_its_hash(name: str) -> None:
    """Lock files hold pinned packages with hashes, and say nowhere where those come from."""
    text = LOCKS[name].read_text()

    entries = re.split(r"^(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE), flags=re.M)

    assert [] == [
        entry.splitlines()[0] for entry in entries if entry and "--hash=sha256:" not in entry
    ]
    assert "://" not in text
    assert " @ " not in text


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (Status, pb.Status.items(), "STATUS_"),
        (WebhookState, pb.WebhookState.items(), "WEBHOOK_STATE_"),
        (ConnectionState, pb.ConnectionState.items(), "CONNECTION_STATE_"),
        (QuarantineReason, pb.QuarantineReason.items(), "QUARANTINE_REASON_"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_stored_numbers_are_those_of_the_proto(
    ours: type[IntEnum], theirs: list[tuple[str, int]], prefix: str
) -> None:
    """Enums of the domain and of the proto have the same names with the same numbers."""
    numbers = {name.removeprefix(prefix): number for name, number in theirs}
    unspecified = {"UNSPECIFIED": 0}

    assert numbers == unspecified | {member.name: int(member) for member in ours}


def test_a_status_is_its_rank() -> None:
    """The numbers of the statuses are fixed: clients compare them."""
    expected = {
        "STATUS_UNSPECIFIED": 0,
        "STATUS_UNRECOGNIZED": 10,
        "STATUS_READ_BY_ME": 20,
        "STATUS_PENDING": 30,
        "STATUS_SENT": 40,
        "STATUS_FAILED": 50,
        "STATUS_RECEIVED": 60,
        "STATUS_READ": 70,
        "STATUS_PLAYED": 80,
    }

    assert expected == dict(pb.Status.items())


def test_every_command_is_loaded_from_its_module() -> None:
    """A command that its module no longer defines, or one left out of the table, is found here."""
    context = click.Context(cli)
    loaded = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    defined = {
        str(one.name)
        for path in (ROOT / "service" / "cli").glob("[!_]*.py")
        for one in vars(import_module(f"service.cli.{path.stem}")).values()
        if isinstance(one, click.Command)
    }
    below = {
        name
        for group in loaded.values()
        if isinstance(group, click.Group)
        for name in group.commands
    }

    assert [name for name, one in loaded.items() if one is None or one.name != name] == []
    assert defined - below == set(loaded)
