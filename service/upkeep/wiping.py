"""No trace of an erased text in the stores' files, not even where rows were deleted."""

from service import errors
from service.domain.progress import Progress
from service.upkeep.parts import Parts, Tell
from service.upkeep.scan import still_said


async def wipe_all(parts: Parts, text: str, tell: Tell) -> str:
    """Wipe both stores' files. Where the text stands all the same, for people; empty: nowhere.

    The views' file is always written anew: what else was erased with the text may have left copies
    too, and one that was interrupted is not to be told from one that found nothing. The event log's
    is only if the text stands in it although no event holds it: every append waits meanwhile, and
    rows that are only ever appended leave no copies.
    Raises LogUnavailable, ViewsUnavailable.
    """
    await parts.tasks.rewrite(tell)
    tell(Progress(0, 0, "", "wiping the files"))
    await parts.tasks.wipe(tell)
    await _wipe_log(parts)
    said = await parts.log.run(lambda log: still_said(log, text))
    if not said and await parts.log.run(lambda log: log.holds_trace(text)):
        tell(Progress(0, 0, "", "writing the event log's file anew"))
        await parts.appender.remove(lambda log: log.rewrite())
        await _wipe_log(parts)
    left = [
        name
        for name, holds in (
            ("the event log", await parts.log.run(lambda log: log.holds_trace(text))),
            ("the views", await parts.views.run(lambda views: views.holds_trace(text))),
        )
        if holds
    ]
    return f"; the same text stays in {' and '.join(left)}, about something else" if left else ""


async def _wipe_log(parts: Parts) -> None:
    for _ in range(parts.limits.wipe_tries_max):
        if await parts.appender.remove(lambda log: log.wipe()):
            return
    raise errors.LogUnavailable("a reader is in the way of wiping the event log's file")
