"""Run `plugstatus` as a user would."""

import signal
import subprocess
import tempfile

from tests import prefork
from tests.server_process import clean_environment

_TIMEOUT_S = 60


def plugstatus(
    *arguments: str, stdin: str = "", **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command with these settings and no others; what it printed, and its exit code."""
    with (
        tempfile.TemporaryFile("w+") as given,
        tempfile.TemporaryFile("r+") as out,
        tempfile.TemporaryFile("r+") as told,
    ):
        given.write(stdin)
        given.seek(0)
        process = prefork.started(
            arguments, clean_environment(settings), stdin=given, stdout=out, stderr=told
        )
        try:
            code = process.wait(_TIMEOUT_S)
        finally:
            process.send_signal(signal.SIGKILL)
        # The position is the child's as well.
        for file in (out, told):
            file.seek(0)
        return subprocess.CompletedProcess(
            ["plugstatus", *arguments], code, out.read(), told.read()
        )
