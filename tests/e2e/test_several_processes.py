"""Every role in processes of its own, on one database."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import grpc
import grpc.aio
import pytest
import pytest_asyncio
import trustme

from service.database.schema import Store, known_revision
from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api
from tests.command import plugstatus
from tests.faults.stage import now_s
from tests.faults.watching import reason_of
from tests.postgres import (
    bring_back,
    connected,
    database_url,
    empty_database_url,
    take_away,
)
from tests.provider import Provider, held, respond
from tests.run_on_site import Run
from tests.server_process import ServerProcess
from tests.site_on_postgres import DEADLINE_S, Site, opened

in_one_loop = pytest.mark.asyncio(loop_scope="module")
"""That of the provider."""

AUTHORITY = trustme.CA()
AT_ONCE_S = 2.0
QUIET_S = 4.0
"""Each of two processes looks every second, on a machine that is busy."""

TURN_S = 5.0
"""A lease lasts for three seconds, and who waits looks every half."""

LISTENERS = 4
"""Both projectors and both api processes."""

SEVERAL = 5
Migrated = tuple[str, "list[CompletedProcess[str]]"]
"""A database, and what the migrations said."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with Provider(AUTHORITY) as running:
        yield running


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Migrated:
    """A database that was empty when several migrations of it began at once."""
    url = empty_database_url(tmp_path_factory.mktemp("site"))
    with ThreadPoolExecutor(SEVERAL) as threads:
        said = threads.map(lambda _: plugstatus("migrate", EVENTS_URL=url), range(SEVERAL))
        return url, list(said)


@pytest.fixture(scope="module")
def site(
    provider: Provider, migrated: Migrated, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Its processes have begun at once on the new stores."""
    folder = tmp_path_factory.mktemp("site")
    AUTHORITY.cert_pem.write_to_path(str(folder / "ca.pem"))
    settings = {
        "PLUGCHAT_URL": provider.url,
        "PLUGCHAT_CA_FILE": str(folder / "ca.pem"),
        "PLUGCHAT_INSTANCE": "acme",
        "PLUGCHAT_AUTHORIZATION": "Bearer pl-s3cret",
    }
    with Site(folder, migrated[0], settings=settings) as running:
        yield running


def test_several_migrations_at_once(migrated: Migrated) -> None:
    """Of an empty database: each succeeds, and says the same."""
    said = migrated[1]

    assert [one.returncode for one in said] == [0] * SEVERAL, said
    assert {one.stdout for one in said} == {said[0].stdout}
    assert all(known_revision(store) in said[0].stdout for store in Store)


@in_one_loop
async def test_all_roles_apart(site: Site) -> None:
    """What either ingress process is posted, both api processes tell, and in the log's order."""
    async with Run(site) as run:
        await run.posts(400)
    told = await site.told()

    assert {answer.target for answer in run.answers} == {0, 1}
    assert run.broken == []
    assert told == [run.messages] * 2


@in_one_loop
async def test_a_foreign_transaction_holds_up_nothing(site: Site) -> None:
    """Somebody's transaction that has written, and stays open, delays and hides no callback."""
    with connected(site.url) as foreign, foreign.transaction():
        foreign.execute("CREATE TEMPORARY TABLE nobodys AS SELECT 1 AS one")
        began_s = now_s()
        async with Run(site) as run:
            await run.posts(200)
        told = await site.told()

    assert run.longest_quiet_s(began_s) < QUIET_S
    assert run.broken == []
    assert told == [run.messages] * 2


@in_one_loop
async def test_lost_notifications(site: Site) -> None:
    """While nobody hears a notification, changes come all the same, by polling."""
    began_s, lost = now_s(), 0
    with connected(site.url) as database:
        async with Run(site) as run, asyncio.timeout(DEADLINE_S):
            while lost < 2 * LISTENERS:
                lost += database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND query ILIKE 'LISTEN%'"
                ).rowcount
                await run.posts(5)

    assert run.longest_quiet_s(began_s) < QUIET_S
    assert run.broken == []


@in_one_loop
async def test_the_database_goes_away(site: Site) -> None:
    """Callbacks are kept and recorded once; reads are refused at once; watchers stay and go on."""
    refusals = []
    async with Run(site) as run:
        await run.told(20)
        opened_before = len(run.streams)
        await asyncio.to_thread(take_away, site.url)
        try:
            await run.posts(200)
            for each in site.apis:
                began_s = now_s()
                refusals.append((await _refusal(each), now_s() - began_s < AT_ONCE_S))
            checked = await asyncio.to_thread(
                plugstatus,
                "check",
                EVENTS_URL=site.url,
                ROLES="ingress",
                DATA_DIR=str(site.ingress[0].data_dir),
            )
        finally:
            await asyncio.to_thread(bring_back, site.url)
        await run.told(200)
        opened_after = len(run.streams)
    told = await site.told()

    assert refusals == [("VIEWS_UNAVAILABLE", True)] * 2
    assert checked.returncode == 1
    assert f"wait in {site.ingress[0].data_dir}" in checked.stdout
    assert opened_after == opened_before
    assert any(answer.spooled for answer in run.answers)
    assert run.refused == []
    assert run.broken == []
    assert told == [run.messages] * 2


