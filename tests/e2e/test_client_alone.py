"""The client in an environment of its own: our wheel, grpcio, protobuf, and a caller's stubs."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

from tests.calls import callback
from tests.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
PROTO = "plugchat/status/v1/status.proto"

CALLER = """
import asyncio, json, sys

import grpc
from plugchat.status.v1 import status_pb2 as theirs
from plugchat.status.v1 import status_pb2_grpc as stubs
from service.client import CallFailed, StatusClient
from service.gen.plugchat.status.v1 import status_pb2 as ours


async def main():
    told = {}
    async with StatusClient(sys.argv[1]) as client:
        message = await client.wait("M", theirs.STATUS_READ)
        told["same"] = await client.get("M", instance="acme") == message
        async with client.watch(ours.WatchStatusesRequest(snapshot=True)) as watch:
            told["watched"] = (await anext(watch)).message.message_id
        try:
            await client.get("")
        except CallFailed as failure:
            told["failed"] = [failure.code.name, failure.reason, failure.violations[0][0]]
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        request = theirs.GetMessageStatusRequest(message_id="M")
        answer = await stubs.MessageStatusServiceStub(channel).GetMessageStatus(request)
        told["theirs"] = answer.message.SerializeToString() == message.SerializeToString()
    print(json.dumps(told))


asyncio.run(main())
"""


def _needed(name: str) -> set[str]:
    """The distribution and all that it requires itself."""
    required = map(Requirement, importlib.metadata.requires(name) or ())
    return {name}.union(
        *(_needed(each.name) for each in required if not each.marker or each.marker.evaluate())
    )


def _link(name: str, site: Path) -> None:
    """Put an installed distribution there, file by file: some share a folder with others."""
    for file in importlib.metadata.distribution(name).files or ():
        source, target = Path(str(file.locate())), site / file
        if ".." not in file.parts and source.suffix != ".pyc":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source)


def _run(*command: str | Path) -> str:
    # No variable that would let one environment see another's packages.
    variables = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    run = subprocess.run(
        command, env=variables, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of a new environment with the client and what it may need."""
    environment = tmp_path / "environment"
    _run(sys.executable, "-m", "venv", "--without-pip", environment)
    site = next(environment.glob("lib/python*/site-packages"))
    for name in _needed("grpcio") | _needed("protobuf"):
        _link(name, site)
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    interpreter = environment / "bin" / "python"
    _run(
        *(Path(sys.executable).parent / "uv", "pip", "install", "--python", interpreter),
        *("--offline", "--no-index", "--no-deps", wheel),
    )
    return interpreter


def test_beside_the_stubs_of_a_caller(server: ServerProcess, python: Path, tmp_path: Path) -> None:
    """It gets, waits, watches and tells why it failed, with no other package than it names."""
    caller = tmp_path / "caller"
    caller.mkdir()
    (caller / "main.py").write_text(CALLER)
    outputs = (f"--python_out={caller}", f"--grpc_python_out={caller}")
    _run(sys.executable, "-m", "grpc_tools.protoc", "-Iprotos", *outputs, PROTO)
    answer = httpx.post(
        f"{server.http}/instancia/acme/status", json=callback("M", "READ"), trust_env=False
    )
    told = json.loads(_run(python, "-W", "error", caller / "main.py", server.grpc))

    assert answer.status_code == httpx.codes.OK
    assert told == {
        "same": True,
        "watched": "M",
        "failed": ["INVALID_ARGUMENT", "FIELD_INVALID", "message_id"],
        "theirs": True,
    }
