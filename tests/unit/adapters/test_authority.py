from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from volatile_rse.adapters import https
from volatile_rse.adapters.authority import ClientPair, LocalAuthority, hashed_name
from volatile_rse.ports.credentials import KeyPair, TokenClaims
from volatile_rse.ports.errors import RefusedError

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> LocalAuthority:
    return LocalAuthority(*LocalAuthority.create())


def context(folder: Path, side: int, pair: KeyPair, bundle: str) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=bundle)
    (folder / "pair.pem").write_text(pair.certificate + pair.key)
    made.load_cert_chain(folder / "pair.pem")
    return made


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> str:
    """Let both sides verify each other; give the client's common name as the server saw it."""
    left, right = socket.socketpair()
    seen: list[object] = []

    def serve() -> None:
        try:
            with server.wrap_socket(left, server_side=True) as stream:
                seen.append(stream.getpeercert())
                stream.sendall(b"1")
        except OSError as error:
            seen.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(right, server_hostname=host) as stream:
            stream.recv(1)
    finally:
        thread.join()
    return repr(seen[0])


@pytest.mark.parametrize("host", ["buffer.volatile-rse.svc", "10.1.2.3"])
def test_both_sides_trust_each_other(authority: LocalAuthority, tmp_path: Path, host: str) -> None:
    pair = authority.server(["buffer.volatile-rse.svc", "10.1.2.3"], DAY)
    server = context(tmp_path, ssl.PROTOCOL_TLS_SERVER, pair, authority.bundle())
    client = context(tmp_path, ssl.PROTOCOL_TLS_CLIENT, authority.client("operator", DAY), authority.bundle())
    assert "operator" in handshake(server, client, host)


@pytest.mark.parametrize("name", ["", "höst", "*" * 2000 + "ü"])
def test_what_is_no_name_of_a_host_is_refused(authority: LocalAuthority, name: str) -> None:
    with pytest.raises(RefusedError, match="cannot be read as names of hosts"):
        authority.server([name], DAY)


def test_another_name_authority_or_purpose_is_refused(authority: LocalAuthority, tmp_path: Path) -> None:
    server_pair, client_pair = authority.server(["a.example"], DAY), authority.client("operator", DAY)
    other = LocalAuthority(*LocalAuthority.create())
    server = context(tmp_path, ssl.PROTOCOL_TLS_SERVER, server_pair, authority.bundle())
    client = context(tmp_path, ssl.PROTOCOL_TLS_CLIENT, client_pair, authority.bundle())
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server, client, "b.example")
    stranger = context(tmp_path, ssl.PROTOCOL_TLS_CLIENT, client_pair, other.bundle())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, stranger, "a.example")
    impostor = context(tmp_path, ssl.PROTOCOL_TLS_SERVER, client_pair, authority.bundle())
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(impostor, client, "a.example")


def test_openssl_accepts_the_chain(authority: LocalAuthority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(authority.bundle())
    (tmp_path / "server.pem").write_text(authority.server(["h" * 63 + ".example"], DAY).certificate)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "ca.pem", "server.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "server.pem: OK\n", done.stderr


@pytest.mark.parametrize(
    "attributes",
    [
        [(NameOID.COMMON_NAME, "volatile-rse")],
        [(NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "  Some   Site "), (NameOID.COMMON_NAME, "X ÄÖ ß")],
        [(NameOID.DOMAIN_COMPONENT, "CERN"), (NameOID.COMMON_NAME, "G" * 60), (NameOID.LOCALITY_NAME, "L" * 90)],
    ],
)
def test_the_hashed_name_is_openssl_s(tmp_path: Path, attributes: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + DAY)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "ca.pem").write_bytes(pem)
    command = ["openssl", "x509", "-noout", "-hash", "-in", str(tmp_path / "ca.pem")]
    expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert hashed_name(pem.decode()) == f"{expected}.0"