async def _refusal(process: ServerProcess) -> str:
    """The reason of an UNAVAILABLE."""
    async with opened(process) as api:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await api.status.GetMessageStatus(
                pb.GetMessageStatusRequest(message_id="M"), timeout=DEADLINE_S
            )
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    return reason_of(raised.value)


@in_one_loop
async def test_each_process_killed_in_turn(site: Site) -> None:
    """Whichever is killed, callbacks are recorded and told, each once, and clients go elsewhere."""
    leader = await site.leader()
    standby = next(each for each in site.projectors if each is not leader)
    first, second = zip(site.ingress, site.apis, strict=True)
    back: dict[ServerProcess, asyncio.Task[None]] = {}
    async with Run(site) as run:
        for process in (*first, standby, *second):
            if process in second:
                await back[first[second.index(process)]]
            await run.told(20)
            run.signal(process, signal.SIGKILL)
            await run.posts(20)
            await run.told(20)
            back[process] = asyncio.create_task(run.restart(process))
        await asyncio.gather(*back.values())
        await run.told(20)
    told = await site.told()

    assert await site.leader() is leader
    assert run.refused == []
    assert run.broken == []
    assert told == [run.messages] * 2


async def _updated(process: ServerProcess, name: str) -> pb.Webhook:
    request = pb.UpdateWebhookRequest(instance="acme", url=f"https://hooks.example.com/{name}")
    async with opened(process) as api:
        response: pb.UpdateWebhookResponse = await api.admin.UpdateWebhook(
            request, timeout=DEADLINE_S
        )
    return response.webhook


@in_one_loop
async def test_one_webhook_update_at_a_time(site: Site, provider: Provider) -> None:
    """An update on one api process waits for that of the same instance on the other."""
    slow = held(respond(200))
    provider.will(slow, respond(200))
    before = provider.connections
    first = asyncio.create_task(_updated(site.apis[0], "first"))
    await slow.arrived.wait()
    second = asyncio.create_task(_updated(site.apis[1], "second"))
    waiting = (await asyncio.wait({second}, timeout=1.5))[1]
    meanwhile = provider.connections - before
    slow.release.set()
    states = [webhook.state for webhook in await asyncio.gather(first, second)]
    last = await _webhook(site.apis[0])

    assert waiting == {second}
    assert meanwhile == 1
    assert states == [pb.WEBHOOK_STATE_ACCEPTED] * 2
    assert last.url == "https://hooks.example.com/second"
    assert [b"first" in one.body for one in provider.requests[-2:]] == [True, False]


async def _webhook(process: ServerProcess) -> pb.Webhook:
    async with opened(process) as api:
        response: pb.GetWebhookResponse = await api.admin.GetWebhook(
            pb.GetWebhookRequest(instance="acme"), timeout=DEADLINE_S
        )
    return response.webhook


@in_one_loop
async def test_the_turn_of_a_killed_process(site: Site, provider: Provider) -> None:
    """It is over in seconds; what became of its update is unknown once it is back."""
    slow = held(respond(200))
    provider.will(slow, respond(200))
    first = asyncio.create_task(_updated(site.apis[0], "first"))
    await slow.arrived.wait()
    site.apis[0].kill()
    began_s = time.monotonic()
    second = await _updated(site.apis[1], "second")
    waited_s = time.monotonic() - began_s
    print(f"the turn of a killed process was over after {waited_s:.2f} s")
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.to_thread(site.apis[0].start)
    async with opened(site.apis[0]) as api, asyncio.timeout(DEADLINE_S):
        states: list[int] = []
        while len(states) < 2 or pb.WEBHOOK_STATE_PENDING in states:
            states = await _last_states(api)

    assert waited_s < TURN_S
    assert second.state == pb.WEBHOOK_STATE_ACCEPTED
    assert states == [pb.WEBHOOK_STATE_ACCEPTED, pb.WEBHOOK_STATE_UNKNOWN]


async def _last_states(api: Api) -> list[int]:
    """Of the last two updates, the newest first."""
    response: pb.ListWebhookUpdatesResponse = await api.admin.ListWebhookUpdates(
        pb.ListWebhookUpdatesRequest(instance="acme", page_size=2), timeout=DEADLINE_S
    )
    return [update.state for update in response.updates]


def test_a_database_without_stores_is_refused(tmp_path: Path) -> None:
    """`serve` makes no tables where several processes share them: it names `plugstatus migrate`."""
    url = empty_database_url(tmp_path)
    started = plugstatus("serve", DATA_DIR=str(tmp_path / "data"), EVENTS_URL=url)

    assert started.returncode == 2
    assert "plugstatus migrate" in started.stderr.splitlines()[-1]


@pytest.mark.parametrize("store", Store, ids=lambda store: store.folder)
def test_a_newer_schema_is_refused(tmp_path: Path, store: Store) -> None:
    """One that does not serve this version is refused with a sentence that names both."""
    url = database_url(tmp_path)
    with connected(url) as database:
        database.execute(f"SET search_path = plugstatus_{store.short_name}")
        database.execute("UPDATE alembic_version SET version_num = 'z9999'")
        database.execute("DELETE FROM served_revision")
    started = plugstatus("serve", DATA_DIR=str(tmp_path / "data"), EVENTS_URL=url)
    last = started.stderr.splitlines()[-1]

    assert started.returncode == 2
    assert "z9999" in last
    assert known_revision(store) in last
