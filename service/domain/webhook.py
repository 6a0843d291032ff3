"""An instance's webhook at PlugChat, as our own events tell it.

    state          entered by                                             left by
    PENDING        an attempt is recorded, its outcome is not             an outcome
    ACCEPTED       PlugChat answered yes                                  any recorded callback
    REJECTED       PlugChat answered no                                   the next attempt
    UNKNOWN        no usable answer, or our server ended before it came   the next attempt
    CONFIRMED      a callback of the instance came after the acceptance   the next attempt

Addresses in these values never carry a secret: query values are replaced before anything is
recorded, and the SHA-256 of the whole address stands beside them.
"""

from enum import IntEnum

import msgspec

from service.domain.events import Position


class WebhookState(IntEnum):
    """The numbers are stored and are those of the proto."""

    UNSPECIFIED = 0
    """Only checked, not attempted. Never stored."""
    PENDING = 1
    ACCEPTED = 2
    REJECTED = 3
    UNKNOWN = 4
    CONFIRMED = 5


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """We are about to ask PlugChat to call this address."""

    update_id: str
    """A UUID of ours that ties the outcome to the attempt."""
    request_id: str
    """The caller's UUID, or empty."""
    url: str
    """With every query value replaced."""
    url_sha256: str
    """Lower-case hex, of the whole address."""
    updated_by: str


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What came of an attempt. `state` is ACCEPTED, REJECTED or UNKNOWN."""

    update_id: str
    state: WebhookState
    error: str
    """What was wrong, for people; empty when accepted."""
    error_reason: str
    """The name of the API error it is answered with, without prefix; empty when accepted."""


class WebhookUpdate(msgspec.Struct, frozen=True, gc=False):
    """One attempt and what came of it."""

    instance: str
    update_id: str
    request_id: str
    url: str
    url_sha256: str
    updated_by: str
    state: WebhookState
    update_time_us: int
    """When the attempt, or later its outcome, was recorded; a confirmation does not move it."""
    error: str
    error_reason: str
    attempt_time_us: int
    attempt_position: Position
    url_in_force: str
    """The last address accepted up to this update, itself included; empty if none ever was."""


def attempted(
    attempt: Attempt, instance: str, position: Position, time_us: int, url_in_force: str
) -> WebhookUpdate:
    """The update that an attempt begins."""
    return WebhookUpdate(
        instance=instance,
        update_id=attempt.update_id,
        request_id=attempt.request_id,
        url=attempt.url,
        url_sha256=attempt.url_sha256,
        updated_by=attempt.updated_by,
        state=WebhookState.PENDING,
        update_time_us=time_us,
        error="",
        error_reason="",
        attempt_time_us=time_us,
        attempt_position=position,
        url_in_force=url_in_force,
    )


def concluded(update: WebhookUpdate, outcome: Outcome, time_us: int) -> WebhookUpdate:
    """The update once its outcome is known. A later outcome replaces only UNKNOWN or PENDING."""
    if update.state not in (WebhookState.PENDING, WebhookState.UNKNOWN):
        return update
    accepted = outcome.state is WebhookState.ACCEPTED
    return msgspec.structs.replace(
        update,
        state=outcome.state,
        update_time_us=time_us,
        error=outcome.error,
        error_reason=outcome.error_reason,
        url_in_force=update.url if accepted else update.url_in_force,
    )


def confirmed(update: WebhookUpdate) -> WebhookUpdate:
    """The update once a callback of its instance was recorded after it was accepted."""
    if update.state is not WebhookState.ACCEPTED:
        return update
    return msgspec.structs.replace(update, state=WebhookState.CONFIRMED)