def test_a_session_token_says_what_was_asked(authority: LocalAuthority) -> None:
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=8)
    claims = TokenClaims("https://issuer/", "claim", "https://buffer", "storage.read:/store", expires)
    jwks = json.loads(json.dumps(authority.jwks("https://issuer/")))
    token = jwt.decode(authority.token(claims), KeySet.import_key_set(jwks), algorithms=["ES256"])
    assert token.header["kid"] == jwks["keys"][0]["kid"]
    assert token.claims["wlcg.ver"] == "1.0"
    assert token.claims["exp"] == int(expires.timestamp())
    behind = datetime.now(UTC) - timedelta(minutes=4)
    assert max(token.claims["nbf"], token.claims["iat"]) < behind.timestamp(), "clocks of buffers may be behind"
    assert {name: token.claims[name] for name in ("iss", "sub", "aud", "scope")} == {
        "iss": "https://issuer/", "sub": "claim", "aud": "https://buffer", "scope": "storage.read:/store",
    }  # fmt: skip
    assert "d" not in jwks["keys"][0]
    other = KeySet.import_key_set(json.loads(json.dumps(authority.jwks("https://other/"))))
    with pytest.raises(JoseError):
        jwt.decode(authority.token(claims), other, algorithms=["ES256"])


def test_an_issuer_s_key_is_the_same_whenever_it_is_derived_and_nobody_else_s(authority: LocalAuthority) -> None:
    key = authority.jwks("https://issuer/")
    assert authority.jwks("https://issuer/") == key
    assert authority.jwks("https://other/") != key
    assert LocalAuthority(*LocalAuthority.create()).jwks("https://issuer/") != key


def test_a_digest_is_of_one_content_of_one_owner_by_one_authority(authority: LocalAuthority) -> None:
    digest = authority.digest("a", b"content")
    assert authority.digest("a", b"content") == digest
    others = [
        authority.digest("b", b"content"),
        authority.digest("a", b"contents"),
        LocalAuthority(*LocalAuthority.create()).digest("a", b"content"),
    ]
    assert digest not in others


MADE, OTHER = LocalAuthority.create(), LocalAuthority.create()


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        ("nonsense \N{GREEK SMALL LETTER TAU}", MADE[1], "no certificate and key"),
        (MADE[0], "nonsense \N{GREEK SMALL LETTER TAU}", "no certificate and key"),
        (MADE[0], OTHER[1], "do not belong together"),
    ],
)
def test_an_authority_that_is_none_is_told_without_its_text(certificate: str, key: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why) as caught:
        LocalAuthority(certificate, key)
    assert "nonsense" not in str(caught.value)


def test_nothing_outlives_the_authority(authority: LocalAuthority) -> None:
    pair = authority.client("operator", timedelta(days=9999))
    end = x509.load_pem_x509_certificate(pair.certificate.encode()).not_valid_after_utc
    assert end == x509.load_pem_x509_certificate(authority.bundle().encode()).not_valid_after_utc


def test_a_client_certificate_is_renewed_long_before_its_end(tmp_path: Path) -> None:
    begin = now = datetime.now(UTC) - 200 * DAY

    def clock() -> datetime:
        return now

    made = LocalAuthority.create(now=lambda: begin)
    authority = LocalAuthority(*made, clock)
    pair = ClientPair(authority, "operator", 90 * DAY, clock)
    first = pair()
    now = begin + 59 * DAY
    assert pair() == first
    now = begin + 61 * DAY
    assert pair() != first
    server = authority.server(["agent"], 400 * DAY)
    for days in (89, 91, 200):
        now = begin + days * DAY
        certificate = x509.load_pem_x509_certificate(pair().certificate.encode())
        assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc - 29 * DAY
    # The last one is of today, so that OpenSSL can be asked; the first has ended.
    serve = context(tmp_path, ssl.PROTOCOL_TLS_SERVER, server, authority.bundle())
    ask = context(tmp_path, ssl.PROTOCOL_TLS_CLIENT, pair(), authority.bundle())
    assert "operator" in handshake(serve, ask, "agent")
    with pytest.raises(ssl.SSLError, match="expired"):
        handshake(serve, context(tmp_path, ssl.PROTOCOL_TLS_CLIENT, first, authority.bundle()), "agent")


def test_certificates_of_authorities_may_have_comments_in_any_language(authority: LocalAuthority) -> None:
    with https.session(f"# F\u0151tan\u00fas\u00edtv\u00e1ny\n{authority.bundle()}") as session:
        assert session.adapters["https://"]._context.get_ca_certs()  # type: ignore[attr-defined]


def test_certificates_begin_a_day_before_they_are_issued(authority: LocalAuthority) -> None:
    """Whoever refused them for a clock that is behind could not be asked what it shows."""
    issued = [authority.bundle(), authority.server(["a"], timedelta(days=2)).certificate]
    issued.append(authority.client("a", timedelta(days=2)).certificate)
    for certificate in issued:
        begin = x509.load_pem_x509_certificate(certificate.encode()).not_valid_before_utc
        assert datetime.now(UTC) - begin > timedelta(hours=23)
