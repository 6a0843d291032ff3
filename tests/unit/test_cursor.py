"""Cursors as strings."""

import string
from base64 import urlsafe_b64encode
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import errors
from service.domain.events import END_OF_CALLBACK, ORIGIN, Mark, Place, Point, Position, end_of
from service.domain.message import MessageKey
from service.wire.cursor import BEFORE_ALL_MESSAGES, CursorCodec, InSnapshot, instance_digest
from tests.domain_values import NOW_US, ids, places, times_us

IDENTITY = "0123456789abcdef" * 2
CODEC = CursorCodec(IDENTITY)
SAMPLE = CODEC.encode(Place(Position(12_345), 67), NOW_US)
KEY = MessageKey("acme", "3EB0C767D26A1D8E2F01")
keys = st.builds(MessageKey, st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True), ids)


@given(places, times_us)
def test_a_cursor_names_its_place(place: Place, receive_time_us: int) -> None:
    """Decoding a cursor gives back its place and recognises the event it was made for."""
    text = CODEC.encode(place, receive_time_us)

    cursor = CODEC.decode(text)

    assert place == cursor.place
    assert cursor.recognises(Mark(place.position, receive_time_us))


@given(places, times_us)
def test_a_cursor_is_short_and_plain(place: Place, receive_time_us: int) -> None:
    """A cursor is at most 512 characters, fit for URLs, files and metadata."""
    text = CODEC.encode(place, receive_time_us)

    assert 0 < len(text) <= 512
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")


def test_the_end_of_an_event_and_the_origin_have_cursors() -> None:
    """The end of an event, and the place before every event, are cursors like any other."""
    mark = Mark(Position(5), NOW_US)

    places_named = [
        CODEC.decode(text).place
        for text in (CODEC.end_of(mark), CODEC.at(end_of(mark)), CODEC.end_of(ORIGIN))
    ]

    assert [Place(Position(5)), Place(Position(5)), Place(Position(0))] == places_named


def test_a_point_has_the_cursor_of_its_place() -> None:
    """A point's cursor is that of its place and time."""
    point = Point(Place(Position(12_345), 67), NOW_US)

    assert SAMPLE == CODEC.at(point)


@pytest.mark.parametrize("at", range(len(SAMPLE)))
def test_no_damaged_character_goes_unnoticed(at: int) -> None:
    """Whatever one character of a cursor is replaced by, it is no cursor any more."""
    for other in {*string.printable, "\0", "é", "\ud800", "=", "\uff1d"} - {SAMPLE[at]}:
        damaged = SAMPLE[:at] + other + SAMPLE[at + 1 :]

        with pytest.raises(errors.CursorInvalid):
            CODEC.decode(damaged)


@pytest.mark.parametrize("at", range(len(SAMPLE)))
def test_no_missing_or_added_character_goes_unnoticed(at: int) -> None:
    """A cursor that lost or gained a character is no cursor any more."""
    for damaged in (SAMPLE[:at] + SAMPLE[at + 1 :], SAMPLE[:at] + "A" + SAMPLE[at:], SAMPLE[:at]):
        with pytest.raises(errors.CursorInvalid):
            CODEC.decode(damaged)


@given(st.text(max_size=600))
def test_other_texts_are_no_cursors(text: str) -> None:
    """Any text that was never given out is refused as no cursor."""
    with pytest.raises(errors.CursorInvalid):
        CODEC.decode(text)


@pytest.mark.parametrize(
    "text", [f" {SAMPLE}", f"{SAMPLE}\n", f"{SAMPLE}=", SAMPLE.swapcase(), SAMPLE * 2]
)
def test_a_dressed_up_cursor_is_none(text: str) -> None:
    """Blanks, padding, another case or a repetition make a cursor unreadable."""
    with pytest.raises(errors.CursorInvalid):
        CODEC.decode(text)


def test_a_cursor_of_another_log_is_foreign() -> None:
    """A whole cursor that another log gave out is foreign, not damaged."""
    other = CursorCodec("fedcba9876543210" * 2)

    with pytest.raises(errors.CursorForeign):
        other.decode(SAMPLE)


@given(times_us, times_us)
def test_another_event_at_the_place_is_not_recognised(made_us: int, held_us: int) -> None:
    """A cursor tells its event from one that was received at another time."""
    cursor = CODEC.decode(CODEC.encode(Place(Position(5), 0), made_us))
    expected = made_us % 2**32 == held_us % 2**32

    assert expected == cursor.recognises(Mark(Position(5), held_us))


@given(places, places)
def test_places_compare_in_log_order(one: Place, other: Place) -> None:
    """Places compare by position and then by index, the callback's end behind every report."""
    expected = (one.position, one.index) < (other.position, other.index)

    assert expected == (one < other)
    assert one <= Place(one.position)


def test_the_end_of_a_callback_is_before_the_next_one() -> None:
    """The end of a callback stands behind its last report and before the next callback."""
    ordered = [
        Place(Position(1), 0),
        Place(Position(1), END_OF_CALLBACK - 1),
        Place(Position(1)),
        Place(Position(2), 0),
    ]

    backwards = ordered[::-1]

    assert ordered == sorted(backwards)


IN_SNAPSHOT = CODEC.inside(end_of(Mark(Position(12_345), NOW_US)), InSnapshot.behind(KEY))


