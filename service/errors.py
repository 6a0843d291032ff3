"""Every error the service raises on purpose, named by whose fault it is.

    PlugstatusError
    ├── CallerError          theirs to fix: the request as it stands can never succeed
    │   ├── AccessDenied     TokenMissing  TokenInvalid  RoleRequired  InstanceDenied
    │   ├── FieldsInvalid
    │   ├── CursorError      CursorInvalid CursorForeign CursorDiverged CursorAhead CursorExpired
    │   ├── MessageNotFound  AmbiguousMessageId  WebhookNotFound  RequestIdReused
    │   ├── ServiceUnknown
    │   └── PageTokenInvalid
    ├── RetryLater           nobody's fault: the same request can succeed later
    │   ├── LogUnavailable   ViewsUnavailable  ViewsBehind  ShuttingDown  CheckpointMoved
    │   ├── WaitTimedOut
    │   └── LimitExceeded    TooManyWatchers  WatcherStalled
    ├── ProviderError        PlugChat's answer, or its silence
    │   ├── ProviderUnauthorized  ProviderMethodNotAllowed  ProviderUnsupportedMediaType
    │   ├── ProviderRejected  ProviderRateLimited  ProviderUnavailable
    │   └── CredentialsMissing
    └── OperatorError        ours to fix: configuration, files, schemas
        ├── ConfigInvalid
        ├── DataDirInUse  AddressInUse  WorkerEnded  ReceiverEnded
        └── SchemaNewer  SchemaOlder  StoreUnusable

A message says what to do next. `service/api/errors.py` maps them to gRPC,
`service/ingress/problems.py` to HTTP, `service/cli/failures.py` to exit codes.
"""

from collections.abc import Sequence
from typing import Any


class PlugstatusError(Exception):
    """Base of all errors raised on purpose."""


class CallerError(PlugstatusError):
    """The caller has to change the request."""


class AccessDenied(CallerError):
    """The caller may not do this. Says nothing of what there is."""


class TokenMissing(AccessDenied):
    def __init__(self) -> None:
        super().__init__('this server wants the metadata "authorization: Bearer <token>"')


class TokenInvalid(AccessDenied):
    def __init__(self) -> None:
        super().__init__("this server does not know the token, or no longer does")


class RoleRequired(AccessDenied):
    def __init__(self, role: str) -> None:
        self.role = role
        super().__init__(f"this needs a token with the role {role}")


class InstanceDenied(AccessDenied):
    """The token is limited to other instances, or to some where all are concerned."""


class FieldsInvalid(CallerError):
    """Request fields break their bounds; `violations` are pairs of field path and fault.

    Without a path it is the request as a whole.
    """

    def __init__(self, *violations: tuple[str, str]) -> None:
        self.violations: Sequence[tuple[str, str]] = violations
        super().__init__(
            "; ".join(f"{field}: {fault}" if field else fault for field, fault in violations)
        )


class CursorError(CallerError):
    """A cursor that cannot be resumed from."""


class CursorInvalid(CursorError):
    """Not a cursor of this service at all."""


class CursorForeign(CursorError):
    """A cursor of another log."""


class CursorDiverged(CursorError):
    """The log holds another event, or none, where the cursor stood."""


class CursorAhead(CursorError):
    """The cursor stands beyond the log's head."""


class CursorExpired(CursorError):
    """Retention has removed what followed the cursor."""


class MessageNotFound(CallerError):
    def __init__(self, message_id: str) -> None:
        self.message_id = message_id
        super().__init__(f"no callback has named the message {message_id!r} yet")


NAMED_INSTANCES_MAX = 10
"""Instances an AmbiguousMessageId names: more would not fit a trailer."""


class AmbiguousMessageId(CallerError):
    """Several instances hold the id; `instances` names at most ten of them, in order."""

    def __init__(self, message_id: str, instances: Sequence[str]) -> None:
        self.message_id = message_id
        self.instances = instances
        super().__init__(f"several instances hold the message {message_id!r}: name one of them")


class WebhookNotFound(CallerError):
    def __init__(self, instance: str) -> None:
        self.instance = instance
        super().__init__(f"no webhook update was ever attempted for the instance {instance!r}")


class ServiceUnknown(CallerError):
    def __init__(self) -> None:
        super().__init__("this server has no such service")


class RequestIdReused(CallerError):
    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        super().__init__(f"request_id {request_id} was used for another request: make a new one")


class PageTokenInvalid(CallerError):
    def __init__(self) -> None:
        super().__init__(
            "this page_token does not belong to this listing: hand back the token of the last "
            "page with the same arguments, or leave it out to begin again"
        )


