"""The one request we make of PlugChat: have it call another webhook.

    answer heard                              raised                           tried again
    2xx                                       nothing: accepted                no
    2xx with {"value": false}                 ProviderRejected                 no
    401, 403                                  ProviderUnauthorized             no
    405                                       ProviderMethodNotAllowed         no
    415                                       ProviderUnsupportedMediaType     no
    429                                       ProviderRateLimited              no
    any other 4xx, any redirect               ProviderRejected                 no
    5xx and every other status                ProviderUnavailable              yes
    none: connection, TLS, time               ProviderUnavailable              yes

Putting the same value again changes nothing, so whatever was not heard may be repeated. What is
documented of the provider's answers is 200, 405 and 415; `{"value": true}` is what it was seen to
send, so a body that says neither true nor false counts as yes.

No message holds the authorization, the address, or anything that PlugChat sent but its status.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import cast
from urllib.parse import urlsplit

import httpx
import msgspec

from service import __version__, errors
from service.clock import Clock
from service.config import PREFIX, Config, Secret
from service.tracing import Tracing
from service.watched_file import WatchedFile

Sleep = Callable[[float], Awaitable[None]]

_REFUSALS: dict[int, tuple[type[errors.ProviderError], str]] = {
    401: (errors.ProviderUnauthorized, "check the authorization configured for the instance"),
    403: (errors.ProviderUnauthorized, "check the authorization configured for the instance"),
    405: (errors.ProviderMethodNotAllowed, f"check {PREFIX}PLUGCHAT_WEBHOOK_PATH"),
    415: (errors.ProviderUnsupportedMediaType, "it no longer takes application/json"),
    429: (errors.ProviderRateLimited, "wait before the next update"),
}
_REDIRECT = f"it redirects: check {PREFIX}PLUGCHAT_URL and {PREFIX}PLUGCHAT_WEBHOOK_PATH"


_UNTRACED = Tracing()


class PlugchatClient:
    """Asks PlugChat. Holds no connection between two updates, so it needs no closing."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
        tracing: Tracing = _UNTRACED,
    ) -> None:
        """Raises ConfigInvalid if the CA file cannot be used."""
        self._tracing = tracing
        self._host = urlsplit(config.plugchat_url).hostname or ""
        self._address = config.plugchat_url + config.plugchat_webhook_path
        self._limits = config.limits
        self._sleep = sleep
        self._system_trust: ssl.SSLContext | None = None
        self._private_trust: WatchedFile[ssl.SSLContext] | None = None
        if config.plugchat_ca_file is None:
            self._system_trust = ssl.create_default_context()
        else:
            self._private_trust = WatchedFile(
                PREFIX + "PLUGCHAT_CA_FILE",
                config.plugchat_ca_file,
                _trust,
                clock,
                bytes_max=config.limits.watched_file_bytes_max,
            )

    async def update_webhook(self, url: str, authorization: Secret, total_s: float) -> None:
        """Returns once PlugChat has accepted the address, after at most `total_s` seconds.

        `url` has no violations (see `webhook_url`). Makes at most `provider_attempts_max`
        attempts, and raises what the last one came to. Cancelled or out of time, it is not known
        whether PlugChat took the address. Raises ProviderError as the table above says.
        """
        # The attempt that the time ran out in is the one to tell of, unless one had ended.
        fault = errors.ProviderUnavailable(_not_heard("no answer in time"))
        try:
            async with asyncio.timeout(total_s):
                for attempt in range(self._limits.provider_attempts_max):
                    if attempt:
                        await self._sleep(self._limits.provider_backoff_s * 2 ** (attempt - 1))
                    failed = await self._attempt(url, authorization)
                    if failed is None:
                        return
                    fault = failed
        except TimeoutError:
            pass
        raise fault

    def reload(self) -> bool:
        """Read the CA file now. False, and a logged error, if the last good one has to stay."""
        return self._private_trust is None or self._private_trust.reload()

    async def _attempt(self, url: str, authorization: Secret) -> errors.ProviderUnavailable | None:
        """None if accepted, the fault if it is worth another attempt; raises a refusal."""
        # One time limit holds from the connection to the body's last byte: the limits that httpx
        # offers begin anew with each byte that drips in.
        try:
            with self._tracing.calling("PUT") as span:
                span.tell(http_request_method="PUT", server_address=self._host)
                async with asyncio.timeout(self._limits.provider_attempt_s):
                    status_code, body = await self._put(url, authorization)
                span.tell(http_response_status__code=status_code)
                if status_code >= 400:
                    span.failed()
        except TimeoutError:
            return errors.ProviderUnavailable(_not_heard("no answer in time"))
        except (httpx.HTTPError, OSError) as error:
            # TLS faults while reading come through as they are, all others as httpx's.
            fault = _not_heard(_connection_fault(error))
        else:
            return _judged(status_code, body)
        # Made outside the handler: the library's own error may quote what was sent.
        return errors.ProviderUnavailable(fault)

    async def _put(self, url: str, authorization: Secret) -> tuple[int, bytes]:
        """The status, and of a 2xx the body's beginning."""
        headers = {
            "Authorization": authorization.reveal(),
            "Content-Type": "application/json",
            "Accept": "application/json",
            # So that what is read is what was sent, and its size is bounded by what arrived.
            "Accept-Encoding": "identity",
            "User-Agent": f"plugstatus/{__version__}",
        }
        attempt_s = self._limits.provider_attempt_s
        content = json.dumps({"value": url}).encode()
        trust = self._private_trust.value() if self._private_trust else self._system_trust
        assert trust is not None
        # A client for each attempt: updates are rare, and no idle connection can have gone stale.
        # trust_env=False: HTTPS_PROXY, SSL_CERT_FILE and .netrc must not send the authorization
        # another way than the configuration says.
        async with (
            httpx.AsyncClient(
                verify=trust, trust_env=False, follow_redirects=False, timeout=attempt_s
            ) as http,
            http.stream("PUT", self._address, headers=headers, content=content) as response,
        ):
            body = await self._beginning(response) if response.is_success else b""
            return response.status_code, body

    async def _beginning(self, response: httpx.Response) -> bytes:
        body = bytearray()
        # It is a generator, whatever its annotation says, and is left before its end.
        async with aclosing(cast("AsyncGenerator[bytes]", response.aiter_raw())) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > self._limits.provider_response_bytes_max:
                    break
        return bytes(body)


