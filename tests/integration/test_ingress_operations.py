"""The operations paths, on the webhook's address and on one of their own."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests import ingress_site
from tests.ingress_site import ACME, Site, problem
from tests.raw_http import connected

PATHS = ["/healthz", "/readyz", "/metrics", "/openapi.json"]


@pytest.fixture(params=["one address", "two addresses"])
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    values = {} if request.param == "one address" else {"OPS_BIND": "127.0.0.2:0"}
    async with ingress_site.running(tmp_path, values) as running:
        yield running


@pytest.mark.parametrize("path", PATHS)
async def test_each_path_answers_get_and_head(site: Site, path: str) -> None:
    """HEAD is GET without the body."""
    got = await site.ops.get(path)
    head = await site.ops.head(path)

    assert (got.status_code, head.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
async def test_other_methods_are_405(site: Site, path: str, method: str) -> None:
    """Only what works is offered: no OPTIONS."""
    answer = await site.ops.request(method, path)

    assert problem(answer) == 405
    assert answer.headers["allow"] == "GET, HEAD"


async def test_unknown_paths_are_404(site: Site) -> None:
    """No page, no schema browser, nothing else."""
    for path in ("/", "/schema", "/schema/openapi.json", "/docs", "/healthz/x"):
        assert problem(await site.ops.get(path)) == 404


async def test_callbacks_and_operations_keep_to_their_addresses(tmp_path: Path) -> None:
    """With two addresses each serves its own paths only."""
    async with ingress_site.running(tmp_path, {"OPS_BIND": "127.0.0.2:0"}) as site:
        assert site.ingress.http_bind != site.ingress.ops_bind
        assert [problem(await site.http.get(path)) for path in PATHS] == [404] * len(PATHS)
        assert problem(await site.ops.post(ACME, json={})) == 404
        assert (await site.post()).status_code == 200


async def test_alive_is_text(site: Site) -> None:
    """/healthz says no more than that the process answers."""
    answer = await site.ops.get("/healthz")

    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["cache-control"] == "no-store"


async def test_readiness_names_what_is_missing(tmp_path: Path) -> None:
    """503 with the reasons while there are any, and 200 once there are none."""
    reasons = ["the event log cannot be written"]

    async def readiness() -> Sequence[str]:
        return reasons

    async with ingress_site.running(tmp_path, readiness=readiness) as site:
        missing = await site.ops.get("/readyz")
        reasons.clear()
        ready = await site.ops.get("/readyz")

    assert (missing.status_code, missing.json()) == (
        503,
        {"ready": False, "reasons": ["the event log cannot be written"]},
    )
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})


async def test_a_failing_readiness_check_is_not_ready_and_shows_nothing(tmp_path: Path) -> None:
    """Whatever the check raises stays inside."""

    async def readiness() -> Sequence[str]:
        raise RuntimeError("postgresql://user:s3cret@host")

    async with ingress_site.running(tmp_path, readiness=readiness) as site:
        answer = await site.ops.get("/readyz")

    assert answer.status_code == 503
    assert "s3cret" not in answer.text


async def test_a_draining_process_is_not_ready(tmp_path: Path) -> None:
    """On an address of its own /readyz goes on through the drain and says so, until the close."""
    async with ingress_site.running(tmp_path, {"OPS_BIND": "127.0.0.2:0"}) as site:
        await site.ingress.drain()
        answer = await site.ops.get("/readyz")
        alive = await site.ops.get("/healthz")
        await site.ingress.close()
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection(*site.ingress.ops_bind)

    assert (answer.status_code, alive.status_code) == (503, 200)
    assert answer.json()["reasons"] == ["this process is shutting down"]


async def test_metrics_are_prometheus_text(site: Site) -> None:
    """What the process counts, in the format scrapers know."""
    await site.post()
    answer = await site.ops.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.headers["content-type"].count("charset") == 1
    assert 'plugstatus_callbacks_total{outcome="recorded"} 1.0' in answer.text


async def test_the_document_describes_every_path(site: Site) -> None:
    """The OpenAPI document names all paths, and all answers a callback can get."""
    document = json.loads((await site.ops.get("/openapi.json")).content)
    callback = document["paths"]["/instancia/{instance}/status"]["post"]

    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {"/instancia/{instance}/status", *PATHS}
    assert {parameter["name"] for parameter in callback["parameters"]} >= {"instance", "token"}
    assert set(callback["requestBody"]["content"]) == {"application/json"}
    assert set(callback["responses"]) == {
        *("200", "400", "401", "404", "405", "408", "413", "415", "431", "503")
    }
    assert "http://" not in json.dumps(document)
    assert "https://" not in json.dumps(document)


async def test_a_strange_host_is_a_problem_too(site: Site) -> None:
    """What the framework refuses by itself is told in the same form."""
    async with connected(site.ingress.ops_bind) as client:
        await client.send(b"GET /healthz HTTP/1.1\r\nHost: <script>\r\n\r\n")
        answer = await client.answer()

    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