class RetryLater(PlugstatusError):
    """The same request can succeed later."""


class LogUnavailable(RetryLater):
    """The event log cannot be written or read now; what was being appended may not be recorded."""


class ViewsUnavailable(RetryLater):
    """The views cannot be read now."""


class CheckpointMoved(RetryLater):
    """Another process has done it, or leads by now: whoever gets this steps down."""


class ViewsBehind(RetryLater):
    """The views did not reach the asked position in time."""


class WaitTimedOut(RetryLater):
    """A message did not get to the status that was waited for in time."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"not reached within {wait_s:.3g} s: wait again, nothing is lost")


class ShuttingDown(RetryLater):
    def __init__(self) -> None:
        super().__init__("this server is shutting down: try another one, or again")


class LimitExceeded(RetryLater):
    """`limit` is the name of the limit in the configuration."""

    def __init__(self, limit: str, limit_max: float, what: str = "all are taken") -> None:
        self.limit = limit
        self.limit_max = limit_max
        super().__init__(f"{limit} is {limit_max:g}, and {what}: try again later")


class TooManyWatchers(LimitExceeded):
    pass


class WatcherStalled(RetryLater):
    def __init__(self, stall_s: float) -> None:
        self.stall_s = stall_s
        super().__init__(
            f"the transport accepted nothing for {stall_s:g} s: resume from the last cursor"
        )


class ProviderError(PlugstatusError):
    """PlugChat did not take the webhook.

    `status_code` is 0 when no answer was heard, and when one heard before is raised again.
    """

    def __init__(self, message: str, status_code: int = 0) -> None:
        self.status_code = status_code
        super().__init__(message)


class ProviderUnauthorized(ProviderError):
    pass


class ProviderMethodNotAllowed(ProviderError):
    pass


class ProviderUnsupportedMediaType(ProviderError):
    pass


class ProviderRejected(ProviderError):
    pass


class ProviderRateLimited(ProviderError):
    pass


class ProviderUnavailable(ProviderError):
    pass


class CredentialsMissing(ProviderError):
    def __init__(self, instance: str) -> None:
        self.instance = instance
        super().__init__(
            f"no PlugChat authorization is configured for the instance {instance!r}: set "
            "PLUGSTATUS_PLUGCHAT_CREDENTIALS_FILE, or PLUGSTATUS_PLUGCHAT_INSTANCE and "
            "PLUGSTATUS_PLUGCHAT_AUTHORIZATION"
        )


class OperatorError(PlugstatusError):
    """Whoever runs the service has to change something. Can be sent from process to process."""

    def __reduce__(self) -> tuple[Any, ...]:
        # What a subclass is made from may be something else than what it says.
        return type(self).__new__, (type(self), str(self))


class ConfigInvalid(OperatorError):
    """`variable` is the environment variable, or the option, at fault."""

    def __init__(self, variable: str, fault: str) -> None:
        self.variable = variable
        super().__init__(f"{variable}: {fault}")


class DataDirInUse(OperatorError):
    def __init__(self, data_dir: str, holder: str) -> None:
        super().__init__(
            f"the data folder {data_dir} is in use by {holder}: stop that one first, or give "
            "this one another PLUGSTATUS_DATA_DIR"
        )


class AddressInUse(OperatorError):
    def __init__(self, variable: str, address: str, reason: str) -> None:
        super().__init__(
            f"{variable}: cannot listen on {address} ({reason}): stop what listens there, or "
            "choose another address"
        )


class WorkerEnded(OperatorError):
    def __init__(self, number: int) -> None:
        super().__init__(f"worker {number} ended before it was ready: its own lines say why")


class ReceiverEnded(OperatorError):
    def __init__(self) -> None:
        super().__init__("the receiving process ended by itself: its own lines may say why")


class SchemaNewer(OperatorError):
    def __init__(self, store: str, revision: str, known: str) -> None:
        super().__init__(
            f"the schema revision of the {store} is {revision}, and this program knows only "
            f"{known}: it was written by a newer plugstatus, so run that version or a later one"
        )


class SchemaOlder(OperatorError):
    def __init__(self, store: str, revision: str, known: str) -> None:
        super().__init__(
            f"the schema revision of the {store} is {revision or 'none'}, and this program needs "
            f"{known}: run `plugstatus migrate`"
        )


class StoreUnusable(OperatorError):
    """A store that cannot be opened at all: missing folder, no rights, not a database."""
