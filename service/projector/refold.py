"""Folding an ERASURE event: the messages it touched are folded anew from what the log now holds.

The log's tombstones already say less than the views do. So the messages of those events are
left out, and every event that still speaks of them is folded again, onto the baseline: what comes
out is what building the views from the log gives.
"""

from collections.abc import Iterator

import msgspec

from service.domain.erasure import Erasure
from service.domain.events import Event, Mark, Position
from service.domain.message import MessageKey, Report
from service.eventlog.log import LogReader
from service.plugchat.reading import read
from service.projector.batch import Batch
from service.views.store import Checkpoint, GenerationWriter, ViewsBatch
from service.wire.cursor import CursorCodec

_erasures = msgspec.json.Decoder(Erasure)


def refolded(
    event: Event,
    since: Checkpoint,
    views: GenerationWriter,
    log: LogReader,
    cursors: CursorCodec,
) -> ViewsBatch:
    """What the ERASURE event, the next one behind `since`, changes in the views.

    Raises ViewsUnavailable, LogUnavailable.
    """
    positions = [Position(one) for one in _erasures.decode(event.content).positions]
    keys = views.keys_at(positions)
    reports = list(_reports(log, views.positions_of(keys), keys))
    baseline = log.baseline()
    batch = Batch(baseline, cursors, reports)
    for report in reports:
        batch.fold(report)
    folded = batch.finished(since, Mark(event.position, event.receive_time_us))
    # What only removed events told of is in no report that is left.
    recipients = {
        (key, one.participant): one for key in keys for one in baseline.recipients_of(key)
    } | {(key, one.participant): one for key, one in folded.recipients}
    messages = baseline.messages(keys) | {
        MessageKey(one.instance, one.message_id): one for one in folded.messages
    }
    return msgspec.structs.replace(
        folded,
        messages=messages.values(),
        refolded=keys,
        released=positions,
        recipients=[(key, one) for (key, _), one in recipients.items()],
    )


def _reports(log: LogReader, positions: list[Position], keys: set[MessageKey]) -> Iterator[Report]:
    for position in positions:
        event = log.event(position)
        if event is not None:
            for report in read(event).reports:
                if MessageKey(report.instance, report.message_id) in keys:
                    yield report