class _Answer(msgspec.Struct):
    value: bool = True


_answer = msgspec.json.Decoder(_Answer)


def _judged(status_code: int, body: bytes) -> errors.ProviderUnavailable | None:
    if 200 <= status_code < 300:
        if _says_no(body):
            raise errors.ProviderRejected(
                f'PlugChat answered {status_code} with {{"value": false}}: it did not take the '
                "address",
                status_code,
            )
        return None
    if not 300 <= status_code < 500:
        return errors.ProviderUnavailable(
            f"PlugChat answered {status_code}: it may or may not have taken the address, so run "
            "the update again",
            status_code,
        )
    hint = _REDIRECT if status_code < 400 else "it did not take the address"
    kind, hint = _REFUSALS.get(status_code, (errors.ProviderRejected, hint))
    raise kind(f"PlugChat answered {status_code}: {hint}", status_code)


def _says_no(body: bytes) -> bool:
    try:
        return not _answer.decode(body).value
    except (msgspec.DecodeError, RecursionError):
        return False


def _not_heard(fault: str) -> str:
    return (
        f"PlugChat was not heard ({fault}): it may or may not have taken the address, so run the "
        "update again"
    )


def _connection_fault(error: BaseException) -> str:
    """What went wrong, in our words: the library's may quote what was sent or received."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return "the connection broke off"


def _trust(text: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError):
        raise errors.ConfigInvalid(
            PREFIX + "PLUGCHAT_CA_FILE", "holds no certificate in PEM: name the CA's file"
        ) from None
