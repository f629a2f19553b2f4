"""HTTPS that trusts the authorities that it is given, and nothing of the environment's."""

from __future__ import annotations

import os
import re
import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from volatile_rse.api.conditions import Reason
from volatile_rse.ports.credentials import KeyPair
from volatile_rse.ports.errors import RefusedError

__all__ = ["bearer", "netloc", "session", "told"]

_TOKEN = re.compile(r"[!-~]+")
_HIDDEN = "(secret)"
_SHORTEST, _BEGINNING = 4, 16
"""Characters of what can be hidden in a sentence, and of what is enough to know one that was cut off."""


def session(bundle: str | None, pair: KeyPair | None = None, name: str | None = None) -> requests.Session:
    """Make a session.

    Parameters
    ----------
    bundle
        Certificates of the authorities to trust, PEM; None: the system's.
    pair
        Our own certificate, for mutual TLS.
    name
        What the server's certificate must name, where that is not the host of the URL.
    """
    made = requests.Session()
    # Proxies, netrc and certificate bundles of the environment are meant for others.
    made.trust_env = False
    made.mount("https://", _PrivateTls(_context(bundle, pair), name))
    return made


def bearer(token: str) -> dict[str, str]:
    """Give the header that bears a token.

    Raises
    ------
    RefusedError
        CREDENTIAL_INVALID: it is none; HTTP libraries would fail each in its own way, and repeat it.
    """
    if not _TOKEN.fullmatch(token):
        raise RefusedError(Reason.CREDENTIAL_INVALID, "What is given as a token is none, which is one word of ASCII.")
    return {"Authorization": f"Bearer {token}"}


def told(said: object, *secrets: str) -> str:
    """Repeat what others say so that anybody may read it: without secrets, and with nothing that cannot be seen."""
    text = str(said)
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, _HIDDEN)
        if len(secret) > _BEGINNING:
            # What is repeated may have been cut off within it.
            text = re.sub(rf"{re.escape(secret[:_BEGINNING])}\S*", _HIDDEN, text)
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def netloc(host: str, port: int) -> str:
    """Write host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _context(bundle: str | None, pair: KeyPair | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if bundle is None:
        context.load_default_certs()
    else:
        # OpenSSL's module takes ASCII alone, and the comments between certificates may be in any language.
        certificates = bundle.encode("ascii", "ignore").decode()
        if not certificates:
            message = "there is no certificate among those to trust"
            raise ssl.SSLError(message)
        context.load_verify_locations(cadata=certificates)
    if pair is not None:
        _load(context, pair)
    return context


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Load a key, which OpenSSL takes from files only, from memory: it never touches a disk."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "w") as stream:
            stream.write(pair.certificate + pair.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class _PrivateTls(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext, name: str | None) -> None:
        self._context = context
        # OpenSSL itself compares it with the certificate.
        self._name = {} if name is None else {"server_hostname": name}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the signature of requests
        kwargs |= self._name
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, conn: Any, *_: object) -> None:  # noqa: ANN401 - as above
        """Leave out what requests would do here: add the public authorities to the context."""
        conn.cert_reqs = "CERT_REQUIRED"
