"""Run `plugstatus` as a user would."""

import subprocess

from tests.server_process import PLUGSTATUS, clean_environment

_TIMEOUT_S = 60


def plugstatus(
    *arguments: str, stdin: str = "", **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command with these settings and no others; what it printed, and its exit code."""
    return subprocess.run(
        [PLUGSTATUS, *arguments],
        env=clean_environment(settings),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
