"""The feed: a row a report, as filters see it and as watchers get it."""

from typing import NamedTuple

import msgspec

from service.domain.events import Place, Point, Position
from service.domain.status import Status


class FeedRow(NamedTuple):
    """One report, as watchers get it and as filters see it; the columns of the feed's row.

    A tuple, and not a value of places and statuses: catching up is mostly making these.
    """

    position: int
    report_index: int
    """With the position the report's place."""
    receive_time_us: int
    instance: str
    message_id: str
    phone: str
    """The message's, right after the report; `status` likewise."""
    status: int
    changed: bool
    change: bytes
    """An encoded StatusChange."""

    @property
    def place(self) -> Place:
        return Place(Position(self.position), self.report_index)

    @property
    def point(self) -> Point:
        return Point(self.place, self.receive_time_us)


class FeedPage(NamedTuple):
    generation: int
    """Of the views the rows are of: those of another one are not a stream's to send."""
    rows: list[FeedRow]
    end: Point
    """How far the page looked; the next one goes on behind it."""


class Pack(NamedTuple):
    """As many changes as a frame takes, in log order."""

    changes: bytes
    """An encoded Changes."""
    last: Point
    """Where the last of them is."""


class PackedPage(NamedTuple):
    """A `FeedPage` as watchers get it."""

    generation: int
    packs: list[Pack]
    end: Point


class FeedEntry(NamedTuple):
    """A feed row with what is only listed: an encoded StatusReport without `raw`."""

    row: FeedRow
    report: bytes


class FeedFilter(msgspec.Struct, frozen=True, gc=False):
    """Which feed rows are asked for: AND between the fields, OR within; empty means any."""

    instances: frozenset[str] = frozenset()
    message_ids: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()
    statuses: frozenset[Status] = frozenset()
    unchanged: bool = False
    """Also the reports that changed nothing."""

    @property
    def of_any_message(self) -> bool:
        """It asks for nothing of the message."""
        return not (self.instances or self.message_ids or self.phones or self.statuses)

    def matches(self, row: FeedRow) -> bool:
        return (row.changed or self.unchanged) and self.matches_message(
            row.instance, row.message_id, row.phone, row.status
        )

    def matches_message(self, instance: str, message_id: str, phone: str, status: int) -> bool:
        """Does it belong into a snapshot?"""
        return (
            (not self.instances or instance in self.instances)
            and (not self.message_ids or message_id in self.message_ids)
            and (not self.phones or phone in self.phones)
            and (not self.statuses or status in self.statuses)
        )
