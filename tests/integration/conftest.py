"""A provider, the stores, and the process that updates webhooks over them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.provider import Provider, respond
from tests.webhook_process import AUTHORITY, Stores, Updates


@pytest.fixture
async def plugchat() -> AsyncIterator[Provider]:
    async with Provider(AUTHORITY) as running:
        running.will(respond(200))
        yield running


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    running = Stores(tmp_path)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def update(tmp_path: Path, plugchat: Provider, stores: Stores) -> Updates:
    return Updates(tmp_path, plugchat, stores)
