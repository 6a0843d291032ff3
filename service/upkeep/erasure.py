"""Erasure of a message or a phone, from both stores, while the service goes on.

1. Which messages the phone has, the views know; so they are waited for.
2. Every event up to the head is looked at. Those that say to whom a message went, and hold the
   phone there, go last, and the oldest of them at the very end: killed in between, the same request
   still finds whose each message is, and so the rest.
3. Each transaction puts tombstones in place and appends one ERASURE event that lists them, so
   the projector folds anew what they were about, at once or after a restart.
4. For the events that came meanwhile the log is held for a moment: nothing is appended, the views
   stand at its head, the last stretch is looked at and erased. What comes later starts anew.
5. The slot beside the live views is emptied, and the files are wiped until the text is in none.
"""

from collections.abc import Sequence
from functools import partial

import msgspec

from service import errors
from service.database.database import Fence
from service.domain.erasure import Erasure, Subject
from service.domain.events import BEFORE_FIRST, EventKind, NewEvent, Place, Position
from service.domain.message import MessageKey
from service.domain.progress import Progress
from service.eventlog.log import BaselineChange
from service.upkeep.baseline import Forgotten, forgotten
from service.upkeep.parts import Parts, Tell
from service.upkeep.scan import buried, look, reason_of
from service.upkeep.wiping import wipe_all
from service.views.store import MessageFilter, ViewsReader

_encode = msgspec.json.Encoder().encode
_NEWEST = Place(Position(2**62))
_START = Place(BEFORE_FIRST)
_PAGE = 1_000


async def forget(
    parts: Parts, subject: Subject, fence: Fence, *, dry_run: bool, tell: Tell
) -> None:
    """Erase it, or only count what would go. The last progress says what went.

    Nothing else may rewrite the stores meanwhile. Raises AmbiguousMessageId if messages of several
    instances have the id and none is named; LogUnavailable, ViewsUnavailable, ShuttingDown: then a
    part may be erased, and the same request goes on with the rest.
    """
    errand = _Errand(parts, subject, fence, tell)
    await errand.await_views()
    await _refuse_ambiguous(parts, subject)
    await errand.look_at_all()
    if dry_run:
        await errand.count_baseline()
        tell(errand.summary("would erase"))
        return
    # First, so that a rebuild which was begun before finds nothing to go on from.
    await parts.tasks.clear_spare(tell)
    last = await errand.erase_all()
    if last is not None:
        await parts.views_reached(last, float("inf"))
    left = await wipe_all(parts, subject.phone or subject.message_id, tell)
    tell(errand.summary("erased", left))


async def _refuse_ambiguous(parts: Parts, subject: Subject) -> None:
    if subject.message_id and not subject.instance:
        found = await parts.views.run(
            lambda views: views.messages_by_id(subject.message_id, (), errors.NAMED_INSTANCES_MAX)
        )
        if len(found) > 1:
            raise errors.AmbiguousMessageId(subject.message_id, [one.instance for one in found])


