"""Which addresses a webhook may have, and what is shown of them."""

import hashlib
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.plugchat.webhook_url import redacted, sha256, violations

CHARACTERS_MAX = 2_048


def faults(url: str, allowed_hosts: frozenset[str] | None = None) -> list[str]:
    found = violations(url, allowed_hosts=allowed_hosts, characters_max=CHARACTERS_MAX)
    assert {field for field, _ in found} <= {"url"}
    return [fault for _, fault in found]


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/instancia/SUA_INSTANCIA/status",
        "https://hooks.example.com",
        "https://hooks.example.com?token=x",
        "HTTPS://HOOKS.EXAMPLE.COM/",
        "https://hooks.example.com:443/",
        "https://hooks.example.com:1/",
        "https://hooks.example.com:65535/",
        "https://hooks.example.com./",
        "https://xn--bcher-kva.example/",
        "https://a.b--c.d3.e/",
        "https://1.2.3.example/",
        "https://127.0.0.1.example/",
        "https://0x7f.example/",
        "https://localhost.example/",
        "https://notlocalhost/",
        "https://intranet/",
        "https://h.example/%7Euser/a;b=1/@x:y/[0]?a[]=1&b=http://u@h/&c=%23",
        "https://h.example/" + "a" * (CHARACTERS_MAX - 18),
        f"https://{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}/",
    ],
)
def test_usable_addresses_pass(url: str) -> None:
    """An https address with a host name, and anything RFC 3986 allows behind it, is taken."""
    assert faults(url) == []


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "1 to 2048 characters"),
        ("https://h.example/" + "a" * (CHARACTERS_MAX - 17), "1 to 2048 characters"),
        ("http://h.example/", "https://"),
        ("ftp://h.example/", "https://"),
        ("h.example/", "https://"),
        ("//h.example/", "https://"),
        ("https:/h.example/", "https://"),
        ("https:h.example/", "https://"),
        ("https:///h.example/", "https://"),
        ("https://", "https://"),
        ("https://?a=1", "https://"),
        ("javascript:alert(1)", "https://"),
        ("https://user@h.example/", "user information"),
        ("https://user:secret@h.example/", "user information"),
        ("https://@h.example/", "user information"),
        ("https://h.example@evil.example/", "user information"),
        ("https://h.example/#", "fragment"),
        ("https://h.example/#x", "fragment"),
        ("https://h.example?a=1#x", "fragment"),
        ("https://h.example#x", "fragment"),
        (" https://h.example/", "percent-encode"),
        ("https://h.example/ ", "percent-encode"),
        ("https://h.example/\n", "percent-encode"),
        ("https://h.example/\r\nX: y", "percent-encode"),
        ("https://h.ex\tample/", "percent-encode"),
        ("https://h.example/\0", "percent-encode"),
        ("https://h.example/\x7f", "percent-encode"),
        ("https://h.example/\u2028", "percent-encode"),
        ("https://h.example/\ud800", "percent-encode"),
        ("https://h.example\\@evil.example/", "percent-encode"),
        ("https:\\\\h.example\\", "percent-encode"),
        ('https://h.example/"', "percent-encode"),
        ("https://h.example/%zz", "percent-encode"),
        ("https://h.example/%2", "percent-encode"),
        ("https://bücher.example/", "A-labels"),
        ("https://h.example/ü", "percent-encode"),
        ("https://\uff11\uff12\uff17.0.0.1/", "A-labels"),
        ("https://127\u30020\u30020\u30021/", "A-labels"),
        ("https://ⓛocalhost/", "A-labels"),
        ("https://h.example:0/", "port"),
        ("https://h.example:65536/", "port"),
        ("https://h.example:/", "port"),
        ("https://h.example:443a/", "port"),
        ("https://h.example:-1/", "port"),
        ("https://h.example:4:4/", "port"),
        ("https://h.example:000443/", "port"),
        ("https://.example/", "valid host name"),
        ("https://h..example/", "valid host name"),
        ("https://h.example../", "valid host name"),
        ("https://./", "valid host name"),
        ("https://:443/", "valid host name"),
        ("https://::1/", "valid host name"),
        ("https://-h.example/", "valid host name"),
        ("https://h-.example/", "valid host name"),
        ("https://h_.example/", "valid host name"),
        ("https://%6cocalhost/", "valid host name"),
        ("https://h.example%2f/", "valid host name"),
        (f"https://{'a' * 64}.example/", "valid host name"),
        (f"https://{'a.' * 126}aa/", "valid host name"),
    ],
)
def test_unusable_addresses_are_refused(url: str, fault: str) -> None:
    """Each rule has a fault of its own that says what to write."""
    assert any(fault in found for found in faults(url))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "8.8.8.8",
        "127.0.0.1.",
        "2130706433",
        "2130706433.",
        "0x7f000001",
        "0X7F.1",
        "0x7f.0x0.0x0.0x1",
        "0x",
        "017700000001",
        "0177.0.0.1",
        "0177.1",
        "127.1",
        "127.0.1",
        "0",
        "256.256.256.256",
        "1.2.3.4.5",
        "99999999999999999999",
        "foo.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "[]",
    ],
)
def test_ip_literals_are_refused_in_any_spelling(host: str) -> None:
    """Whatever a parser somewhere reads as an IP address is no host name."""
    fault = ["must have a host name, not an IP address"]

    assert faults(f"https://{host}/") == fault
    assert faults(f"https://{host}:8443/?a=1") == fault
    assert faults(f"https://{host}") == fault


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost", "localhost.", "a.localhost", "a.b.LOCALHOST.", "localhost:443"],
)
def test_localhost_is_refused(host: str) -> None:
    """Localhost and every name under it are refused, whatever their case."""
    assert faults(f"https://{host}/") == ["must not point at localhost, nor at a name under it"]


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("hooks.example.com", True),
        ("HOOKS.Example.com.", True),
        ("hooks.example.com:8443", True),
        ("example.com", False),
        ("a.hooks.example.com", False),
        ("hooks.example.com.evil.example", False),
    ],
)
def test_only_allowed_hosts_pass(host: str, allowed: bool) -> None:
    """With an allow list the host must be on it, by its whole name."""
    found = faults(f"https://{host}/", frozenset({"hooks.example.com"}))

    assert (found == []) is allowed


