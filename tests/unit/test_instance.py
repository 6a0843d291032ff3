"""What is known of an instance's connection, out of callbacks that come in any order."""

import pytest

from service.domain.instance import Connection, ConnectionState, Instance, heard

UP, DOWN, NEVER = (
    ConnectionState.CONNECTED,
    ConnectionState.DISCONNECTED,
    ConnectionState.UNSPECIFIED,
)
Said = tuple[ConnectionState, int]


def _heard(*said: Said | None) -> Instance:
    """The instance after callbacks received at 100, 101, …, each with what it says, if anything."""
    known: Instance | None = None
    for receive_time_us, one in enumerate(said, start=100):
        connection = None if one is None else Connection(*one)
        known = heard(known, "acme", receive_time_us, connection)
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([None], (NEVER, 0)),
        ([(UP, 5)], (UP, 5)),
        ([None, (DOWN, 5), None], (DOWN, 5)),
        ([(UP, 5), (DOWN, 7)], (DOWN, 7)),
        ([(DOWN, 7), (UP, 5)], (DOWN, 7)),
        ([(UP, 5), (DOWN, 5)], (DOWN, 5)),
        ([(UP, 5), (UP, 9), (DOWN, 7)], (UP, 9)),
    ],
    ids=str,
)
def test_what_happened_last_counts(said: list[Said | None], expected: Said) -> None:
    """The state is that of the latest moment told, whatever came last; of equal ones the last."""
    known = _heard(*said)

    assert expected == (known.connection_state, known.connection_time_us)


def test_the_last_callback_is_the_latest_one() -> None:
    """Every callback counts as a sign of life, and a clock set back takes nothing away."""
    known = heard(_heard(None, (UP, 5), None), "acme", 50, None)

    assert 102 == known.last_callback_time_us
