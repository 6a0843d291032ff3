"""From errors to exit codes."""

import re

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


class NotConnected(Exception):
    """What answers at the target and we do not take each other."""


def exit_code_of(error: Exception) -> int | None:
    """The exit code of an expected fault; None for a defect, which deserves its traceback."""
    match error:
        case errors.ConfigInvalid() | errors.SchemaNewer() | errors.SchemaOlder():
            return WRONG
        case errors.PlugstatusError() | Unreachable() | NotConnected() | CursorFileInUse():
            return NO
        case CursorFileError():
            return WRONG
        case CallFailed():
            return WRONG if error.reason in _WRONG_REASONS else NO
        case _:
            return None


_NO_CONNECTION = (
    (
        r"CERTIFICATE_VERIFY_FAILED: ([a-z -]+)",
        "the certificate of {target} is not trusted ({found}): has it to be replaced, or has "
        "PLUGSTATUS_API_CA_FILE to name the CA that signed it?",
    ),
    (
        r"Hostname Verification",
        "the certificate of {target} is not for that name: name the server as its certificate does",
    ),
    (
        r"WRONG_VERSION_NUMBER",
        "{target} answers without TLS: leave PLUGSTATUS_API_CA_FILE out, or is the address wrong?",
    ),
    (
        r"failed to connect.*(?:Socket closed|Connection reset)",
        "{target} closes the connection: if it wants TLS, PLUGSTATUS_API_CA_FILE names its CA, and "
        "if it wants a certificate of its clients, PLUGSTATUS_API_CERT_FILE yours",
    ),
)
"""What gRPC says where something answers and no connection comes about; what to do about it."""


def explained(error: CallFailed, target: str) -> Exception:
    """The failure, or what to do about a server that cannot be reached."""
    if error.code.name != "UNAVAILABLE" or error.reason:
        return error
    for pattern, advice in _NO_CONNECTION:
        if match := re.search(pattern, str(error)):
            found = match[match.lastindex or 0]
            return NotConnected(advice.format(target=target, found=found))
    return Unreachable(
        f"no plugstatus answers at {target}: start one with `plugstatus serve`, or name another "
        "with PLUGSTATUS_API_TARGET"
    )
