"""From errors to exit codes."""

from service import errors
from service.client import CallFailed, CursorFileError, CursorFileInUse

NO = 1
"""The answer is no."""
WRONG = 2
"""Used or configured wrongly."""

_WRONG_REASONS = frozenset(
    {
        "AMBIGUOUS_MESSAGE_ID",
        "FIELD_INVALID",
        "REQUEST_ID_REUSED",
        "PLUGCHAT_CREDENTIALS_MISSING",
        "TOKEN_MISSING",
        "TOKEN_INVALID",
        "ROLE_REQUIRED",
        "INSTANCE_DENIED",
        "CURSOR_INVALID",
        "CURSOR_FOREIGN",
    }
)


class Unreachable(Exception):
    """No server answered at the target."""


def exit_code_of(error: Exception) -> int | None:
    """The exit code of an expected fault; None for a defect, which deserves its traceback."""
    match error:
        case errors.ConfigInvalid() | errors.SchemaNewer() | errors.SchemaOlder():
            return WRONG
        case errors.PlugstatusError() | Unreachable() | CursorFileInUse():
            return NO
        case CursorFileError():
            return WRONG
        case CallFailed():
            return WRONG if error.reason in _WRONG_REASONS else NO
        case _:
            return None


def explained(error: CallFailed, target: str) -> Exception:
    """The failure, or what to do about a server that is not there."""
    if error.code.name == "UNAVAILABLE" and not error.reason:
        return Unreachable(
            f"no plugstatus answers at {target}: start one with `plugstatus serve`, or name "
            "another with PLUGSTATUS_API_TARGET"
        )
    return error
