"""The commands as a user types them: output, exit codes, help."""

import json
import re
import signal
import subprocess
import threading
from pathlib import Path

import click
import httpx
import pytest

from service.cli import cli
from service.config import SETTINGS
from tests.calls import SEED_BODY, callback
from tests.command import plugstatus
from tests.prefork import INSTALLED
from tests.server_process import ServerProcess, clean_environment

SEED_ID = "999999999999999999999"


def _post(server: ServerProcess, body: dict[str, object], instance: str = "acme") -> str:
    answer = httpx.post(f"{server.http}/instancia/{instance}/status", json=body, trust_env=False)
    return str(answer.json()["cursor"])


def test_get_for_people_and_for_machines(server: ServerProcess) -> None:
    """`get` prints lines for people, one JSON line with every field for machines, and exits 0."""
    cursor = _post(server, SEED_BODY)
    told = plugstatus("get", SEED_ID, "--min-cursor", cursor, API_TARGET=server.grpc)
    exact = plugstatus("get", SEED_ID, "--json", API_TARGET=server.grpc)
    message = json.loads(exact.stdout)

    assert (told.returncode, exact.returncode) == (0, 0)
    assert told.stdout.splitlines()[0] == f"{SEED_ID}  RECEIVED"
    assert "5544999999999" in told.stdout
    assert exact.stdout.count("\n") == 1
    assert message["status"] == "STATUS_RECEIVED"
    assert message["group"] is False
    assert message["report_count"] == 1


def test_get_exit_codes(server: ServerProcess) -> None:
    """1 for an unknown message and for no server, 2 for wrong use, one line each."""
    _post(server, callback("shared"), "a")
    cursor = _post(server, callback("shared"), "b")
    plugstatus("get", "shared", "--instance", "b", "--min-cursor", cursor, API_TARGET=server.grpc)
    outcomes = {
        "unknown": plugstatus("get", "absent", API_TARGET=server.grpc),
        "no server": plugstatus("get", "absent", API_TARGET="127.0.0.1:1"),
        "ambiguous": plugstatus("get", "shared", API_TARGET=server.grpc),
        "bad field": plugstatus("get", "x" * 200, API_TARGET=server.grpc),
        "no id": plugstatus("get", API_TARGET=server.grpc),
        "bad option": plugstatus("get", "x", "--nonsense", API_TARGET=server.grpc),
    }

    assert {name: run.returncode for name, run in outcomes.items()} == {
        "unknown": 1,
        "no server": 1,
        "ambiguous": 2,
        "bad field": 2,
        "no id": 2,
        "bad option": 2,
    }
    assert all("Traceback" not in run.stderr for run in outcomes.values())
    assert all(run.stdout == "" for run in outcomes.values())
    assert "plugstatus serve" in outcomes["no server"].stderr


