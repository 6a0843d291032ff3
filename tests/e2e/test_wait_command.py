"""`wait`: what it prints, and its exit codes."""

import json
import subprocess

import httpx
from click.testing import CliRunner

from service.cli import cli
from tests.calls import callback
from tests.command import plugstatus
from tests.server_process import PLUGSTATUS, ServerProcess, clean_environment


def _post(server: ServerProcess, message_id: str, status: str) -> None:
    url = f"{server.http}/instancia/acme/status"
    answer = httpx.post(url, json=callback(message_id, status), trust_env=False)
    assert answer.status_code == httpx.codes.OK


def test_wait(server: ServerProcess) -> None:
    """It prints the message: 0 once it is there, 1 if it failed; 1 when the time is up."""
    here = {"API_TARGET": server.grpc}
    process = subprocess.Popen(
        [PLUGSTATUS, "wait", "M", "--at-least", "received"],
        env=clean_environment(here),
        stdout=subprocess.PIPE,
        text=True,
    )
    _post(server, "failed", "FAILED")
    _post(server, "M", "SENT")
    _post(server, "M", "READ")
    out, _ = process.communicate(timeout=60)
    read = ("--at-least", "read")
    failed = plugstatus("wait", "failed", *read, "--json", **here)
    late = plugstatus("wait", "failed", *read, "--ignore-failure", "--timeout", "0.2", **here)

    assert (process.returncode, out.splitlines()[0]) == (0, "M  READ")
    assert (failed.returncode, json.loads(failed.stdout)["status"]) == (1, "STATUS_FAILED")
    assert (late.returncode, late.stdout) == (1, "")
    assert late.stderr.startswith("plugstatus: not reached within")


def test_wait_for_what_is_not_waited_for() -> None:
    """A status that is no stage of delivery is wrong use."""
    run = CliRunner().invoke(cli, ["wait", "M", "--at-least", "pending"])

    assert run.exit_code == 2
