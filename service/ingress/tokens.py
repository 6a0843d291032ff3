"""The tokens that callbacks must carry, from a variable and from a file that may change."""

import hmac

from service import config, errors
from service.clock import Clock
from service.ingress import request
from service.watched_file import WatchedFile

_VARIABLE = "WEBHOOK_TOKEN"
_FILE_VARIABLE = "WEBHOOK_TOKEN_FILE"

_Tokens = tuple[bytes, ...]


class WebhookTokens:
    """All tokens of both sources count, so that one can be rotated. Without any, all callers do."""

    def __init__(self, settings: config.Config, clock: Clock) -> None:
        """Raises ConfigInvalid, without showing a token, for a source that yields none."""
        self._of_variable = _parsed(_VARIABLE, settings.webhook_token.reveal())
        if settings.webhook_token and not self._of_variable:
            raise _no_token(_VARIABLE)
        self._file: WatchedFile[_Tokens] | None = None
        if settings.webhook_token_file is not None:
            self._file = WatchedFile(
                config.PREFIX + _FILE_VARIABLE,
                settings.webhook_token_file,
                self._with_those_of_file,
                clock,
                bytes_max=settings.limits.watched_file_bytes_max,
            )

    def admit(self, query: bytes) -> bool:
        """Does the query carry exactly one token, and a valid one? True when none are set.

        Takes the same time for every wrong token of one length.
        """
        tokens = self._tokens()
        if not tokens:
            return True
        given = request.tokens_given(query)
        if len(given) != 1:
            return False
        admitted = False
        for token in tokens:
            admitted |= hmac.compare_digest(token, given[0])
        return admitted

    def __len__(self) -> int:
        """How many tokens are admitted; 0 admits everybody."""
        return len(self._tokens())

    def reload(self) -> None:
        """Read the file again now. One that cannot be used is logged, and changes nothing."""
        if self._file is not None:
            self._file.reload()

    def _tokens(self) -> _Tokens:
        return self._of_variable if self._file is None else self._file.value()

    def _with_those_of_file(self, text: str) -> _Tokens:
        of_file = _parsed(_FILE_VARIABLE, text)
        if not of_file:
            raise _no_token(_FILE_VARIABLE)
        return (*self._of_variable, *of_file)


def _parsed(variable: str, text: str) -> _Tokens:
    return tuple(token.encode() for token in sorted(config.parse_tokens(variable, text)))


def _no_token(variable: str) -> errors.ConfigInvalid:
    return errors.ConfigInvalid(
        config.PREFIX + variable, "holds no token, so nobody could post: put one in, or unset it"
    )
