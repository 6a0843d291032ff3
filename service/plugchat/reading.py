"""What an event says: a callback by its body, an erased one by what was kept of it."""

import msgspec
import structlog

from service.domain.erasure import Tombstone
from service.domain.events import Event, EventKind
from service.plugchat.decode import Reading, decode

_log = structlog.get_logger(__name__)
_NOTHING = Reading()
_tombstones = msgspec.json.Decoder(Tombstone)


def read(event: Event) -> Reading:
    """Never raises. A tombstone is never in quarantine: nothing of it can be read one day.

    Of a damaged event nothing is read, because nobody knows what of it is true.
    """
    if event.damaged:
        _log.error(
            "an event of the log is damaged and goes to quarantine: restore a backup",
            position=event.position,
        )
        return _NOTHING
    if event.kind is EventKind.CALLBACK:
        return decode(event)
    if event.kind is EventKind.TOMBSTONE:
        try:
            tombstone = _tombstones.decode(event.content)
        except msgspec.DecodeError:
            _log.exception("tombstone unreadable", position=event.position)
            return _NOTHING
        return Reading(reports=tombstone.reports(event), connection=tombstone.connection)
    return _NOTHING
