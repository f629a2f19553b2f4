"""The operator's own certificate authority (ECDSA P-256) and signer of session tokens (ES256)."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc import jwt
from joserfc.jwk import ECKey

from volatile_rse.api.conditions import Reason
from volatile_rse.api.text import WORDS, visible
from volatile_rse.domain.clocks import BACKDATED
from volatile_rse.ports.credentials import Authority, KeyPair, TokenClaims
from volatile_rse.ports.errors import RefusedError

__all__ = ["ClientPair", "LocalAuthority", "hashed_name"]

_AUTHORITY_LIFETIME = timedelta(days=3650)
_CERTIFIED = timedelta(days=1)
"""A certificate begins so long before it is issued: by one that has not begun nobody could ask for a clock."""
_SCALAR, _SURPLUS = 32, 8
"""Bytes of a private key of P-256, and more from which one is derived."""
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256 (SEC 2, 2.4.2)."""
_TOKEN_KEY, _DIGEST_KEY = b"volatile-rse token key of ", b"volatile-rse digest key of "
"""What a derived secret is for, before whose it is."""
_COMMON_NAME = 64
"""Characters that X.509 allows in a common name."""
_KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def _utcnow() -> datetime:
    return datetime.now(UTC)


class LocalAuthority(Authority):
    """An authority whose key the operator holds.

    Parameters
    ----------
    certificate, key
        Of the authority, PEM, as ``create`` gives them.
    now
        The time that certificates and tokens begin at.

    Raises
    ------
    RefusedError
        CREDENTIAL_INVALID: they are none, or not of one authority.
    """

    def __init__(self, certificate: str, key: str, now: Callable[[], datetime] = _utcnow) -> None:
        self._certificate, self._key = _loaded(certificate, key)
        self._now = now

    @classmethod
    def create(cls, name: str = "volatile-rse", now: Callable[[], datetime] = _utcnow) -> tuple[str, str]:
        """Make a new authority for ten years: certificate and key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        # The serial in the name keeps two operators' authorities apart in one hashed directory.
        subject = _name(f"{name} {uuid.uuid4().hex[:8]}")
        end = now() + _AUTHORITY_LIFETIME
        builder = (
            _builder(subject, subject, key.public_key(), now() - _CERTIFIED, end)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage("key_cert_sign", "crl_sign", "digital_signature"), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        return _pem(builder.sign(key, hashes.SHA256())), _key_pem(key)

    def bundle(self) -> str:
        """Give the authority's certificate."""
        return _pem(self._certificate)

    def server(self, names: Sequence[str], lifetime: timedelta) -> KeyPair:
        """Issue a certificate for host names and addresses."""
        try:
            alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
            return self._issue(names[0], lifetime, ExtendedKeyUsageOID.SERVER_AUTH, alternatives)
        except ValueError as error:
            what = f"{visible(', '.join(map(repr, names)), WORDS)} cannot be read as names of hosts: {error}"
            raise RefusedError(Reason.CONFIGURATION_INVALID, what) from error

    def client(self, name: str, lifetime: timedelta) -> KeyPair:
        """Issue a client certificate."""
        return self._issue(name, lifetime, ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def jwks(self, issuer: str) -> Mapping[str, Any]:
        """Give the public key of an issuer, named by its thumbprint."""
        return {"keys": [self._token_key(issuer).as_dict(private=False)]}

    def token(self, claims: TokenClaims) -> str:
        """Sign a token of the WLCG profile 1.0."""
        signer = self._token_key(claims.issuer)
        now = self._now() - BACKDATED
        payload = {
            "wlcg.ver": "1.0",
            "iss": claims.issuer,
            "sub": claims.subject,
            "aud": claims.audience,
            "scope": claims.scope,
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int(claims.expires.timestamp()),
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode({"alg": "ES256", "typ": "JWT", "kid": signer.kid}, payload, signer)

    def digest(self, about: str, content: bytes) -> str:
        """Give an HMAC (SHA-256) by a key that is derived for this purpose alone."""
        key = self._derived(_DIGEST_KEY + about.encode(), _SCALAR)
        return hmac.new(key, content, hashlib.sha256).hexdigest()

    def _token_key(self, issuer: str) -> ECKey:
        """Derive the key of an issuer.

        The bytes beyond the curve's order make every key as likely as any other (FIPS 186-5, A.2.1).
        """
        stream = self._derived(_TOKEN_KEY + issuer.encode(), _SCALAR + _SURPLUS)
        scalar = int.from_bytes(stream, "big") % (_ORDER - 1) + 1
        pem = _key_pem(ec.derive_private_key(scalar, ec.SECP256R1()))
        key = ECKey.import_key(pem, {"alg": "ES256", "use": "sig"})
        key.ensure_kid()
        return key

    def _derived(self, purpose: bytes, length: int) -> bytes:
        """Derive a secret from the authority's (HKDF, RFC 5869)."""
        secret = self._key.private_numbers().private_value.to_bytes(_SCALAR, "big")
        return HKDF(hashes.SHA256(), length, salt=None, info=purpose).derive(secret)

    def _issue(
        self,
        name: str,
        lifetime: timedelta,
        purpose: x509.ObjectIdentifier,
        alternatives: x509.SubjectAlternativeName | None,
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        end = min(now + lifetime, self._certificate.not_valid_after_utc)
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer)
        builder = (
            _builder(_name(name), self._certificate.subject, key.public_key(), now - _CERTIFIED, end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(identifier, critical=False)
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return KeyPair(_pem(builder.sign(self._key, hashes.SHA256())), _key_pem(key))


class ClientPair:
    """A client certificate that is issued anew in time: a process may live longer than it.

    Parameters
    ----------
    authority
        Who issues it.
    name
        Its common name.
    lifetime
        Of each; the next one is issued after two thirds of it.
    now
        The time.
    """

    def __init__(
        self, authority: Authority, name: str, lifetime: timedelta, now: Callable[[], datetime] = _utcnow
    ) -> None:
        self._authority = authority
        self._name = name
        self._lifetime = lifetime
        self._now = now
        self._lock = threading.Lock()
        self._issued: tuple[KeyPair, datetime] | None = None

    def __call__(self) -> KeyPair:
        """Give the one to use now."""
        now = self._now()
        with self._lock:
            if self._issued is None or now >= self._issued[1]:
                self._issued = self._authority.client(self._name, self._lifetime), now + self._lifetime * 2 / 3
            return self._issued[0]


def hashed_name(certificate: str) -> str:
    """Name an authority's file in a hashed directory as ``openssl rehash`` does: ``<hash>.0``.

    OpenSSL hashes the subject in a canonical form: each value as lower-case UTF8String with spaces squeezed, without
    the outer sequence.
    """
    subject = x509.load_pem_x509_certificate(certificate.encode()).subject
    canonical = b"".join(_canonical(rdn) for rdn in subject.rdns)
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}.0"


def _loaded(certificate: str, key: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Read a pair; what is told of one that is none never repeats it."""
    try:
        read, private = (
            x509.load_pem_x509_certificate(certificate.encode()),
            serialization.load_pem_private_key(key.encode(), None),
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = "The operator's authority is no certificate and key in PEM (tls.crt, tls.key)."
        raise RefusedError(Reason.CREDENTIAL_INVALID, what) from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        what = "The key of the operator's authority (tls.key) is none of an elliptic curve."
        raise RefusedError(Reason.CREDENTIAL_INVALID, what)
    if private.public_key() != read.public_key():
        what = "Certificate and key of the operator's authority (tls.crt, tls.key) do not belong together."
        raise RefusedError(Reason.CREDENTIAL_INVALID, what)
    return read, private


def _canonical(rdn: x509.RelativeDistinguishedName) -> bytes:
    attributes = []
    for attribute in rdn:
        value = attribute.value if isinstance(attribute.value, str) else attribute.value.decode()
        # As OpenSSL does: only ASCII letters are folded, and only ASCII white space is squeezed.
        folded = re.sub(r"[ \t\n\v\f\r]+", " ", value.strip(" \t\n\v\f\r"))
        folded = re.sub("[A-Z]", lambda letter: letter.group().lower(), folded)
        plain = x509.NameAttribute(attribute.oid, folded, _ASN1Type.UTF8String, _validate=False)
        attributes.append(plain)
    # The DER of a name is a sequence of these sets.
    return _content(x509.Name([x509.RelativeDistinguishedName(attributes)]).public_bytes())


def _content(der: bytes) -> bytes:
    """Strip the tag and length of a DER value."""
    length = der[1]
    return der[2:] if length < 0x80 else der[2 + (length & 0x7F) :]  # noqa: PLR2004 - long form of a length


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_COMMON_NAME])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*purposes: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in purposes for usage in _KEY_USAGES})


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
