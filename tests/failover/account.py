"""Who the servers run as: PostgreSQL refuses root."""

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_NAME = "pgserver"
"""The user that the package with the binaries makes as well."""
# Patroni starts its own Python again. One that is started from outside finds its way by the rights
# of whoever starts it, and falls back to the modules of another.
_TRIAL = """
import patroni.dcs.etcd3, psycopg, subprocess, sys
subprocess.run([sys.executable, "-c", ""], check=True)
"""
_READ_ALL = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


class Unavailable(Exception):
    """This machine cannot run a cluster; the text says why in one sentence."""


class Account(NamedTuple):
    """A user, and what a command begins with to run as that one."""

    uid: int
    gid: int
    prefix: tuple[str, ...]

    def own(self, path: Path) -> Path:
        os.chown(path, self.uid, self.gid)
        return path


def server_account() -> Account:
    """Ourselves, or as root a user that owns nothing else. Raises Unavailable.

    That user may be unable to read our Python, which often lies in root's own folder. Rather than
    open that to everyone, the servers are then given the right to read everything.
    """
    if os.geteuid() != 0:
        return _able(Account(os.getuid(), os.getgid(), ()))
    try:
        user = pwd.getpwnam(_NAME)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", _NAME], check=True)
        user = pwd.getpwnam(_NAME)
    command = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    plain = Account(user.pw_uid, user.pw_gid, (*command, "--"))
    try:
        return _able(plain)
    except Unavailable:
        return _able(plain._replace(prefix=(*command, *_READ_ALL, "--")))


def _able(account: Account) -> Account:
    run = subprocess.run(
        [*account.prefix, sys.executable, "-c", _TRIAL],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        told = run.stderr.strip().rpartition("\n")[2]
        raise Unavailable(f"{sys.executable} cannot run patroni as user {account.uid}: {told}")
    return account
