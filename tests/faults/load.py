"""Promises about clients that read slowly or not at all."""

from collections.abc import Iterator

from tests.faults.case import Case

STRETCH_BYTES = 1024 * 1024
"""The most that is handed to a watcher at once: no frame is larger, and a page makes one or two."""

_RSS_GROWTH_BYTES_MAX = 400 * 1024 * 1024
"""Far less than what waits for those who read nothing, if all of it were kept."""


def bounded(case: Case) -> Iterator[str]:
    """What waits for a slow client stays within the server's bound, and so does its memory."""
    first: dict[int, int] = {}
    for sample in case.history.samples:
        if sample.queued_bytes > sample.queue_bytes_max + STRETCH_BYTES:
            yield f"{sample.queued_bytes} bytes waited for one watcher at {sample.at_s:.3f}"
        grown = sample.rss_bytes - first.setdefault(sample.run, sample.rss_bytes)
        if grown > _RSS_GROWTH_BYTES_MAX:
            yield f"the server had grown by {grown} bytes at {sample.at_s:.3f}"


def isolated(case: Case) -> Iterator[str]:
    """While a client takes nothing, each that reads at once gets everything that is posted."""
    for stall in case.history.stalls:
        posted = case.where(stall.posted)
        if not stall.posted or posted is None:
            continue
        for view in case.views:
            # Open before the last callback was posted, and until the stall was over.
            if not view.record.prompt or view.opened is None or view.record.end is None:
                continue
            if view.opened.at_s > stall.posted_s or view.record.end.at_s < stall.until_s:
                continue
            places = [item.ordinary for item in view.items if item.at_s <= stall.until_s]
            if max((place for place in places if place), default=(0, 0)) < posted.place:
                yield f"{view}: had not come to {posted.place} while stream {stall.stream} stalled"
