"""No trace of an erased text in the stores' files, not even where rows were deleted."""

from service import errors
from service.domain.progress import Progress
from service.upkeep.parts import Parts, Tell
from service.upkeep.scan import still_said


async def wipe_all(parts: Parts, text: str, tell: Tell) -> str:
    """Wipe both stores' files. Where the text stands all the same, for people; empty: nowhere.

    A file in which it is found although nothing was said of it is written anew; of the event log
    only if no event holds the text, because every append waits meanwhile.
    Raises LogUnavailable, ViewsUnavailable.
    """
    tell(Progress(0, 0, "", "wiping the files"))
    await parts.tasks.wipe(tell)
    await _wipe_log(parts)
    if await parts.views.run(lambda views: views.holds_trace(text)):
        await parts.tasks.rewrite(tell)
        await parts.tasks.wipe(tell)
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
    for left in reversed(range(parts.limits.wipe_tries_max)):
        try:
            await parts.appender.remove(lambda log: log.wipe())
        except errors.LogUnavailable:
            # A reader is in the way, for moments.
            if not left:
                raise
        else:
            return
