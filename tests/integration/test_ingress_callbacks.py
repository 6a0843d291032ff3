"""Every row of the HTTP table, over real sockets and a real log."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from service.domain.events import EventKind, Mark, Position
from tests import ingress_site
from tests.clock import FakeClock
from tests.ingress_site import ACME, BODY, JSON, Site, problem

MIB = 1024 * 1024


@pytest.fixture
async def site(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Site]:
    async with ingress_site.running(tmp_path, clock=clock) as running:
        yield running


def of_size(size: int) -> bytes:
    """A JSON object of so many bytes."""
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


async def test_a_callback_is_recorded_before_it_is_answered(site: Site, clock: FakeClock) -> None:
    """The answer's cursor names the end of the event that the log then holds, byte for byte."""
    content = b' {"ids" : ["A"], "type":"MessageStatusCallback","x":"\\ud800","n":1e999}\n'
    answer = await site.post(content)
    (event,) = site.events()

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "outcome": "recorded",
        "cursor": site.cursors.end_of(Mark(Position(1), clock.now_us())),
    }
    assert (event.position, event.instance, event.receive_time_us, event.kind, event.content) == (
        1,
        "acme",
        clock.now_us(),
        EventKind.CALLBACK,
        content,
    )


async def test_any_json_object_is_recorded(site: Site) -> None:
    """Unknown types, no type at all, odd numbers and deep nesting are the projector's business."""
    bodies = [
        b"{}",
        b'{"type":"NeverHeardOf"}',
        b'{"type":7}',
        b'{"n":' + b"9" * 6_000 + b"}",
        b'{"s":"\\u0000\\udfff"}',
        b'{"a":' + b"[" * 999 + b"]" * 999 + b"}",
    ]
    answers = [(await site.post(body)).json()["outcome"] for body in bodies]

    assert answers == ["recorded"] * len(bodies)
    assert site.contents() == bodies


async def test_a_body_nested_too_deep_is_400(site: Site) -> None:
    """1,001 levels are refused, and nothing is stored."""
    answer = await site.post(b'{"a":' + b"[" * 1_000 + b"]" * 1_000 + b"}")

    assert problem(answer) == 400
    assert site.events() == []


@pytest.mark.parametrize(
    "type_", ["ReceivedCallback", "PresenceChatCallback", " receivedCALLBACK\\t"]
)
async def test_ignored_types_are_answered_and_not_stored(site: Site, type_: str) -> None:
    """Private chats are answered 200, counted, and never touch the disk, whatever the case."""
    answer = await site.post(f'{{"type":"X","text":"hi","type":"{type_}"}}'.encode())

    assert (answer.status_code, answer.json()) == (200, {"outcome": "ignored"})
    assert site.events() == []
    assert site.metric("plugstatus_callbacks_total", outcome="ignored") == 1


async def test_ignored_types_can_be_none(tmp_path: Path) -> None:
    """Set but empty, every type is stored."""
    async with ingress_site.running(tmp_path, {"IGNORED_TYPES": ""}) as site:
        answer = await site.post(b'{"type":"ReceivedCallback"}')

        assert answer.json()["outcome"] == "recorded"


@pytest.mark.parametrize(
    "path",
    [
        "/instancia/a%2Fb/status",
        "/instancia/%2e%2e/status",
        "/instancia//status",
        "/instancia/acme/status/",
        "/instancia/acme/other",
        "/instancia/acme",
        "/instancia",
        "/instanciax/acme/status",
        "/instancia%2Facme/status",
        "/instancia/" + "a" * 129 + "/status",
        "/",
        "/elsewhere",
    ],
)
async def test_another_path_is_404(site: Site, path: str) -> None:
    """What is no instance of one segment does not exist, whatever the method."""
    assert problem(await site.post(path=path)) == 404
    assert problem(await site.http.get(path)) == 404


async def test_an_encoded_instance_is_the_same_instance(site: Site) -> None:
    """`%61cme` is acme."""
    answer = await site.post(path="/instancia/%61cme/status")

    assert answer.status_code == 200
    assert site.events()[0].instance == "acme"


async def test_instances_not_served_are_404(tmp_path: Path) -> None:
    """With PLUGSTATUS_INSTANCES only those exist."""
    async with ingress_site.running(tmp_path, {"INSTANCES": "acme,b"}) as site:
        assert (await site.post()).status_code == 200
        assert problem(await site.post(path="/instancia/other/status")) == 404
        assert problem(await site.http.get("/instancia/other/status")) == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
async def test_another_method_is_405(site: Site, method: str) -> None:
    """Only POST is allowed, and only POST is offered, to known and to unknown methods."""
    answer = await site.http.request(method, ACME, content=BODY, headers=JSON)

    assert problem(answer) == 405
    assert answer.headers["allow"] == "POST"


async def test_head_is_405_without_a_body(site: Site) -> None:
    """HEAD is another method too, and its answer ends with the headers."""
    answer = await site.http.head(ACME)

    assert (answer.status_code, answer.headers["allow"], answer.content) == (405, "POST", b"")
    assert (await site.post()).status_code == 200


