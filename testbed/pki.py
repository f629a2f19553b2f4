"""The testbed's own certificate authority and token issuer, kept in its state directory."""

from __future__ import annotations

import ipaddress
import json
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc import jwt
from joserfc.jwk import ECKey

from testbed.layout import PKI

__all__ = ["CA", "ISSUER", "age", "audience", "ensure", "server_certificate", "token"]

CA = PKI / "ca.pem"
ISSUER = "https://issuer.testbed.invalid/"
_CA_KEY, _ISSUER_KEY = PKI / "ca.key", PKI / "issuer.key"
_LIFETIME = timedelta(days=30)


def ensure() -> None:
    """Make the authority and the issuer's key, once per testbed."""
    PKI.mkdir(parents=True, exist_ok=True)
    if not CA.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "volatile-rse testbed")])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = _builder(name, name, key.public_key()).add_extension(usage, critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        _write_key(_CA_KEY, key)
        CA.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    if not _ISSUER_KEY.exists():
        issuer = ECKey.generate_key("P-256", {"kid": "testbed", "alg": "ES256", "use": "sig"})
        _ISSUER_KEY.write_text(json.dumps(issuer.as_dict(private=True)))
        (PKI / "jwks.json").write_text(json.dumps({"keys": [issuer.as_dict(private=False)]}))


def server_certificate(host: str) -> None:
    """Make ``<host>.pem`` and ``<host>.key``, valid for the host's name and for this machine's loopback."""
    if (PKI / f"{host}.pem").exists():
        return
    authority = x509.load_pem_x509_certificate(CA.read_bytes())
    signer = serialization.load_pem_private_key(_CA_KEY.read_bytes(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        message = f"{_CA_KEY} holds no elliptic curve key: run `make down`"
        raise TypeError(message)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    names = x509.SubjectAlternativeName(
        [x509.DNSName(host), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    builder = _builder(name, authority.subject, key.public_key()).add_extension(names, critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(identifier, critical=False)
    _write_key(PKI / f"{host}.key", key)
    (PKI / f"{host}.pem").write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def audience(host: str) -> str:
    """Give the audience that a site's tokens must name."""
    return f"https://{host}:8443"


def token(subject: str, host: str | Sequence[str], scope: str, lifetime: timedelta = timedelta(hours=12)) -> str:
    """Sign a token of the WLCG profile for one site or several.

    Parameters
    ----------
    host
        The container of the site, or of each site that shall accept the token.
    scope
        Space separated, for example ``storage.read:/store storage.modify:/store``.
    """
    now = int(time.time())
    audiences = audience(host) if isinstance(host, str) else [audience(one) for one in host]
    claims = {
        "wlcg.ver": "1.0", "iss": ISSUER, "sub": subject, "aud": audiences, "scope": scope, "iat": now,
        "nbf": now - 5, "exp": now + int(lifetime.total_seconds()), "jti": str(uuid.uuid4()),
    }  # fmt: skip
    key = ECKey.import_key(json.loads(_ISSUER_KEY.read_text()))
    return jwt.encode({"alg": "ES256", "kid": "testbed", "typ": "JWT"}, claims, key)


def age(path: Path) -> timedelta:
    """Tell how long ago a file was written."""
    return timedelta(seconds=time.time() - path.stat().st_mtime)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    # Python 3.13 refuses a chain without key identifiers.
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem)
    # Throwaway keys: the container's own user reads them through a read-only mount.
    path.chmod(0o644)
