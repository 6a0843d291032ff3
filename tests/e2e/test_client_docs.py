"""The examples of the documentation do what it says."""

import asyncio
import random
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from service.client import StatusClient
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import callback
from tests.server_process import ServerProcess

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
MIRROR = EXAMPLES[1]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_compile(example: str) -> None:
    """Each is a whole program."""
    compile(example, "docs/client.md", "exec")


def _rows(mirror: Path) -> set[tuple[str, str, int]]:
    """What it holds; nothing as long as it has no tables."""
    with closing(sqlite3.connect(mirror)) as database:
        try:
            return set(database.execute("SELECT instance, message_id, status FROM messages"))
        except sqlite3.OperationalError:
            return set()


async def _listed(target: str) -> set[tuple[str, str, int]]:
    async with StatusClient(target) as client:
        messages = client.list_messages(pb.ListMessageStatusesRequest(page_size=1_000))
        return {(one.instance, one.message_id, int(one.status)) async for one in messages}


def test_the_mirror_survives_being_killed(server: ServerProcess, tmp_path: Path) -> None:
    """Killed in the middle of its snapshot and behind it, it holds what the server lists."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    mirror = tmp_path / "mirror.db"
    example = tmp_path / "example.py"
    example.write_text(MIRROR.replace("127.0.0.1:50051", server.grpc))
    command = (sys.executable, "-u", example)
    ids = [f"M{number}" for number in range(4_000)]

    def tell(status: str, some: list[str]) -> None:
        url = f"{server.http}/instancia/acme/status"
        answer = httpx.post(url, json=callback("", status, ids=some), trust_env=False)
        assert answer.status_code == httpx.codes.OK

    tell("SENT", ids)
    for least, most in ((1, 1), (1, 2_000), (2_000, 4_000)):
        enough = chance.randint(least, most)
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
            while len(_rows(mirror)) < enough:
                assert process.poll() is None
            process.kill()
        tell("READ", chance.sample(ids, 50))
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        counted = process.stdout.readline()
        process.kill()

    assert counted == b"4000 messages\n"
    assert _rows(mirror) == asyncio.run(_listed(server.grpc))