def test_watch_prints_changes_until_interrupted(server: ServerProcess) -> None:
    """`watch --json` prints one StatusChange a line, and Ctrl-C ends it with 0."""
    process = subprocess.Popen(
        [INSTALLED, "watch", "--json"],
        env=clean_environment({"API_TARGET": server.grpc}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    assert process.stdout is not None
    assert process.stderr is not None
    narrated = [process.stderr.readline(), process.stderr.readline()]
    _post(server, SEED_BODY)
    change = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    code = process.wait()
    watchdog.cancel()
    process.stdout.close()
    process.stderr.close()

    assert [line.split()[1] for line in narrated] == ["opened", "caught_up"]
    assert change["message"]["message_id"] == SEED_ID
    assert change["previous_status"] == "STATUS_UNSPECIFIED"
    assert code == 0


def test_history_tells_why(server: ServerProcess) -> None:
    """`history` tells every callback with what it changed, and `--raw` shows its bytes."""
    _post(server, callback("M1", "READ"))
    cursor = _post(server, callback("M1", "SENT", note="\x1b[31mred"))
    plugstatus("get", "M1", "--min-cursor", cursor, API_TARGET=server.grpc)
    told = plugstatus("history", "M1", "--raw", API_TARGET=server.grpc)
    lines = plugstatus("history", "M1", "--json", API_TARGET=server.grpc)
    absent = plugstatus("history", "absent", API_TARGET=server.grpc)
    reports = [json.loads(line) for line in lines.stdout.splitlines()]

    assert "first heard of: the message is READ" in told.stdout
    assert "first heard that it was SENT; the message stays READ, which outranks it" in told.stdout
    assert '"status": "SENT"' in told.stdout or '"status":"SENT"' in told.stdout
    assert "\x1b" not in told.stdout
    assert [report["status"] for report in reports] == ["STATUS_READ", "STATUS_SENT"]
    assert absent.returncode == 1


def test_tables_and_lines(server: ServerProcess) -> None:
    """`list`, `recipients`, `quarantine` and `status` print tables, and JSON lines when asked."""
    _post(server, {"status": "READ"})
    cursor = _post(server, callback("M1", "READ", participant="77@lid"))
    plugstatus("get", "M1", "--min-cursor", cursor, API_TARGET=server.grpc)
    commands = {
        "list": ("list", "--status", "read"),
        "recipients": ("recipients", "M1"),
        "quarantine": ("quarantine",),
        "status": ("status",),
    }
    tables = {
        name: plugstatus(*command, API_TARGET=server.grpc) for name, command in commands.items()
    }
    lines = {
        name: json.loads(plugstatus(*command, "--json", API_TARGET=server.grpc).stdout)
        for name, command in commands.items()
    }

    assert {run.returncode for run in tables.values()} == {0}
    assert tables["list"].stdout.splitlines()[1].split()[-3:] == ["M1", "READ", "5511900000102"]
    assert tables["recipients"].stdout.splitlines()[1].split()[:2] == ["77", "READ"]
    assert "TYPE_MISSING" in tables["quarantine"].stdout
    assert "last position 2" in tables["status"].stdout
    assert lines["list"]["message_id"] == "M1"
    assert lines["recipients"]["participant"] == "77"
    assert lines["quarantine"]["reason"] == "QUARANTINE_REASON_TYPE_MISSING"
    assert lines["status"]["log_head_position"] == "2"


def test_migrate_then_check(tmp_path: Path) -> None:
    """`migrate` creates both stores, again changes nothing, and then `check` finds all usable."""
    data_dir = str(tmp_path / "data")
    before = plugstatus("check", DATA_DIR=data_dir)
    first = plugstatus("migrate", DATA_DIR=data_dir)
    second = plugstatus("migrate", DATA_DIR=data_dir)
    after = plugstatus("check", DATA_DIR=data_dir)

    assert before.returncode == 1
    assert "plugstatus migrate" in before.stdout
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout == second.stdout
    assert len(first.stdout.splitlines()) == 2
    assert after.returncode == 0
    assert all(line.startswith("OK") for line in after.stdout.splitlines())


def test_migrate_refuses_a_folder_in_use(server: ServerProcess) -> None:
    """While a server runs, `migrate` is refused, and `check` says who holds the folder."""
    refused = plugstatus("migrate", DATA_DIR=str(server.data_dir))
    checked = plugstatus("check", DATA_DIR=str(server.data_dir))

    assert refused.returncode == 1
    assert f"process {server.pid}" in refused.stderr
    assert checked.returncode == 0
    assert f"in use by process {server.pid}" in checked.stdout


def test_simulate_reaches_the_views(server: ServerProcess) -> None:
    """`simulate` posts what it says, all of it recorded."""
    run = plugstatus(
        "simulate", "--messages", "50", "--rate", "2000", "--seed", "7", "--http", server.http
    )
    counted = re.match(r"(\d+) callbacks in [\d.]+ s: (\d+) recorded$", run.stdout)

    assert run.returncode == 0
    assert counted is not None
    assert counted[1] == counted[2]


def test_simulate_without_a_server() -> None:
    """Without an ingress `simulate` says so and exits 1."""
    run = plugstatus("simulate", "--messages", "1", "--http", "http://127.0.0.1:1")

    assert run.returncode == 1
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"HTTP_BIND": "nonsense"}, "PLUGSTATUS_HTTP_BIND"),
        ({"HTTP_BIND": "0.0.0.0:0"}, "PLUGSTATUS_HTTP_BIND"),
        ({"GRPC_BIND": "0.0.0.0:0"}, "PLUGSTATUS_GRPC_BIND"),
        ({"ROLES": "ingress"}, "PLUGSTATUS_ROLES"),
        ({"WATCHERS_MAX": "many"}, "PLUGSTATUS_WATCHERS_MAX"),
        ({"EVENTS_URL": "mysql://x/y"}, "PLUGSTATUS_EVENTS_URL"),
        ({"PLUGCHAT_CREDENTIALS_FILE": "/nowhere"}, "PLUGSTATUS_PLUGCHAT_CREDENTIALS_FILE"),
        ({"WEBHOOK_TOKEN": "s3cret token"}, "PLUGSTATUS_WEBHOOK_TOKEN"),
        ({"RETENTION_DAYS": "0"}, "PLUGSTATUS_RETENTION_DAYS"),
        ({"SPOOL": "on"}, "PLUGSTATUS_SPOOL"),
    ],
)
def test_wrong_setting_stops_the_start(
    tmp_path: Path, settings: dict[str, str], variable: str
) -> None:
    """One line names the variable; the exit code is 2, and no secret is shown."""
    run = plugstatus("serve", DATA_DIR=str(tmp_path), **settings)

    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert variable in run.stderr
    assert "s3cret" not in run.stderr


def test_workers_are_refused_on_sqlite(tmp_path: Path) -> None:
    """`serve --workers 2` exits 2 with the reason."""
    run = plugstatus("serve", "--workers", "2", DATA_DIR=str(tmp_path))

    assert run.returncode == 2
    assert "SQLite" in run.stderr


def test_an_option_beats_its_variable(tmp_path: Path) -> None:
    """Each setting is an option of `serve` as well, and the option counts."""
    run = plugstatus("serve", "--http-bind", "nonsense", HTTP_BIND="127.0.0.1:0")

    assert run.returncode == 2
    assert "nonsense" in run.stderr


@pytest.mark.parametrize(
    "command",
    cli.list_commands(click.Context(cli)),
)
def test_every_command_has_help(command: str) -> None:
    """`--help` shows what a command does and its environment variables."""
    run = plugstatus(command, "--help")

    assert run.returncode == 0
    assert "Usage: plugstatus" in run.stdout
    assert "PLUGSTATUS_" in run.stdout


def test_the_help_is_whole() -> None:
    """Every command stands there once, with all of its first sentence."""
    shown = plugstatus("--help").stdout
    sections = shown.partition("Run the service:")[2]

    assert "..." not in sections
    for name in cli.list_commands(click.Context(cli)):
        assert sections.count(f"\n  {name} ") == 1


def test_serve_help_names_every_setting() -> None:
    """No setting is missing from `serve --help`."""
    shown = plugstatus("serve", "--help").stdout

    assert [s.variable for s in SETTINGS if s.variable not in shown] == []
