"""What the command line prints of texts that others wrote."""

import pytest

from service.cli import output
from service.gen.plugchat.status.v1 import status_pb2 as pb

HOSTILE = "\x1b]0;owned\x07\x1b[2Jhi\nfake line\x9b\u202e"


def test_a_hostile_word_moves_no_cursor() -> None:
    """Control characters in anything a callback can bring are spelt out, on one line."""
    message = pb.MessageStatus(
        instance="acme",
        message_id=HOSTILE,
        phone=HOSTILE,
        provider_status=HOSTILE,
        failure=pb.Failure(code=HOSTILE, reason=HOSTILE),
    )
    change = pb.StatusChange(message=message, recipient=pb.Recipient(participant=HOSTILE))
    texts = [
        *output.message_text(message).splitlines(),
        output.change_text(change),
        *output.table([("header", "x"), (HOSTILE, "y")]),
        output.excerpt(HOSTILE.encode()),
    ]

    assert all(text.isprintable() for text in texts)
    assert all("fake line" not in text.split("hi")[0] for text in texts)


@pytest.mark.parametrize("text", ["", "Olá 😀", "5544999999999"])
def test_ordinary_texts_stay(text: str) -> None:
    """Whatever can be printed is printed as it is."""

    assert output.plain(text) == text
