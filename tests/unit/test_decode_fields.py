"""A callback's members, as whatever reads a type of callback asks for them."""

import pytest

from service.plugchat.fields import Fields, Number, Object, Value

ELSEWHERE = [b"", rb',"other":"\ud800"']
"""Nothing, and what makes msgspec refuse the whole body."""


@pytest.mark.parametrize("elsewhere", ELSEWHERE, ids=["msgspec", "standard library"])
@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        (b'"text"', "text"),
        (b'"\\u00e9\\ud83d\\ude00"', "é😀"),
        (b'""', ""),
        (b"12345678901234567890.50", Number("12345678901234567890.50")),
        (b"-1E+2", Number("-1E+2")),
        (b"true", True),
        (b"false", False),
        (b"null", None),
        (b"[]", []),
        (b'["a","b"]', ["a", "b"]),
        (b'["a",1,null,["b"],{}]', ["a", Number("1"), None, Object('["b"]'), Object("{}")]),
        (b"{}", Object("{}")),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_any_member_can_be_asked_for(spelling: bytes, value: Value, elsewhere: bytes) -> None:
    """A member of any name is there in its plain shape; the last of several with one name."""
    fields = Fields(b'{"newMember":"before","newMember":%b%b}' % (spelling, elsewhere))

    assert (value, type(value)) == (fields["newMember"], type(fields["newMember"]))
    assert fields["absent"] is None


@pytest.mark.parametrize("elsewhere", ELSEWHERE, ids=["msgspec", "standard library"])
def test_a_name_means_itself(elsewhere: bytes) -> None:
    """A name is matched as it is meant, not as it is spelt, and in its own case."""
    fields = Fields(rb'{"\u0069ds":"A","IDS":"B","":"C"%b}' % elsewhere)

    assert ("A", "B", "C", None) == (fields["ids"], fields["IDS"], fields[""], fields["Ids"])
