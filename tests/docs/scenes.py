"""What each page takes for granted, and the commands that are not run for it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trustme
from anyio.from_thread import start_blocking_portal
from sqlalchemy.engine import make_url

from tests.docs.terminal import Terminal
from tests.faults.stage import free_port
from tests.postgres import empty_database_url
from tests.provider import Provider, respond

NOT_RUN = {
    "make torture": "takes as long as it is told",
    "make fuzz": "takes as long as it is told",
    ".venv/bin/python -m tests.": "takes its time, and needs etcd",
    "pip install": "would change the environment that runs this",
    "useradd": "changes the machine",
    "install ": "changes the machine",
}
"""How a command begins, and why it is not run."""

_HTTP, _GRPC = "127.0.0.1:8080", "127.0.0.1:50051"
_CALLBACK = (
    """curl -H 'Content-Type: application/json' -d '{"type": "MessageStatusCallback", """
    """"status": "%s", "ids": ["1"], "momment": 1632234645000, "phone": "5544999999999"}' """
    f"http://{_HTTP}/instancia/acme/status"
)


@contextmanager
def scene(page: str, folder: Path) -> Iterator[Terminal]:
    """A terminal in which the page can be played."""
    places = {
        _HTTP: f"127.0.0.1:{free_port()}",
        _GRPC: f"127.0.0.1:{free_port()}",
        "/backups/": f"{folder.resolve()}/backups/",
        "/srv/plugstatus": str(folder.resolve()),
    }
    settings = {"HTTP_BIND": places[_HTTP], "GRPC_BIND": places[_GRPC]}
    with ExitStack() as stack:
        if page == "operating.md":
            places |= _database(folder)
        if page == "provider.md":
            settings |= _plugchat(folder, stack)
        terminal = stack.enter_context(Terminal(folder, settings, places))
        if page in ("client.md", "operating.md"):
            server = terminal.start("make run")
            server.take(1)
            if page == "operating.md":
                for status in ("SENT", "READ"):
                    terminal.run(_CALLBACK % status)
                server.end()
        yield terminal


def _database(folder: Path) -> dict[str, str]:
    """An empty one, by the names that pages give it."""
    url = make_url(empty_database_url(folder))
    return {
        "postgresql://plugstatus@db.internal/plugstatus": url.render_as_string(hide_password=False),
        "database plugstatus at db.internal": f"database {url.database} at {url.query['host']}",
    }


def _plugchat(folder: Path, stack: ExitStack) -> dict[str, str]:
    """One that says yes; the settings that lead to it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "plugchat.pem")
    portal = stack.enter_context(start_blocking_portal())
    provider = stack.enter_context(portal.wrap_async_context_manager(Provider(authority)))
    provider.will(respond(200))
    return {"PLUGCHAT_URL": provider.url, "PLUGCHAT_CA_FILE": str(folder / "plugchat.pem")}