@given(places, times_us, keys)
def test_a_cursor_inside_a_snapshot_names_its_message(
    place: Place, receive_time_us: int, key: MessageKey
) -> None:
    """It gives back what the snapshot is as of and which message was sent; short and plain too."""
    as_of = end_of(Mark(place.position, receive_time_us))

    text = CODEC.inside(as_of, InSnapshot.behind(key))
    cursor = CODEC.decode(text)

    assert as_of.place == cursor.place
    assert cursor.recognises(Mark(place.position, receive_time_us))
    assert InSnapshot(instance_digest(key.instance), key.message_id) == cursor.snapshot
    assert len(text) <= 512
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")


def test_the_largest_key_fits_a_cursor() -> None:
    """128 code points, each the highest there is, in the instance with the longest name."""
    key = MessageKey("a" * 128, "\U0010ffff" * 128)

    text = CODEC.inside(end_of(Mark(Position(2**63 - 1), NOW_US)), InSnapshot.behind(key))

    assert len(text) <= 512
    assert InSnapshot.behind(key) == CODEC.decode(text).snapshot


def test_a_snapshot_begins_before_all_messages() -> None:
    """The cursor before a snapshot's first message, and ordinary ones, are told apart."""
    before_all = CODEC.decode(CODEC.inside(end_of(ORIGIN), BEFORE_ALL_MESSAGES))

    assert BEFORE_ALL_MESSAGES == before_all.snapshot
    assert CODEC.decode(SAMPLE).snapshot is None


@pytest.mark.parametrize("at", range(len(IN_SNAPSHOT)))
def test_no_damage_of_a_cursor_inside_a_snapshot_goes_unnoticed(at: int) -> None:
    """A character replaced, missing or added makes it no cursor."""
    character = "A" if IN_SNAPSHOT[at] != "A" else "B"
    for damaged in (
        IN_SNAPSHOT[:at] + character + IN_SNAPSHOT[at + 1 :],
        IN_SNAPSHOT[:at] + IN_SNAPSHOT[at + 1 :],
        IN_SNAPSHOT[:at] + "A" + IN_SNAPSHOT[at:],
        IN_SNAPSHOT[:at],
    ):
        with pytest.raises(errors.CursorInvalid):
            CODEC.decode(damaged)


HEAD = bytes.fromhex(IDENTITY)[:8] + bytes(8) + bytes(4) + bytes(8)


@pytest.mark.parametrize(
    "body",
    [
        b"\3" + HEAD + b"\0\0\0",
        b"\1" + HEAD + b"\0\0\0",
        b"\2" + HEAD + b"\0\0",
        b"\2" + HEAD + b"\0\0\1" + b"\1",
        b"\2" + HEAD + b"\0\0\x67" + b"\0\x66",
        b"\2" + HEAD + b"\0\0\x67" + b"\1",
        b"\2" + HEAD + b"\0\0\3" + b"\x0b",
        b"\2" + HEAD + b"\x11\0\0" + (0xD800).to_bytes(3, "big"),
        b"\2" + HEAD + b"\xff\xff\xff" + (0x110000).to_bytes(3, "big"),
    ],
)
def test_what_no_server_gives_out_is_no_cursor(body: bytes) -> None:
    """A right checksum is not enough: version, length, base and number have to be ours."""
    with pytest.raises(errors.CursorInvalid):
        CODEC.decode(_text(body))


@given(st.just("") | ids | st.from_regex(r"[!-~]{1,128}", fullmatch=True))
def test_an_id_is_the_number_that_it_always_was(message_id: str) -> None:
    """In the base of its highest code point, the first one first: on every server."""
    points = [*map(ord, message_id)]
    base = max(points, default=-1) + 1
    number = sum(point * base**place for place, point in enumerate(reversed(points)))
    body = b"\2" + HEAD + base.to_bytes(3, "big")
    body += number.to_bytes((number.bit_length() + 7) // 8, "big")

    cursor = CODEC.decode(_text(body))
    again = CODEC.inside(Point(Place(Position(0)), 0), InSnapshot(bytes(8), message_id))

    assert InSnapshot(bytes(8), message_id) == cursor.snapshot
    assert _text(body) == again


usual_keys = st.builds(
    MessageKey, st.sampled_from(["acme", "other"]), st.from_regex(r"[0-9A-F]{1,40}", fullmatch=True)
)


@given(places, times_us, st.lists(keys | usual_keys, max_size=30))
def test_cursors_of_many_messages_are_those_of_each(
    place: Place, receive_time_us: int, several: list[MessageKey]
) -> None:
    """A page's cursors, made in one go, are what each alone would be."""
    as_of = end_of(Mark(place.position, receive_time_us))

    texts = CODEC.behind_each(as_of, several)

    alone = [CODEC.inside(as_of, InSnapshot.behind(key)) for key in several]
    assert alone == [text.decode() for text in texts]


def _text(body: bytes) -> str:
    """With its checksum, as it would be given out."""
    return urlsafe_b64encode(body + crc32(body).to_bytes(4, "big")).decode().rstrip("=")


def test_a_cursor_inside_a_snapshot_of_another_log_is_foreign() -> None:
    """As an ordinary one is."""
    with pytest.raises(errors.CursorForeign):
        CursorCodec("fedcba9876543210" * 2).decode(IN_SNAPSHOT)