@pytest.mark.parametrize(
    "query", ["", "?token=", "?token=wrong", "?token=good&token=good", "?Token=good", "?x=good"]
)
async def test_a_wrong_token_is_401(tmp_path: Path, query: str) -> None:
    """Wrong, missing or given twice: refused with a challenge, and nothing is stored."""
    async with ingress_site.running(tmp_path, {"WEBHOOK_TOKEN": "good,other"}) as site:
        answer = await site.post(path=ACME + query)

        assert problem(answer) == 401
        assert answer.headers["www-authenticate"]
        assert site.events() == []


async def test_each_token_is_admitted(tmp_path: Path) -> None:
    """Any of several tokens does, beside other parameters."""
    async with ingress_site.running(tmp_path, {"WEBHOOK_TOKEN": "good,other"}) as site:
        assert (await site.post(path=f"{ACME}?token=good")).status_code == 200
        assert (await site.post(path=f"{ACME}?a=b&token=other")).status_code == 200


async def test_a_token_file_is_read_again_on_reload(tmp_path: Path) -> None:
    """After SIGHUP's reload the new token of the file is the valid one."""
    file = tmp_path / "tokens"
    file.write_text("old")
    async with ingress_site.running(tmp_path, {"WEBHOOK_TOKEN_FILE": str(file)}) as site:
        before = await site.post(path=f"{ACME}?token=old")
        file.write_text("new-one")
        site.ingress.reload()

        assert before.status_code == 200
        assert (await site.post(path=f"{ACME}?token=new-one")).status_code == 200
        assert problem(await site.post(path=f"{ACME}?token=old")) == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": ""},
        {"content-type": "application/json", "content-encoding": "br"},
        {"content-type": "application/json", "content-encoding": "gzip, gzip"},
        {},
    ],
)
async def test_another_media_type_or_encoding_is_415(site: Site, headers: dict[str, str]) -> None:
    """Neither JSON nor an encoding we offer: refused, and nothing is stored."""
    answer = await site.http.post(ACME, content=BODY, headers=headers)

    assert problem(answer) == 415
    assert site.events() == []


async def test_media_type_parameters_and_identity_are_taken(site: Site) -> None:
    """Parameters of the media type do not matter, and identity is no encoding."""
    answer = await site.post(
        content_type="Application/JSON; charset=utf-8", content_encoding="identity"
    )

    assert answer.status_code == 200


async def test_a_mebibyte_is_recorded_and_a_byte_more_is_413(site: Site) -> None:
    """The limit is exact, by Content-Length."""
    assert (await site.post(of_size(MIB))).status_code == 200
    assert problem(await site.post(of_size(MIB + 1))) == 413
    assert site.contents() == [of_size(MIB)]


@pytest.mark.parametrize("size", [1_000, 100_000, MIB])
async def test_a_gzip_body_is_stored_as_it_was_before_compression(site: Site, size: int) -> None:
    """The log holds the bytes after Content-Encoding, whatever their size."""
    content = of_size(size)
    answer = await site.post(gzip.compress(content), content_encoding="gzip")

    assert answer.json()["outcome"] == "recorded"
    assert site.contents() == [content]


async def test_an_incompressible_gzip_body_is_inflated(site: Site) -> None:
    """A gzip body that is large as sent is inflated off the loop, with the same result."""
    content = json.dumps({"a": [n * 7_919 % 1_000_003 for n in range(60_000)]}).encode()
    compressed = gzip.compress(content)
    answer = await site.post(compressed, content_encoding="gzip")

    assert len(compressed) > 64 * 1024
    assert answer.status_code == 200
    assert site.contents() == [content]


@pytest.mark.parametrize("size", [MIB + 1, 64 * MIB])
async def test_inflation_stops_at_the_limit(site: Site, size: int) -> None:
    """One byte too many after decompression is 413, and so is a bomb."""
    bomb = gzip.compress(b'{"a":"' + b"x" * (size - 8) + b'"}')

    assert problem(await site.post(bomb, content_encoding="gzip")) == 413
    assert site.events() == []


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(BODY)[:-4],
        gzip.compress(BODY) + b"{}",
        gzip.compress(BODY) + gzip.compress(b" "),
        BODY,
        b"",
    ],
    ids=["truncated", "trailing", "second member", "not gzip", "empty"],
)
async def test_bad_gzip_is_400(site: Site, content: bytes) -> None:
    """Exactly one whole member, or nothing is stored."""
    assert problem(await site.post(content, content_encoding="gzip")) == 400
    assert site.events() == []


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"{}{}", b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b'{"a":NaN}', b"null"],
    ids=repr,
)
async def test_what_is_not_a_json_object_is_400(site: Site, content: bytes) -> None:
    """Strict JSON in strict UTF-8, and an object."""
    assert problem(await site.post(content)) == 400
    assert site.events() == []


