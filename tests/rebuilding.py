"""Rebuilds of a served history, asked for over the API and by the command."""

import random
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api
from tests.command import plugstatus
from tests.histories import (
    Said,
    random_callbacks,
    recorded,
)
from tests.server_process import ServerProcess

DEADLINE_S = 60.0
FOLDING = "folding the log anew"

History = tuple[Path, list[Said]]
"""A data folder and the callbacks in it."""


def made_history(folder: Path, events: int) -> History:
    """A data folder that was served once, and the random callbacks in it."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    said = random_callbacks(random.Random(seed), events)
    recorded(folder, said)
    return folder, said


@asynccontextmanager
async def opened(server: ServerProcess) -> AsyncIterator[Api]:
    api = Api(server.grpc)
    try:
        yield api
    finally:
        await api.channel.close()


def rebuilding(api: Api, *, check: bool = False) -> Any:
    return api.admin.RebuildViews(pb.RebuildViewsRequest(check=check), timeout=DEADLINE_S)


async def ended(call: Any) -> pb.TaskProgress:
    """The last progress of a rebuild that ends well."""
    responses = [each async for each in call]
    last: pb.TaskProgress = responses[-1].progress
    return last


async def generation(api: Api) -> int:
    status: pb.GetServiceStatusResponse = await api.admin.GetServiceStatus(
        pb.GetServiceStatusRequest(), timeout=DEADLINE_S
    )
    return status.views_generation


def unused_target() -> str:
    """An address where nothing answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def alone(data_dir: Path, *options: str, target: str = "") -> "subprocess.CompletedProcess[str]":
    """`plugstatus rebuild` while no server answers."""
    return plugstatus(
        "rebuild", *options, DATA_DIR=str(data_dir), API_TARGET=target or unused_target()
    )
