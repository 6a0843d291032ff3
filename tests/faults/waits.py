"""Promises about WaitForStatus."""

from collections.abc import Iterator

from tests.faults.case import Case
from tests.faults.history import Wait
from tests.faults.truth import Expected
from tests.fold_model import FAILED, Key

LATE_S = 4.0
"""Heard so long before a wait gave up, a report had to end it, on a slow machine too."""

_AT_ONCE_S = 5.0
_AWAY = (("UNAVAILABLE", ""), ("UNAVAILABLE", "SHUTTING_DOWN"), ("CANCELLED", ""))


def waits_answered(case: Case) -> Iterator[str]:
    """A wait ends when the message is where it was waited for, and no sooner."""
    keys: dict[str, list[Key]] = {}
    for key in case.truth.keys:
        keys.setdefault(key[1], []).append(key)
    for number, wait in enumerate(case.history.waits):
        for fault in _faults(case, wait, keys.get(wait.request.message_id, [])):
            yield f"wait {number} for {wait.request.message_id!r}: {fault}"


def _faults(case: Case, wait: Wait, keys: list[Key]) -> Iterator[str]:
    request, end = wait.request, wait.end
    if end is None or end.how == "cancelled":
        return
    found = [key for key in keys if request.instance in ("", key[0])]
    if end.how == "stuck":
        yield "never ended"
    elif wait.message is not None:
        yield from _answer_faults(case, wait, found)
    elif end.reason == "AMBIGUOUS_MESSAGE_ID":
        known = [key for key in found if _sent_s(case, case.truth.by_message[key][0]) < end.at_s]
        if request.instance or len(known) < 2:
            yield "was ambiguous, and is not"
    elif end.code == "DEADLINE_EXCEEDED":
        yield from _timeout_faults(case, wait, found)
    elif not _excused(case, wait):
        yield f"ended with {end.code} {end.reason}: {end.details}"


def _answer_faults(case: Case, wait: Wait, keys: list[Key]) -> Iterator[str]:
    """The answer is the message as it was at some moment of the wait."""
    message, end = wait.message, wait.end
    assert message is not None
    assert end is not None
    key = (message.instance, message.message_id)
    if key not in keys:
        yield f"the answer is about {key}"
        return
    reports = case.truth.by_message[key]
    if not 1 <= message.report_count <= len(reports):
        yield f"the answer has {message.report_count} reports"
        return
    report = reports[message.report_count - 1]
    if message != report.change.message:
        yield f"the answer was\n{message}instead of\n{report.change.message}"
    if not _satisfied(wait, report):
        yield f"the answer has status {message.status}"
    if _sent_s(case, report) > end.at_s:
        yield "the answer came before its report was posted"


def _timeout_faults(case: Case, wait: Wait, keys: list[Key]) -> Iterator[str]:
    """It does not give up on what was recorded long before."""
    assert wait.end is not None
    if any(one.at_s <= wait.end.at_s and wait.asked_s <= one.up_s for one in case.history.outages):
        return
    for key in keys:
        first = next((one for one in case.truth.by_message[key] if _satisfied(wait, one)), None)
        if first is None:
            continue
        answered_s = case.posts[case.events[first.place[0]].number].answered_s
        if answered_s is not None and max(answered_s, wait.asked_s) < wait.end.at_s - LATE_S:
            yield f"timed out, though {key} was there {wait.end.at_s - answered_s:.1f} s before"


def _satisfied(wait: Wait, report: Expected) -> bool:
    status = report.change.message.status
    if status == FAILED:
        return not wait.request.ignore_failure
    return status >= wait.request.at_least


def _excused(case: Case, wait: Wait) -> bool:
    assert wait.end is not None
    # The transport, while it is being taken down, cuts calls off without an answer.
    return (wait.end.code, wait.end.reason) in _AWAY and any(
        one.at_s <= wait.end.at_s and wait.asked_s <= one.up_s + _AT_ONCE_S
        for one in case.history.outages
    )


def _sent_s(case: Case, report: Expected) -> float:
    return case.posts[case.events[report.place[0]].number].sent_s
