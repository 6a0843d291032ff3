"""`token new`: what it prints is what a server takes."""

import asyncio
import json
from pathlib import Path

import grpc.aio
import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, error_info, fresh_id, post
from tests.command import plugstatus
from tests.secured import bearer
from tests.server_process import ServerProcess


async def test_a_new_token_is_taken_at_once(tmp_path: Path) -> None:
    """The printed entry makes a file, --file adds to it, and a running server takes both."""
    file = tmp_path / "tokens.toml"
    first = await asyncio.to_thread(plugstatus, "token", "new", "--name", "billing")
    token, _, entry = first.stdout.partition("\n\n")
    file.write_text(entry)
    with ServerProcess(tmp_path / "data", {"API_TOKENS_FILE": str(file)}) as server:
        api = Api(server.grpc)
        async with httpx.AsyncClient(base_url=server.http, trust_env=False) as http:
            message_id = fresh_id()
            cursor = await post(http, callback(message_id))
        request = pb.GetMessageStatusRequest(message_id=message_id, min_cursor=cursor)
        found = await api.status.GetMessageStatus(request, metadata=bearer(token), timeout=20)
        second = await asyncio.to_thread(
            plugstatus,
            *("token", "new", "--file", str(file), "--role", "admin", "--instance", "other"),
        )
        async with asyncio.timeout(20):
            reason = "TOKEN_INVALID"
            while reason == "TOKEN_INVALID":
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await api.status.GetMessageStatus(
                        request, metadata=bearer(second.stdout.strip()), timeout=20
                    )
                reason = error_info(caught.value).reason
        await api.channel.close()
    checked = await asyncio.to_thread(
        plugstatus, "check", DATA_DIR=str(tmp_path / "data"), API_TOKENS_FILE=str(file)
    )

    assert found.message.message_id == message_id
    assert second.stdout.count("\n") == 1
    # The message is another instance's, so to this token it is not there.
    assert reason == "MESSAGE_NOT_FOUND"
    assert token not in file.read_text()
    assert second.stdout.strip() not in file.read_text()
    assert "API tokens: 2, of which 1 admin, 1 limited to some instances" in checked.stdout


def test_tokens_are_secret_and_new_each_time(tmp_path: Path) -> None:
    """32 random bytes; the file is made for its owner only; what cannot be is refused."""
    made = [json.loads(plugstatus("token", "new", "--json").stdout) for _ in range(3)]
    file = tmp_path / "tokens.toml"
    written = plugstatus("token", "new", "--file", str(file))
    faulty = [
        plugstatus("token", "new", "--name", "line\nbreak"),
        plugstatus("token", "new", "--instance", "a/b"),
        plugstatus("token", "new", "--role", "writer"),
        plugstatus("token", "new", "--file", str(tmp_path / "none" / "tokens.toml")),
    ]
    file.write_text("[[broken")
    broken = plugstatus("token", "new", "--file", str(file))

    assert len({one["token"] for one in made}) == 3
    assert all(len(one["token"]) >= 43 for one in made)
    assert written.returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.returncode for one in faulty] == [2, 2, 2, 2]
    assert (broken.returncode, file.read_text()) == (2, "[[broken")
