"""Processes of two versions on one PostgreSQL, through an upgrade of its schema."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.database.schema import Store, known_revision
from tests.calls import Api, callback
from tests.command import plugstatus
from tests.postgres import connected, database_url
from tests.processes import ROOT
from tests.server_process import ServerProcess

ADDING = '''
"""Adds a table that the revision before knows nothing of."""

from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("INSERT INTO served_revision (revision) VALUES ('{revision}')")
    op.execute("CREATE TABLE added (id integer)")
'''
NEXT = {Store.EVENT_LOG: "e9999", Store.VIEWS: "v9999"}


def next_version(folder: Path) -> Path:
    """This program, with one more migration of each store."""
    for part in ("service", "migrations"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    for store, revision in NEXT.items():
        text = ADDING.format(revision=revision, before=known_revision(store))
        versions = folder / "migrations" / store.folder / "versions"
        (versions / f"{revision}_added.py").write_text(text)
    return folder


@contextmanager
def running(folder: Path, url: str) -> Iterator[ServerProcess]:
    with ServerProcess(folder, {"EVENTS_URL": url}) as server:
        yield server


async def told(server: ServerProcess, message_id: str, ask: ServerProcess) -> str:
    """Post to one of them, ask the other: the message's id."""
    async with httpx.AsyncClient(base_url=server.http, trust_env=False, timeout=20) as http:
        answer = await http.post("/instancia/acme/status", json=callback(message_id))
    api = Api(ask.grpc)
    message = await api.get(message_id, min_cursor=answer.json()["cursor"])
    await api.channel.close()
    return message.message_id


async def test_old_and_new_run_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new version upgrades under the old one, which goes on and can be started again; what
    either records the other tells."""
    url = database_url(tmp_path)
    tree = next_version(tmp_path / "next")
    with running(tmp_path / "old", url) as old:
        monkeypatch.setenv("PYTHONPATH", str(tree))
        migrated = plugstatus("migrate", EVENTS_URL=url, DATA_DIR=str(tmp_path / "m"))
        with running(tmp_path / "new", url) as new:
            monkeypatch.delenv("PYTHONPATH")
            heard = [await told(old, "A", new), await told(new, "B", old)]
            old.kill()
            with running(tmp_path / "old", url) as again:
                heard += [await told(again, "C", new), await told(new, "D", again)]
    with connected(url) as connection:
        found = connection.execute("SELECT version_num FROM plugstatus_events.alembic_version")
        revision = found.fetchone()

    assert migrated.returncode == 0
    assert all(revision in migrated.stdout for revision in NEXT.values())
    assert revision == ("e9999",)
    assert heard == ["A", "B", "C", "D"]
