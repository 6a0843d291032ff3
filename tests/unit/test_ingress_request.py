"""What a callback's head says."""

import pytest

from service.ingress import problems, request

ACME = b"/instancia/acme/status"


@pytest.mark.parametrize(
    ("raw_path", "expected"),
    [
        (ACME, "acme"),
        (b"/instancia/%61cme/status", "acme"),
        (b"/%69nstancia/acme/st%61tus", "acme"),
        (b"/instancia/A-z_0.9/status", "A-z_0.9"),
        (b"/instancia/" + b"a" * 128 + b"/status", "a" * 128),
        (b"/instancia/.../status", "..."),
        (b"/instancia/" + b"a" * 129 + b"/status", None),
        (b"/instancia//status", None),
        (b"/instancia/./status", None),
        (b"/instancia/../status", None),
        (b"/instancia/%2e%2E/status", None),
        (b"/instancia/a%2Fb/status", None),
        (b"/instancia%2Facme/status", None),
        (b"/instancia/a%00/status", None),
        (b"/instancia/acme%0A/status", None),
        (b"/instancia/%C3%A9/status", None),
        (b"/instancia/%2561cme/status", None),
        (b"/instancia/a%/status", None),
        (b"/instancia/a~b/status", None),
        (ACME + b"/", None),
        (b"/" + ACME, None),
        (b"/instancia/acme", None),
        (b"/instancia/acme/Status", None),
        (b"instancia/acme/status/x", None),
        (b"/", None),
        (b"", None),
    ],
)
def test_the_path_is_split_before_it_is_decoded(raw_path: bytes, expected: str | None) -> None:
    """An instance is one segment of the raw path, decoded once, of the allowed characters."""
    assert request.instance_of(raw_path) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"", []),
        (b"token=a", [b"a"]),
        (b"x=1&token=a&y", [b"a"]),
        (b"token=a&token=b", [b"a", b"b"]),
        (b"token=a&token=a", [b"a", b"a"]),
        (b"token=a&%74o%6Ben=b", [b"a", b"b"]),
        (b"token=a%2Db", [b"a-b"]),
        (b"token=", [b""]),
        (b"token", [b""]),
        (b"token&token=a", [b"", b"a"]),
        (b"tokens=a&xtoken=b&Token=c", []),
        (b"x=token=a", []),
        (b"x=%26token=a", []),
        (b"token=a=b", [b"a=b"]),
        (b"&&token=a&&", [b"a"]),
    ],
)
def test_every_token_parameter_is_found(query: bytes, expected: list[bytes]) -> None:
    """Parameters named token are found however they are encoded, and no others."""
    assert request.tokens_given(query) == expected


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json; charset=utf-8",
        b"application/json ;x=y;z",
    ],
)
def test_json_with_any_parameters_is_taken(content_type: bytes) -> None:
    """The media type counts, whatever its case and parameters."""
    announced = request.announced([(b"content-type", content_type), (b"content-length", b"7")])

    assert announced == request.Announced(False, 7)


@pytest.mark.parametrize(
    ("encodings", "gzip"),
    [([], False), ([b"identity"], False), ([b"gzip"], True), ([b"GZip"], True)],
)
def test_gzip_and_identity_are_taken(encodings: list[bytes], gzip: bool) -> None:
    """No Content-Encoding, identity, or one gzip."""
    headers = [(b"content-encoding", encoding) for encoding in encodings]

    assert request.announced([(b"content-type", b"application/json"), *headers]).gzip == gzip


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"")],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/json, text/plain")],
        [(b"content-type", b"application/jsonx")],
        [(b"content-type", b"application/json"), (b"content-type", b"application/json")],
        [(b"content-type", b"application/json"), (b"content-encoding", b"br")],
        [(b"content-type", b"application/json"), (b"content-encoding", b"")],
        [(b"content-type", b"application/json"), (b"content-encoding", b"gzip, gzip")],
        [(b"content-type", b"application/json"), (b"content-encoding", b"gzip, identity")],
        [
            (b"content-type", b"application/json"),
            (b"content-encoding", b"gzip"),
            (b"content-encoding", b"gzip"),
        ],
    ],
)
def test_other_media_and_encodings_are_415(headers: list[tuple[bytes, bytes]]) -> None:
    """Anything else, and anything said twice, is refused with 415."""
    with pytest.raises(problems.Refused) as caught:
        request.announced(headers)

    assert caught.value.problem.status == 415