async def test_a_connection_is_kept_after_every_error(site: Site) -> None:
    """An error answer to a request that was sent whole ends nothing: the next one is recorded."""
    for _ in range(2):
        for content, path, headers in (
            (BODY, "/nowhere", {}),
            (b"", ACME, {}),
            (BODY, ACME, {"content_type": "text/plain"}),
            (BODY, ACME, {"content_encoding": "gzip"}),
        ):
            refused = await site.post(content, path, **headers)

            assert refused.status_code >= 400
            assert "connection" not in refused.headers
    answer = await site.post()

    assert answer.status_code == 200


async def test_neither_query_nor_token_reaches_an_answer_or_a_metric(tmp_path: Path) -> None:
    """Whatever the refusal, it says nothing about the query."""
    async with ingress_site.running(tmp_path, {"WEBHOOK_TOKEN": "s3cret-good"}) as site:
        answers = [
            await site.post(path=f"{path}?token={token}&q=s3cret")
            for path in (ACME, "/s3cret", "/healthz")
            for token in ("s3cret-good", "s3cret-bad")
        ]
        metrics = await site.ops.get("/metrics")

        assert [answer.status_code for answer in answers] == [200, 401, 404, 404, 405, 405]
        assert not any("s3cret" in str(answer.headers) + answer.text for answer in answers)
        assert "s3cret" not in metrics.text


async def test_callbacks_are_counted_by_outcome(site: Site) -> None:
    """Metrics tell how many callbacks were recorded, ignored and refused, and their bytes."""
    await site.post()
    await site.post(b'{"type":"ReceivedCallback"}')
    await site.post(b"")

    assert {
        outcome: site.metric("plugstatus_callbacks_total", outcome=outcome)
        for outcome in ("recorded", "ignored", "refused", "unavailable")
    } == {"recorded": 1, "ignored": 1, "refused": 1, "unavailable": 0}
    assert site.metric("plugstatus_callback_bytes_total") == len(BODY)
    assert site.metric("plugstatus_callback_seconds_count") == 1


async def test_concurrent_callbacks_share_transactions_and_keep_their_cursors(site: Site) -> None:
    """Each of many at once gets the cursor of its own event."""
    bodies = [b'{"n":%d}' % n for n in range(300)]
    answers = await asyncio.gather(*(site.post(body) for body in bodies))
    positions = [site.cursors.decode(answer.json()["cursor"]).place.position for answer in answers]
    stored = {event.content: event.position for event in site.events()}

    assert [stored[body] for body in bodies] == positions
    assert sorted(positions) == list(range(1, 301))


async def test_a_failed_transaction_is_503_and_leaves_nothing(site: Site) -> None:
    """When the log refuses a write the callback is not recorded, and the next one is."""
    with closing(site.outsider()) as outsider:
        outsider.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.instance = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    refused = await site.post(path="/instancia/bad/status")

    assert problem(refused) == 503
    assert int(refused.headers["retry-after"]) > 0
    assert (await site.post()).status_code == 200
    assert [event.instance for event in site.events()] == ["acme"]
    assert site.metric("plugstatus_callbacks_total", outcome="unavailable") == 1


async def test_every_waiter_of_a_failed_transaction_gets_503(tmp_path: Path) -> None:
    """While the write lock is away all callbacks collect, fail together, and later succeed."""
    async with ingress_site.running(tmp_path) as site:
        with closing(site.outsider()) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            answers = await asyncio.gather(*(site.post() for _ in range(20)))
            outsider.execute("ROLLBACK")
        after = await asyncio.gather(*(site.post() for _ in range(20)))

        assert {problem(answer) for answer in answers} == {503}
        assert {answer.status_code for answer in after} == {200}
        assert len(site.events()) == 20


async def test_a_transaction_that_takes_too_long_is_503(tmp_path: Path) -> None:
    """The callback stops waiting after `append_s`; the transaction may still succeed, later."""
    async with ingress_site.running(tmp_path, append_s=0.1) as site:
        with closing(site.outsider()) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            answer = await site.post()
            outsider.execute("ROLLBACK")

    assert problem(answer) == 503
    assert answer.headers["retry-after"]
    assert site.contents() == [BODY]


async def test_too_many_waiting_callbacks_are_503(tmp_path: Path) -> None:
    """Beyond the bound on waiting events a callback is refused at once, and no other suffers."""
    async with ingress_site.running(tmp_path, waiting_events_max=5) as site:
        with closing(site.outsider()) as outsider:
            outsider.execute("BEGIN IMMEDIATE")
            posts = [asyncio.create_task(site.post()) for _ in range(12)]
            answered = asyncio.as_completed(posts)
            refused = [await next(answered) for _ in range(7)]
            outsider.execute("ROLLBACK")
            recorded = [await answer for answer in answered]

    assert {problem(answer) for answer in refused} == {503}
    assert {answer.status_code for answer in recorded} == {200}
    assert len(site.events()) == len(recorded) == 5