def test_all_faults_are_told_at_once() -> None:
    """User information, a fragment, a port and a host are each named."""
    assert len(faults("https://user@localhost:0/#x")) == 4


@given(st.text())
def test_any_text_is_judged_without_being_shown(text: str) -> None:
    """No text raises, and a fault holds nothing of a secret in the query."""
    found = faults(f"http://h.example/?token=s3cret{text}") + faults(text)

    assert not any("s3cret" in fault for fault in found)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ""),
        ("?", "?"),
        ("?a=1", "?a=REDACTED"),
        ("?a=1&b&c=", "?a=REDACTED&REDACTED&c=REDACTED"),
        ("?token=x&token=y", "?token=REDACTED&token=REDACTED"),
        ("?=x", "?=REDACTED"),
        ("?a=b=c", "?a=REDACTED"),
        ("?a=1&&b=2&", "?a=REDACTED&&b=REDACTED&"),
        ("?a=1;b;c=2", "?a=REDACTED;REDACTED;c=REDACTED"),
        ("?a=1?b=2", "?a=REDACTED"),
        ("?n%C3%A3o=1", "?n%C3%A3o=REDACTED"),
        ("?filter%5Bx%5D=1", "?filter%5Bx%5D=REDACTED"),
        ("?a[]=1", "?a[]=REDACTED"),
        # A whole pair in disguise of a name, once and twice encoded.
        ("?token%3Ds3cret", "?REDACTED"),
        ("?token%3Ds3cret=1", "?REDACTED=REDACTED"),
        ("?token%253Ds3cret=1", "?REDACTED=REDACTED"),
        ("?a%26token%3Ds3cret=1", "?REDACTED=REDACTED"),
        ("??s3cret?=1", "?REDACTED=REDACTED"),
        # Bare keys with the padding of base64.
        ("?czNjcmV0czNjcmV0=", "?REDACTED"),
        ("?czNjcmV0cw==", "?REDACTED"),
    ],
)
def test_query_is_redacted(query: str, shown: str) -> None:
    """Every value and bare key becomes REDACTED; names, separators and the rest stay."""
    assert redacted(f"https://h.example:8443/a%20b/c{query}") == (
        f"https://h.example:8443/a%20b/c{shown}"
    )


_secrets = st.text(string.ascii_uppercase + string.digits, min_size=12, max_size=20).map(
    lambda text: f"S3{text}"
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["{}", "a={}", "a=b={}", "={}", "a={}=", "a=%41{}", "{}==", "{}="]),
            _secrets,
            st.sampled_from(["&", ";", "&&", "&;"]),
        ),
        max_size=5,
    )
)
def test_no_secret_survives_redaction(pieces: list[tuple[str, str, str]]) -> None:
    """However values and bare keys are strung together, none of them is left."""
    query = "".join(form.format(secret) + separator for form, secret, separator in pieces)

    shown = redacted(f"https://h.example/p?{query}")

    assert not any(secret in shown for _, secret, _ in pieces)
    assert shown.startswith("https://h.example/p?")


@given(st.text(string.printable).map(quote))
def test_redaction_is_idempotent(query: str) -> None:
    """Redacting what is redacted changes nothing."""
    once = redacted(f"https://h.example/?{query}")

    assert redacted(once) == once


def test_sha256_is_of_the_whole_address() -> None:
    """The fingerprint tells addresses apart that are shown alike."""
    one, other = "https://h.example/?token=1", "https://h.example/?token=2"

    assert redacted(one) == redacted(other)
    assert sha256(one) == hashlib.sha256(one.encode()).hexdigest()
    assert sha256(one) != sha256(other)
