"""A callback's members, as whatever reads a type of callback asks for them."""

import tracemalloc

import pytest

from service.plugchat.fields import Number, Object, Unusual, Usual, Value, fields_of

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
        (b"[]", ()),
        (b'["a","b"]', ("a", "b")),
        (b'["a",1,null,["b"],{}]', ("a", Number("1"), None, Object('["b"]'), Object("{}"))),
        (b"{}", Object("{}")),
    ],
    ids=lambda value: ascii(value)[:24],
)
@pytest.mark.parametrize("name", Usual.__struct_encode_fields__)
def test_a_member_has_its_plain_shape(
    name: str, spelling: bytes, value: Value, elsewhere: bytes
) -> None:
    """Whichever member it is; the last of several with one name counts."""
    fields = fields_of(
        b'{"%b":"before","%b":%b%b}' % (name.encode(), name.encode(), spelling, elsewhere)
    )
    read = _by_name(fields)[name]

    assert (value, type(value)) == (read, type(read))
    assert {None} == {other for key, other in _by_name(fields).items() if key != name}


@pytest.mark.parametrize("elsewhere", ELSEWHERE, ids=["msgspec", "standard library"])
def test_a_name_means_itself(elsewhere: bytes) -> None:
    """A name is matched as it is meant, not as it is spelt, and in its own case."""
    fields = fields_of(rb'{"\u0069ds":"A","Id":"B","PHONE":"C","":"D"%b}' % elsewhere)

    assert ("A", None, None) == (fields.ids, fields.id, fields.phone)


@pytest.mark.parametrize("elsewhere", ELSEWHERE, ids=["msgspec", "standard library"])
def test_an_integral_momment_may_come_as_a_number(elsewhere: bytes) -> None:
    """Its spelling does not matter, so it is read as what is quickest."""
    fields = fields_of(b'{"momment":-0%b}' % elsewhere)

    assert fields.momment in (0, Number("-0"))


def test_what_nearly_all_callbacks_look_like_is_read_in_one_go() -> None:
    """And what looks otherwise in one member only is not."""
    usual = b'{"type":"X","status":"READ","ids":["A"],"momment":1,"phone":"1","isGroup":false%b}'
    texts = b"participant participantLid participantPhone error errorCode instanceId id messageId"
    others = b"".join(b',"%b":"text"' % name for name in texts.split())

    assert isinstance(fields_of(usual % b""), Usual)
    assert isinstance(fields_of(usual % others), Usual)
    assert isinstance(fields_of(usual % b',"participant":5511'), Unusual)


def _by_name(fields: Usual | Unusual) -> dict[str, Value]:
    values = [getattr(fields, name) for name in Usual.__struct_fields__]
    return dict(zip(Usual.__struct_encode_fields__, values, strict=True))


def test_a_member_that_nobody_asks_for_is_not_read() -> None:
    """To read this one would take eighty times the memory of the body."""
    body = b'{"type":"Unheard","ids":[%b1],"error":{}}' % (b"1," * 100_000)
    tracemalloc.start()
    fields = fields_of(body)
    kind = fields.type
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kind == "Unheard"
    assert most < 3 * len(body)