class _Errand:
    """One erasure, from its first look to its last transaction."""

    def __init__(self, parts: Parts, subject: Subject, fence: Fence, tell: Tell) -> None:
        self._parts = parts
        self._fence = fence
        self._subject = subject
        self._tell = tell
        self._looked_until = BEFORE_FIRST
        self._others: list[Position] = []
        self._addressed: list[Position] = []
        self._callbacks = 0
        self._messages: set[MessageKey] = set()
        self._recipients: set[tuple[MessageKey, str]] = set()

    async def await_views(self) -> Position:
        """Wait until the views stand at the log's head, and return that."""
        head = await self._parts.log.run(lambda log: log.head())
        self._tell(Progress(0, 0, "events", "waiting for the views"))
        await self._parts.views_reached(head.position, float("inf"))
        return head.position

    async def look_at_all(self) -> None:
        """Look at every event up to the head, once the views stand there."""
        head = await self.await_views()
        await self._renew_subject()
        await self._look(head)

    async def count_baseline(self) -> None:
        """Add what only the baseline still knows."""
        found = await self._forgotten()
        self._messages |= found.messages
        self._recipients |= found.recipients

    async def erase_all(self) -> Position | None:
        """Erase what was found and what came since; the last ERASURE event, None if there is none.

        Ends with a moment in which the log stands still and all of it was looked at.
        """
        last = await self._erase_found()
        while True:
            async with self._parts.appender.held():
                if await self._look_at_tail():
                    return await self._erase_found() or last
            await self.look_at_all()
            last = await self._erase_found() or last

    def summary(self, did: str, more: str = "") -> Progress:
        """What was found, or erased."""
        note = (
            f"{did} {self._callbacks} callbacks, {len(self._messages)} messages and "
            f"{len(self._recipients)} recipients of other messages{more}"
        )
        return Progress(self._callbacks, self._callbacks, "callbacks", note)

    async def _look_at_tail(self) -> bool:
        """Look at what came since, while the log stands still; False if that takes too long."""
        parts = self._parts
        head = await parts.log.run(lambda log: log.head())
        if head.position - self._looked_until > parts.limits.erase_tail_max:
            return False
        try:
            await parts.views_reached(head.position, parts.limits.erase_hold_s)
        except errors.ViewsBehind:
            return False
        if not await self._renew_subject():
            return False
        await self._look(head.position)
        return True

    async def _renew_subject(self) -> bool:
        """Ask the views which messages the phone has.

        False if events that were looked at already are about a new one: they are looked at again.
        """
        phone = self._subject.phone
        if not phone:
            return True
        found = await self._parts.views.run(partial(_messages_of, phone))
        new = {key: place for key, place in found.items() if key not in self._subject.messages}
        self._subject = msgspec.structs.replace(
            self._subject, messages=self._subject.messages | new.keys()
        )
        if all(place.position > self._looked_until for place in new.values()):
            return True
        self._looked_until = BEFORE_FIRST
        self._callbacks -= len(self._others) + len(self._addressed)
        self._others.clear()
        self._addressed.clear()
        return False

    async def _look(self, until: Position) -> None:
        first = self._looked_until
        while self._looked_until < until:
            found = await self._parts.log.run(
                partial(
                    look,
                    subject=self._subject,
                    after=self._looked_until,
                    until=until,
                    events_max=self._parts.limits.scan_events_max,
                )
            )
            self._looked_until = found.until
            self._others += found.others
            self._addressed += found.addressed
            self._callbacks += len(found.others) + len(found.addressed)
            self._messages |= found.messages
            self._recipients |= found.recipients
            note = "looking for what to erase"
            self._tell(Progress(found.until - first, until - first, "events", note))

    async def _erase_found(self) -> Position | None:
        """Erase all that was found since the last time; the last ERASURE event."""
        found = await self._forgotten()
        self._messages |= found.messages
        self._recipients |= found.recipients
        chunks = self._chunks(set(await self._positions_of(found.messages)))
        touched = await self._positions_of(found.touched)
        if not chunks and found.change == BaselineChange([], [], []):
            return None
        last: Position | None = None
        done, total = 0, sum(map(len, chunks))
        for chunk in chunks[:-1]:
            last = await self._erase(chunk, [], BaselineChange())
            done += len(chunk)
            self._tell(Progress(done, total, "callbacks", "erasing"))
        last = await self._erase(chunks[-1] if chunks else [], touched, found.change)
        self._tell(Progress(total, total, "callbacks", "erasing"))
        return last

    def _chunks(self, kept_last: set[Position]) -> list[list[Position]]:
        """What was found, as what each transaction erases; then nothing is found any more.

        Whatever stays when the service dies in between, the phone's messages are known by it, and
        no other ones are: by the oldest event that says to whom a message went, which goes behind
        all others about it, or by the baseline, which goes with the last transaction and one event
        of each message in it.
        """
        bound = max((one for one in self._addressed if one in kept_last), default=BEFORE_FIRST)
        early = [one for one in self._others if one not in kept_last]
        early += [one for one in reversed(self._addressed) if one > bound]
        late = [one for one in self._others if one in kept_last]
        late += [one for one in self._addressed if one <= bound]
        self._others, self._addressed = [], []
        most = self._parts.limits.erase_events_max
        chunks = [early[first : first + most] for first in range(0, len(early), most)]
        return [*chunks, late] if late else chunks

    async def _erase(
        self, positions: Sequence[Position], touched: list[Position], change: BaselineChange
    ) -> Position:
        now_us = self._parts.clock.now_us()
        tombstones = await self._parts.log.run(
            partial(buried, subject=self._subject, positions=positions, erase_time_us=now_us)
        )
        erasure = Erasure(now_us, reason_of(self._subject), (*positions, *touched), len(tombstones))
        event = NewEvent("", now_us, EventKind.ERASURE, _encode(erasure))
        return await self._parts.appender.erase(tombstones, event, change, self._fence)

    async def _forgotten(self) -> Forgotten:
        return await self._parts.log.run(lambda log: forgotten(log.baseline(), self._subject))

    async def _positions_of(self, keys: set[MessageKey]) -> list[Position]:
        """One event of each message."""
        return await self._parts.views.run(
            lambda views: [
                found[0].place.position for key in keys if (found := views.reports(key, _START, 1))
            ]
        )


def _messages_of(phone: str, views: ViewsReader) -> dict[MessageKey, Place]:
    """The messages of a phone, each with its first report."""
    found: dict[MessageKey, Place] = {}
    before: Place | None = _NEWEST
    while before is not None:
        page = views.last_changed(MessageFilter(phone=phone), before, _PAGE, _PAGE)
        found.update({MessageKey(one.instance, one.message_id): one.first_at for one in page[0]})
        before = page.end
    return found
