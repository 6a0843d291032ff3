"""What came of asking PlugChat: as it is recorded, answered, and answered again. Pure.

came of asking                  state       answered with           the same request again
yes                             ACCEPTED    the update              the update
a no that was heard             REJECTED    its ProviderError       the same error
no usable answer                UNKNOWN     ProviderUnavailable     is sent
a drain, a defect of ours       UNKNOWN     what stopped it         is sent
"""

from typing import NamedTuple

from service import errors
from service.domain.webhook import Outcome, WebhookState, WebhookUpdate

# The names of the API's error reasons, without prefix.
_REFUSALS: dict[str, type[errors.ProviderError]] = {
    "PLUGCHAT_UNAUTHORIZED": errors.ProviderUnauthorized,
    "PLUGCHAT_METHOD_NOT_ALLOWED": errors.ProviderMethodNotAllowed,
    "PLUGCHAT_UNSUPPORTED_MEDIA_TYPE": errors.ProviderUnsupportedMediaType,
    "PLUGCHAT_REJECTED": errors.ProviderRejected,
    "PLUGCHAT_RATE_LIMITED": errors.ProviderRateLimited,
}
_REASONS: dict[type[Exception], str] = {
    **{kind: reason for reason, kind in _REFUSALS.items()},
    errors.ProviderUnavailable: "PLUGCHAT_UNAVAILABLE",
    errors.LogUnavailable: "LOG_UNAVAILABLE",
    errors.ShuttingDown: "SHUTTING_DOWN",
}
_DEFECT = "INTERNAL"

_STOPPED = "the server stopped before the outcome was heard: run the update again"
_FAILED = "plugstatus itself failed before the outcome was heard: see its log"


class Heard(NamedTuple):
    """What came of asking. `fault` is what the caller gets, None if accepted."""

    state: WebhookState
    error: str
    reason: str
    fault: Exception | None

    def outcome(self, update_id: str) -> Outcome:
        return Outcome(update_id, self.state, self.error, self.reason)


ACCEPTED = Heard(WebhookState.ACCEPTED, "", "", None)


def heard(fault: Exception) -> Heard:
    """What to record of an error that asking ended with."""
    reason = _REASONS.get(type(fault), _DEFECT)
    if reason in _REFUSALS:
        return Heard(WebhookState.REJECTED, str(fault), reason, fault)
    match fault:
        case errors.ShuttingDown():
            text = _STOPPED
        case errors.PlugstatusError():
            text = str(fault)
        case _:
            # The text of an error that nobody foresaw may hold anything.
            text = _FAILED
    return Heard(WebhookState.UNKNOWN, text, reason, fault)


def abandoned(update: WebhookUpdate) -> Outcome:
    """The outcome of an attempt whose server ended without recording one."""
    return Outcome(
        update.update_id, WebhookState.UNKNOWN, _STOPPED, _REASONS[errors.ProviderUnavailable]
    )


def heard_again(earlier: WebhookUpdate) -> WebhookUpdate | None:
    """The answer to a request that was made before; None if none was heard, so it is to be sent.

    Raises the ProviderError that was recorded, its `status_code` 0.
    """
    if earlier.state is WebhookState.REJECTED:
        raise _REFUSALS[earlier.error_reason](earlier.error)
    accepted = earlier.state in (WebhookState.ACCEPTED, WebhookState.CONFIRMED)
    return earlier if accepted else None
