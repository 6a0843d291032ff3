"""`wait`: what it prints, and its exit codes."""

import json
import subprocess
import sys

import httpx
import pytest

from service.cli import main
from tests.calls import callback
from tests.prefork import INSTALLED
from tests.server_process import ServerProcess, clean_environment


def _post(server: ServerProcess, message_id: str, status: str) -> None:
    url = f"{server.http}/instancia/acme/status"
    answer = httpx.post(url, json=callback(message_id, status), trust_env=False)
    assert answer.status_code == httpx.codes.OK


def _waited(*arguments: str) -> int:
    """The exit code of the command, in this process, if it is not 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["plugstatus", "wait", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_wait(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the message: 0 once it is there, 1 if it failed; 1 when the time is up."""
    process = subprocess.Popen(
        [INSTALLED, "wait", "M", "--at-least", "received"],
        env=clean_environment({"API_TARGET": server.grpc}),
        stdout=subprocess.PIPE,
        text=True,
    )
    _post(server, "failed", "FAILED")
    _post(server, "M", "SENT")
    _post(server, "M", "READ")
    out, _ = process.communicate(timeout=60)
    read = ("--api-target", server.grpc, "--at-least", "read")
    failed_code = _waited("failed", *read, "--json")
    failed = capsys.readouterr()
    late_code = _waited("failed", *read, "--ignore-failure", "--timeout", "0.2")
    late = capsys.readouterr()

    assert (process.returncode, out.splitlines()[0]) == (0, "M  READ")
    assert (failed_code, json.loads(failed.out)["status"]) == (1, "STATUS_FAILED")
    assert (late_code, late.out) == (1, "")
    assert late.err.startswith("plugstatus: not reached within")


def test_wait_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    """It does not wait for one that is not there at first."""
    code = _waited("M", "--at-least", "read", "--api-target", "127.0.0.1:1")

    assert code == 1
    assert "start one with `plugstatus serve`" in capsys.readouterr().err


def test_wait_for_what_is_not_waited_for() -> None:
    """A status that is no stage of delivery is wrong use."""
    assert _waited("M", "--at-least", "pending") == 2
