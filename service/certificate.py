"""What a certificate says, and whether a key is its own.

Apart from `tls`, because loading what reads certificates takes a tenth of a second.
"""

from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

from service import errors
from service.clock import US_PER_S


class Facts(NamedTuple):
    not_before_us: int
    not_after_us: int
    """When it expires, by the system's clock."""
    names: tuple[str, ...]
    """Whom it is for: host names and addresses."""


def facts_of(variable: str, certificate: bytes, key: bytes, client_ca: bytes) -> Facts:
    """Of the first certificate; all of it PEM, and no `client_ca` if it is empty.

    Raises ConfigInvalid, which shows nothing of the key, if they cannot be used together.
    `variable` is what the variables that name them begin with.
    """
    own = _certificates(f"{variable}_CERT", certificate)[0]
    if _encoded(_private_key(f"{variable}_KEY", key).public_key()) != _encoded(own.public_key()):
        raise errors.ConfigInvalid(
            f"{variable}_KEY", "is not the key of the certificate: name the one made with it"
        )
    if client_ca:
        _certificates(f"{variable}_CLIENT_CA", client_ca)
    return Facts(_us(own.not_valid_before_utc), _us(own.not_valid_after_utc), _names(own))


def _certificates(variable: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise errors.ConfigInvalid(variable, "holds no certificate in PEM") from None


def _private_key(variable: str, content: bytes) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(content, password=None)
    except TypeError:
        fault = "is encrypted: give it without a password, readable by this user only"
    except ValueError:
        fault = "holds no private key in PEM"
    # Not in a handler: what was raised there might show some of the key.
    raise errors.ConfigInvalid(variable, fault)


def _encoded(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (
        *found.get_values_for_type(x509.DNSName),
        *map(str, found.get_values_for_type(x509.IPAddress)),
    )


def _us(time: datetime) -> int:
    return int(time.timestamp()) * US_PER_S
