"""What an operator reads: the story of confusing messages, and lists that end."""

from typing import Any

import httpx

from tests.calls import callback
from tests.command import plugstatus
from tests.server_process import ServerProcess

MOMMENT = 1_632_234_645_000
TOLD_TIME = "happened 2021-09-21 14:30:45Z"


def _posted(server: ServerProcess, *bodies: dict[str, Any]) -> None:
    """Post the callbacks one after the other, and wait until the views have them."""
    with httpx.Client(base_url=server.http, trust_env=False) as http:
        cursors = [
            http.post("/instancia/acme/status", json=body).json()["cursor"] for body in bodies
        ]
    plugstatus("get", "M", "--min-cursor", cursors[-1], API_TARGET=server.grpc)


def _story(server: ServerProcess, *options: str) -> list[str]:
    """What `history` tells of M behind its count, without the times of arrival."""
    told = plugstatus("history", "M", *options, API_TARGET=server.grpc).stdout.splitlines()
    start = next(at for at, line in enumerate(told) if line.startswith("heard"))
    return [line.split("Z  ", 1)[-1].strip() for line in told[start + 1 :]]


def test_the_story_of_a_failure_that_was_delivered(server: ServerProcess) -> None:
    """Each report of it says what it brought: the reason, the phone, the group, a recipient."""
    failed = {"type": "DeliveryCallback", "messageId": "M", "momment": MOMMENT, "error": "No route"}
    status = {"phone": "120363-group", "momment": MOMMENT}
    _posted(
        server,
        callback("M", "READ-SELF", phone=None, momment=MOMMENT * 1_000),
        failed,
        failed | {"errorCode": 463},
        callback("M", "MESSAGE_RECEIVED", participant="77@lid", **status),
        callback("M", "SENT", participant="88", **status),
        callback("M", "delivered", participant="88", **status),
        failed,
    )

    assert _story(server) == [
        f"“READ-SELF” = READ_BY_ME (we read it: no news of its delivery), {TOLD_TIME}",
        "first heard of: the message is READ_BY_ME",
        f"no word = FAILED (No route), {TOLD_TIME}",
        "the message rose from READ_BY_ME to FAILED; first told the failure's reason, “No route”",
        f"no word = FAILED (463 No route), {TOLD_TIME}",
        "first told the failure's code, 463",
        f"“MESSAGE_RECEIVED” = RECEIVED for 77, {TOLD_TIME}",
        "the message rose from FAILED to RECEIVED; first heard of 77; "
        "first told the phone, 120363-group; first told that it went to a group",
        f"“SENT” = SENT for 88, {TOLD_TIME}",
        "first heard of 88; first heard that it was SENT; "
        "the message stays RECEIVED, which outranks it",
        f"“delivered” = RECEIVED for 88, {TOLD_TIME}",
        "88 rose from SENT to RECEIVED",
        f"no word = FAILED (No route), {TOLD_TIME}",
        "nothing new; the message stays RECEIVED, which outranks it",
    ]


def test_lists_say_where_they_end(server: ServerProcess) -> None:
    """A list that may have more says so, and an empty one says that, beside the table."""
    _posted(server, *(callback(name) for name in "LKM"))
    cut = plugstatus("list", "--limit", "2", API_TARGET=server.grpc)
    whole = plugstatus("list", API_TARGET=server.grpc)
    nobody = plugstatus("list", "--instance", "nobody", API_TARGET=server.grpc)
    empty = plugstatus("recipients", "M", API_TARGET=server.grpc)
    lines = plugstatus("recipients", "M", "--json", API_TARGET=server.grpc)

    assert [line.split()[3] for line in cut.stdout.splitlines()[1:]] == ["M", "K"]
    assert cut.stderr == "# 2 shown; if there are more, --limit shows them\n"
    assert (len(whole.stdout.splitlines()), whole.stderr) == (4, "")
    assert (len(nobody.stdout.splitlines()), nobody.stderr) == (1, "# none\n")
    assert (empty.stdout.split(), empty.stderr) == (["participant", "status", "since"], "# none\n")
    assert (lines.stdout, lines.stderr, lines.returncode) == ("", "", 0)
