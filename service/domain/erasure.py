"""Erasure: what is taken out of the log, and what has to stay of it.

A callback about several messages, or about one participant of a group, can say things about
others too. So its body becomes a tombstone that still holds the reports about them, each at its
old place, without the body: what a rebuild folds is then exactly what the live views hold.
"""

import re
from collections.abc import Iterable

import msgspec

from service.domain.events import Event, Place
from service.domain.instance import Connection
from service.domain.message import MessageKey, Report
from service.domain.status import Status


class Subject(msgspec.Struct, frozen=True):
    """What is to be forgotten: a phone with its messages, or messages alone."""

    phone: str = ""
    message_id: str = ""
    """In every instance, if `instance` is empty."""
    instance: str = ""
    messages: frozenset[MessageKey] = frozenset()
    """The messages of the phone."""

    def has_message(self, instance: str, message_id: str) -> bool:
        """Is this a message to forget? One whose id holds the phone is, whoever it went to."""
        if self.message_id:
            return message_id == self.message_id and self.instance in ("", instance)
        return MessageKey(instance, message_id) in self.messages or self.holds(message_id)

    def holds(self, text: str) -> bool:
        """Does this text hold the phone?

        Also as an escape of JSON quoted in it: a failure's reason may be an object, as it was sent.
        """
        if not self.phone:
            return False
        while self.phone not in text:
            plainer = _unescaped(text)
            if plainer == text:
                return False
            text = plainer
        return True

    def without(self, text: str) -> str:
        """The text, or nothing if it holds the phone."""
        return "" if self.holds(text) else text

    def is_in(self, instance: str, texts: Iterable[str]) -> bool:
        """Is a body with these texts to be erased?"""
        if self.phone:
            return any(
                self.holds(text) or MessageKey(instance, text) in self.messages for text in texts
            )
        return self.instance in ("", instance) and self.message_id in texts


class Erasure(msgspec.Struct, frozen=True):
    """Some events were erased; no personal data."""

    erase_time_us: int
    reason: str
    """`message` or `phone`."""
    positions: tuple[int, ...]
    """The tombstones it left, and events of messages of which something older was erased:
    everything these are about is to be folded anew."""
    erased_count: int
    """How many of the positions became tombstones."""


class Remains(msgspec.Struct, frozen=True, array_like=True):
    """A report about someone else: its place, its message, and who it is about."""

    index: int
    message_id: str


class Tombstone(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stays of an erased callback. All its reports share every field but two."""

    erase_time_us: int
    reason: str
    """`message` or `phone`."""
    remains: tuple[Remains, ...] = ()
    status: Status = Status.UNSPECIFIED
    provider_status: str = ""
    participant: str = ""
    phone: str = ""
    group: bool = False
    occur_time_us: int = 0
    occur_time_estimated: bool = False
    failure_code: str = ""
    failure_reason: str = ""
    provider_instance: str = ""
    connection: Connection | None = None

    def reports(self, event: Event) -> tuple[Report, ...]:
        """The reports that stay, as they were but for what was erased of them."""
        return tuple(
            Report(
                place=Place(event.position, one.index),
                instance=event.instance,
                message_id=one.message_id,
                status=self.status,
                provider_status=self.provider_status,
                participant=self.participant,
                phone=self.phone,
                group=self.group,
                occur_time_us=self.occur_time_us,
                occur_time_estimated=self.occur_time_estimated,
                receive_time_us=event.receive_time_us,
                failure_code=self.failure_code,
                failure_reason=self.failure_reason,
                provider_instance=self.provider_instance,
            )
            for one in self.remains
        )


def tombstone(
    subject: Subject,
    reports: Iterable[Report],
    connection: Connection | None,
    erase_time_us: int,
    reason: str,
) -> Tombstone:
    """What stays of a callback that made these reports, once the subject is forgotten.

    The reports are of one callback: they differ in place and message only.
    """
    kept = [one for one in reports if not subject.has_message(one.instance, one.message_id)]
    if not kept:
        return Tombstone(erase_time_us, reason, connection=connection)
    first = kept[0]
    return Tombstone(
        erase_time_us=erase_time_us,
        reason=reason,
        remains=tuple(Remains(one.place.index, one.message_id) for one in kept),
        status=first.status,
        provider_status=subject.without(first.provider_status),
        participant=subject.without(first.participant),
        phone=subject.without(first.phone),
        group=first.group,
        occur_time_us=first.occur_time_us,
        occur_time_estimated=first.occur_time_estimated,
        failure_code=subject.without(first.failure_code),
        failure_reason=subject.without(first.failure_reason),
        provider_instance=subject.without(first.provider_instance),
        connection=connection,
    )


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([^u]))", re.DOTALL)


def _unescaped(text: str) -> str:
    """The text with one level of JSON's escapes undone, and without NUL."""
    if "\\" not in text:
        return text
    undone = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
    # Beyond the first plane a character is two escapes.
    joined = undone.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return joined.replace("\0", "")
