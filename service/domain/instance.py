"""What is known of an instance: when it was last heard of, and whether it says it is connected."""

from enum import IntEnum

import msgspec


class ConnectionState(IntEnum):
    """The numbers are stored and are those of the proto."""

    UNSPECIFIED = 0
    """It never said."""
    CONNECTED = 1
    DISCONNECTED = 2


class Connection(msgspec.Struct, frozen=True, gc=False):
    """What a callback says about its instance's connection to WhatsApp."""

    state: ConnectionState
    occur_time_us: int


class Instance(msgspec.Struct, frozen=True, gc=False):
    """The state of an instance after its first callback or a later one."""

    instance: str
    last_callback_time_us: int
    """Greatest receive time of its recorded callbacks."""
    connection_state: ConnectionState
    connection_time_us: int
    """When that state began, as the callback tells it; 0 while it is UNSPECIFIED."""


def heard(
    known: Instance | None, name: str, receive_time_us: int, connection: Connection | None
) -> Instance:
    """The instance after one more callback. What happened last counts, whatever came last."""
    known = known or Instance(name, 0, ConnectionState.UNSPECIFIED, 0)
    state, time_us = known.connection_state, known.connection_time_us
    if connection is not None and connection.occur_time_us >= time_us:
        state, time_us = connection.state, connection.occur_time_us
    return Instance(name, max(known.last_callback_time_us, receive_time_us), state, time_us)
