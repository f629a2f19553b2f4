"""HTTPS that trusts the authorities that it is given, and nothing of the environment's, in bounded time and space.

The timeouts of ``requests`` and ``urllib3`` are of single reads, and an answer may have any size: who sends a byte now
and then, or never ends, would hold a thread for ever. Here each wait of a socket, from the handshake to the last byte
of the answer, gets what is left of the time of the whole call, which is at most what is left of the visit's.
"""

from __future__ import annotations

import os
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from volatile_rse.api.conditions import Reason
from volatile_rse.api.text import is_token, visible
from volatile_rse.ports import deadline
from volatile_rse.ports.credentials import KeyPair
from volatile_rse.ports.errors import RefusedError

__all__ = [
    "BoundedTls",
    "bearer",
    "bound_context",
    "bounded",
    "expect",
    "left",
    "netloc",
    "session",
    "tls_context",
    "told",
]

_HIDDEN = "(secret)"
_SHORTEST, _BEGINNING = 4, 16
"""Characters of what can be hidden in a sentence, and of what is enough to know one that was cut off."""
_DIGITS = 20
"""Of a length: more tell of no more than these do, that it is too long."""
_CONNECT = 10.0
"""Seconds for one address."""
_HASTE = 0.05
"""Seconds by which a socket may give up too early: it waits for whole milliseconds."""


@dataclass(slots=True)
class _Bound:
    """What is left to the call of one thread."""

    until: float
    seconds: float
    most: int
    of_visit: bool
    """The time of the visit ends before that of the call."""
    taken: int = 0

    def left(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            if self.of_visit:
                raise deadline.missed()
            message = f"it took longer than {self.seconds:g} s"
            raise TimeoutError(message)
        return left

    def is_cut(self) -> bool:
        """Tell whether there was no time left for it because there is none for the visit."""
        return self.of_visit and time.monotonic() >= self.until - _HASTE

    def take(self, size: int) -> None:
        self.taken += size
        self.foresee(0)

    def foresee(self, size: int) -> None:
        if self.taken + size > self.most:
            message = f"its answer has more than {self.most} bytes"
            raise OSError(message)


class _Here(threading.local):
    bound: _Bound | None = None


_here = _Here()


@contextmanager
def bounded(seconds: float, most: int) -> Iterator[None]:
    """Bound all that this thread asks within, by sockets of a ``bound_context``: whole answers, not single reads.

    Parameters
    ----------
    seconds
        From now to the last byte.
    most
        Bytes that it reads; what comes beyond ends it.

    Raises
    ------
    OverError
        The time of the visit is over, before it or within it.
    """
    allowed = deadline.left(seconds)
    of_visit = allowed < seconds
    if of_visit and allowed <= 0:
        raise deadline.missed()
    bound = _Bound(time.monotonic() + allowed, seconds, most, of_visit)
    before, _here.bound = _here.bound, bound
    try:
        yield
    except (OSError, HTTPError) as error:
        if bound.is_cut() and not isinstance(error, deadline.OverError):
            raise deadline.missed() from error
        raise
    finally:
        _here.bound = before


def left() -> float:
    """Give the seconds that are left to this thread's call.

    Raises
    ------
    TimeoutError
        None are left.
    """
    return _CONNECT if _here.bound is None else _here.bound.left()


def expect(length: str | None) -> None:
    """Judge what an answer says of itself, before a reader asks for so much memory at once.

    Parameters
    ----------
    length
        Its header ``Content-Length``, if it has one.

    Raises
    ------
    OSError
        That is more than this thread's call may read.
    """
    if _here.bound is not None and length is not None and length.isdecimal():
        _here.bound.foresee(int(length[:_DIGITS]))


def bound_context(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let what a context connects obey the bounds of the thread that uses it."""
    context.sslsocket_class = _BoundSocket
    return context


class _BoundSocket(ssl.SSLSocket):
    """Waits no longer than the call may take that it waits for."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 (as its base)
        self._hurry()
        super().do_handshake(block)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002, ANN401 (as its base)
        bound = self._hurry()
        found = super().read(len, buffer)
        if bound is not None:
            bound.take(found if isinstance(found, int) else found.__len__())
        return found

    def send(self, data: Any, flags: int = 0) -> int:  # noqa: ANN401 (as its base)
        self._hurry()
        return super().send(data, flags)

    def _hurry(self) -> _Bound | None:
        bound = _here.bound
        if bound is not None:
            single = self.gettimeout()
            self.settimeout(bound.left() if single is None else min(bound.left(), single))
        return bound


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
    made.headers["Accept-Encoding"] = "identity"
    made.mount("https://", BoundedTls(tls_context(bundle, pair), name))
    return made


def bearer(token: str) -> dict[str, str]:
    """Give the header that bears a token.

    Raises
    ------
    RefusedError
        CREDENTIAL_INVALID: it is none; HTTP libraries would fail each in its own way, and repeat it.
    """
    if not is_token(token):
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
    return visible(text)


def netloc(host: str, port: int) -> str:
    """Write host and port as a URL has them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls_context(bundle: str | None, pair: KeyPair | None = None) -> ssl.SSLContext:
    """Make a context that trusts these authorities (PEM; None: the system's) and verifies names."""
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
    return bound_context(context)


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Load a key, which OpenSSL takes from files only, from memory: it never touches a disk."""
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "w") as stream:
            stream.write(pair.certificate + pair.key)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


class BoundedTls(HTTPAdapter):
    """Asks within the bounds of its thread.

    Parameters
    ----------
    context
        Whom to trust; None: whom the session says.
    name
        What the server's certificate must name, where that is not the host of the URL.
    """

    def __init__(self, context: ssl.SSLContext | None = None, name: str | None = None) -> None:
        self._is_private = context is not None
        self._context = context or bound_context(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        # OpenSSL itself compares it with the certificate.
        self._name = {} if name is None else {"server_hostname": name}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - the signature of requests
        """Connect by the context."""
        kwargs |= self._name
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def cert_verify(self, conn: Any, *args: Any) -> None:  # noqa: ANN401 - as above
        """Leave out what requests would do here: add the public authorities to the context."""
        if self._is_private:
            conn.cert_reqs = "CERT_REQUIRED"
        else:
            super().cert_verify(conn, *args)  # type: ignore[no-untyped-call]

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 - as above
        """Ask with the time that is left; what was packed on the way could become any size."""
        single = kwargs.get("timeout") or left()
        kwargs["timeout"] = min(_CONNECT, left()), single
        response = super().send(*args, **kwargs)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            message = f"its answer is packed ({response.headers['Content-Encoding']}), which nobody asked for"
            raise requests.exceptions.ContentDecodingError(message)
        return response
