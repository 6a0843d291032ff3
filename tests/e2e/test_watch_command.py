"""`watch` over restarts of its server and of itself, and what it refuses."""

import json
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from service.cli import main
from service.client import CursorFile
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from tests.calls import callback
from tests.prefork import INSTALLED
from tests.server_process import ServerProcess, clean_environment

DEADLINE_S = 60.0
ABSENT = "127.0.0.1:1"


class Command:
    """A running `watch`, read line by line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.told: list[str] = []
        """The lines of standard error read so far, without their mark."""
        self.cursor = ""
        """Of the last change read."""

    def narrated(self, kind: str) -> str:
        """Read standard error up to the next line of that kind."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.told.append(line.removeprefix("# ").rstrip())
            if self.told[-1].split()[0] == kind:
                return self.told[-1]
        raise AssertionError(f"it ended before {kind}: {self.told}")

    def changed(self, count: int) -> list[str]:
        """The message ids of the next changes, which are JSON lines."""
        assert self.process.stdout is not None
        changes = [json.loads(self.process.stdout.readline()) for _ in range(count)]
        self.cursor = changes[-1]["cursor"]
        return [change["message"]["message_id"] for change in changes]

    def ended_by(self, number: signal.Signals) -> int:
        """Its exit code. What it has printed that was not read is lost."""
        self.process.send_signal(number)
        return self.process.wait()


@contextmanager
def _watching(server: ServerProcess, *options: str) -> Iterator[Command]:
    process = subprocess.Popen(
        [INSTALLED, "watch", "--json", *options],
        env=clean_environment({"API_TARGET": server.grpc}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    try:
        with process:
            yield Command(process)
            process.kill()
    finally:
        watchdog.cancel()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One for all tests of this module; each has an instance of its own."""
    with ServerProcess(tmp_path_factory.mktemp("data")) as process:
        yield process


def _post(server: ServerProcess, instance: str, *message_ids: str) -> None:
    for one in message_ids:
        answer = httpx.post(
            f"{server.http}/instancia/{instance}/status", json=callback(one), trust_env=False
        )
        assert answer.status_code == httpx.codes.OK


def test_goes_on_over_a_restart_of_its_server(server: ServerProcess) -> None:
    """It tells of the interruption, goes on behind the last change, and exits with 0."""
    with _watching(server, "--instance", "restart", "--progress-interval", "1") as command:
        command.narrated("caught_up")
        _post(server, "restart", "M1")
        seen = command.changed(1)
        command.narrated("progress")
        server.stop()
        server.settings |= {
            "GRPC_BIND": server.grpc,
            "HTTP_BIND": server.http.removeprefix("http://"),
        }
        server.start()
        _post(server, "restart", "M2")
        seen += command.changed(1)
        command.narrated("opened")
        code = command.ended_by(signal.SIGINT)
    interruptions = [line for line in command.told if line.startswith("interrupted")]

    assert seen == ["M1", "M2"]
    assert interruptions[0].startswith("interrupted  SHUTTING_DOWN: ")
    assert code == 0


def test_goes_on_where_it_was_ended(server: ServerProcess, tmp_path: Path) -> None:
    """Started again with its cursor file it prints the rest, however it was ended."""
    place = tmp_path / "place"
    options = ("--snapshot", "--instance", "ended", "--cursor-file", str(place))
    seen, codes, first_lines = [], [], []
    _post(server, "ended", "M0")
    for number, end in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGKILL), 1):
        with _watching(server, *options) as command:
            first_lines.append(command.narrated("caught_up") and command.told[0].split()[0])
            seen += command.changed(1)
            _post(server, "ended", f"M{number}")
            seen += command.changed(1)
            # Printed, it is only counted once the next one is asked for.
            while json.loads(place.read_text())["cursor"] != command.cursor:
                pass
            codes.append(command.ended_by(end))
        _post(server, "ended", f"M{number}-between")

    assert seen == ["M0", "M1", "M1-between", "M2", "M2-between", "M3"]
    assert codes == [0, 0, -signal.SIGKILL]
    assert first_lines == ["snapshot_begin", "opened", "opened"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_begins_with_a_snapshot(server: ServerProcess) -> None:
    """All messages there are, in order of key, then what changes; filtered alike."""
    _post(server, "held", "B", "A", "C")
    wanted = ("--instance", "held", "--message-id", "A", "--message-id", "C")
    with _watching(server, "--snapshot", *wanted) as command:
        held = command.changed(2)
        command.narrated("snapshot_end")
        _post(server, "held", "B", "C2")
        with grpc.insecure_channel(server.grpc) as channel:
            admin: Any = stubs.AdminServiceStub(channel)
            assert list(admin.RebuildViews(pb.RebuildViewsRequest()))
        interruption = command.narrated("interrupted")
        again = command.changed(2)
        command.narrated("snapshot_end")

    assert held == again == ["A", "C"]
    assert interruption.split()[1] == "VIEWS_REBUILT:"


REFUSALS = {
    "no server": ((), 1, "start one with `plugstatus serve`"),
    "in use": (("--cursor-file", "used"), 1, "give each one its own file"),
    "damaged": (("--cursor-file", "damaged"), 2, "remove it to begin anew"),
    "snapshot, cursor": (("--snapshot", "--cursor", "c"), 2, "exclude each other"),
    "snapshot, time": (("--snapshot", "--from-time", "2026-01-31"), 2, "exclude each other"),
    "cursor, time": (("--cursor", "c", "--from-time", "2026-01-31"), 2, "exclude each other"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_what_it_refuses(
    refusal: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """1 for what another time may cure, 2 for wrong use; what to do is said on standard error."""
    options, code, advice = REFUSALS[refusal]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["plugstatus", "watch", "--api-target", ABSENT, *options])
    Path("damaged").touch()
    used = CursorFile("used")
    used.open()
    with pytest.raises(SystemExit) as ended:
        main()
    used.close()
    told = capsys.readouterr()

    assert (ended.value.code, told.out) == (code, "")
    assert advice in told.err
    assert "Traceback" not in told.err
