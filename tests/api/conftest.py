"""One real server for the tests of a module, and clients of it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from tests.calls import Api
from tests.server_process import ServerProcess


@pytest.fixture(scope="module")
def server(store_kind: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """On the stores that are asked for."""
    data_dir: Path = tmp_path_factory.mktemp("data")
    with ServerProcess(data_dir) as process:
        yield process


@pytest.fixture
async def http(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
async def api(server: ServerProcess) -> AsyncIterator[Api]:
    client = Api(server.grpc)
    yield client
    await client.channel.close()
