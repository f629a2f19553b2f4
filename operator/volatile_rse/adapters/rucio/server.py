"""How one Rucio server is asked: in bounded time, with one client for each call that runs, and every failure named."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_plus

import requests
from certifi import where

from volatile_rse.adapters import https
from volatile_rse.adapters.gate import Gate
from volatile_rse.adapters.https import told
from volatile_rse.adapters.rucio.shapes import fault_of
from volatile_rse.api.addresses import server_url
from volatile_rse.api.conditions import Reason
from volatile_rse.api.rucioconnection import Budget, RucioConnectionSpec
from volatile_rse.ports.deadline import OverError
from volatile_rse.ports.errors import PortError, RefusedError, UnreachableError

__all__ = ["RucioServer", "parts", "url_parts"]

T = TypeVar("T")
_CHUNK = 1000
"""Items that Rucio takes in one call."""
_URL_LENGTH = 3000
"""Characters of names in a URL: gunicorn takes a line of 4094."""
_MOST = 512 << 20
"""Bytes of all answers to one call: what has more takes several times as much of the operator's memory."""
_SILENT = 10.0
"""Seconds without an answer that tell of a server, also if it was the visit whose time was over."""


class RucioServer:
    """One Rucio server, asked as one account.

    Parameters
    ----------
    authorities
        Certificates (PEM) that verify the server; None: the system's.
    private
        Directory for session tokens and the client's configuration; nobody else may read it.
    gate
        Of the server: shared by all that ask it; None: one of its own.
    """

    def __init__(
        self,
        connection: RucioConnectionSpec,
        login: tuple[str, str],
        authorities: str | None,
        private: Path,
        gate: Gate | None = None,
    ) -> None:
        self._connection = connection
        self._login = login
        self._gate = gate or Gate(connection.server, connection.budget or Budget())
        # It goes with this object: each credential that is replaced has one.
        self._folder = tempfile.TemporaryDirectory(prefix="rucio-", dir=private, ignore_cleanup_errors=True)
        self._private = Path(self._folder.name)
        self._bundle = _bundle(self._private, authorities)
        self._idle: list[Any] = []
        """Clients that are not in use: the budget bounds how many there are, and each call has one for itself."""

    @property
    def account(self) -> str:
        """The account as which the server is asked."""
        return self._connection.account

    def call(
        self,
        about: str,
        method: str,
        *args: object,
        tolerate: Mapping[str, Reason | None] | None = None,
        **kwargs: object,
    ) -> Any:  # noqa: ANN401 (what Rucio answers)
        """Call Rucio; give None for a tolerated exception without a reason (only), and name everything else.

        Parameters
        ----------
        about
            The object that is spoken of.
        tolerate
            Name of one of Rucio's exceptions -> the reason that it means here; None: it is an answer.
        """
        from rucio.common import exception as raised  # noqa: PLC0415 (the library reads its configuration at import)

        tolerate, began = tolerate or {}, time.monotonic()
        try:
            with self._gate.call():
                # What was waited for a turn is no silence of the server's; the login of a new client is.
                began = time.monotonic()
                with https.bounded(self._gate.budget.timeout, _MOST), self._lent() as client:
                    answer = getattr(client, method)(*args, **kwargs)
                    # A stream fails while it is read, not when it is asked for.
                    answer = list(answer) if isinstance(answer, Iterator) else answer
            fault = fault_of(method, answer)
        except RefusedError:
            self._gate.answered()
            raise
        except (requests.RequestException, raised.ServerConnectionException, OSError, json.JSONDecodeError) as error:
            if not isinstance(error, OverError) or time.monotonic() - began >= _SILENT:
                # Others are not kept from a server of which it is not known that it is silent.
                self._gate.failed()
            what = f"Rucio at {self._connection.server} does not answer: {self._said(error)}."
            raise UnreachableError(Reason.CATALOGUE_UNREACHABLE, what) from error
        except raised.RucioException as error:
            self._gate.answered()
            kind = _kind(error)
            if kind in tolerate and tolerate[kind] is None:
                return None
            raise self._named(about, kind, error, tolerate.get(kind)) from error
        except PortError:
            raise
        except Exception as error:
            # The client, too, reads answers as if they were what it awaits: an empty one ends an iteration.
            self._gate.answered()
            raise self._implausible(
                about, f"{method} fails on it with {type(error).__name__}: {self._said(error)}"
            ) from error
        self._gate.answered()
        if fault:
            raise self._implausible(about, f"{method}{fault}")
        return True if answer is None else answer

    def _implausible(self, about: str, why: str) -> UnreachableError:
        what = f"What Rucio at {self._connection.server} answers about {about} cannot be: {why}."
        return UnreachableError(Reason.CATALOGUE_IMPLAUSIBLE, what)

    def _named(self, about: str, kind: str, error: Exception, reason: Reason | None) -> PortError:
        said = self._said(error)
        if kind in {"DatabaseException", "RucioException", "ServiceUnavailable"}:
            # The server's own trouble: no answer that counts.
            what = f"Rucio at {self._connection.server} failed on {about}: {said}."
            return UnreachableError(Reason.CATALOGUE_UNREACHABLE, what)
        if reason is Reason.DID_NOT_FOUND:
            return RefusedError(reason, f"{about} does not exist in Rucio.")
        return RefusedError(reason or Reason.CATALOGUE_REFUSED, f"Rucio refused {about}: {kind}: {said}.")

    def _said(self, error: Exception) -> str:
        return told(_gist(error), self._login[1])

    @contextmanager
    def _lent(self) -> Iterator[Any]:
        """Give a client that nobody else uses meanwhile: Rucio's are not made for several."""
        try:
            client = self._idle.pop()
        except IndexError:
            client = self._client()
        try:
            yield client
        finally:
            self._idle.append(client)

    def _client(self) -> Any:  # noqa: ANN401
        return _connect(self._connection, self._login, self._bundle, self._private)


class _Whole(https.BoundedTls):
    """Takes no answer whose end cannot be told from a cut, and sends a credential nowhere else.

    The library follows a redirection with the login or the token of the one before, wherever that leads: here none
    leaves the servers that were named.
    """

    def __init__(self, servers: Iterable[str]) -> None:
        super().__init__()
        self._homes = {_origin(url) for url in servers}

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:  # noqa: ANN401 (as its base)
        """Ask once.

        Raises
        ------
        RefusedError
            CREDENTIAL_MISMATCH: it is none of the servers that may be sent what is in the request.
        """
        if (origin := _origin(args[0].url)) not in self._homes:
            what = (
                f"Rucio at {' and '.join(sorted(map(str, self._homes)))} sends on to {origin}: nothing was sent there."
            )
            raise RefusedError(Reason.CREDENTIAL_MISMATCH, what)
        response = super().send(*args, **{**kwargs, "timeout": None})
        headers = response.headers
        bare = response.status_code in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED} or args[0].method == "HEAD"
        if not bare and "Content-Length" not in headers and headers.get("Transfer-Encoding", "").lower() != "chunked":
            response.close()
            message = "its answer has neither a length nor an end, so that a cut one would look whole"
            raise requests.exceptions.ContentDecodingError(message)
        return response


def _connect(connection: RucioConnectionSpec, login: tuple[str, str], bundle: str, private: Path) -> Any:  # noqa: ANN401
    # Beside the folder, which goes with its credential: the library may look for its configuration at any time.
    configuration = private.parent / "rucio.cfg"
    # The second try is for a connection that the server had closed meanwhile; the reconciler does all others.
    if not configuration.exists():
        # Under its name only once it is whole: another thread may look for it just now.
        with tempfile.NamedTemporaryFile("w", dir=private.parent, delete=False) as made:
            made.write("[client]\nrequest_retries = 0\n")
        Path(made.name).rename(configuration)
    os.environ.setdefault("RUCIO_CONFIG", str(configuration))
    # Imported late: the library looks for its configuration as it is imported.
    from rucio.client import Client  # noqa: PLC0415

    tokens = tempfile.mkdtemp(dir=private)
    whole = _Whole(url for url in (connection.server, connection.auth_server) if url is not None)

    class PrivateClient(Client):  # type: ignore[misc]
        """Keeps its token for itself: the library's own place is shared by all servers and accounts."""

        def _get_auth_tokens(self) -> tuple[None, str, str, str]:
            return None, f"{tokens}/expiry", f"{tokens}/token", tokens

        @property
        def session(self) -> requests.Session:
            """The library replaces it when it renews its token."""
            return self._bounded

        @session.setter
        def session(self, session: requests.Session) -> None:
            session.verify = bundle
            session.headers["Accept-Encoding"] = "identity"
            for prefix in list(session.adapters):
                session.mount(prefix, whole)
            self._bounded = session

    return PrivateClient(
        rucio_host=connection.server,
        auth_host=connection.auth_server or connection.server,
        account=connection.account,
        ca_cert=bundle,
        auth_type="userpass",
        creds={"username": login[0], "password": login[1]},
        timeout=30,
        user_agent="volatile-rse",
        vo=connection.vo,
    )


def _origin(url: str) -> str:
    """Give scheme, host and port of a URL as ``requests`` has it."""
    start = re.match(r"[^/]*//[^/?#]*", url)
    return (server_url(start[0]) or start[0]) if start else url


def _bundle(private: Path, authorities: str | None) -> str:
    if authorities is None:
        # Never empty: an empty path would switch verification off.
        return str(where())
    path = private / "authorities.pem"
    path.write_text(authorities)
    return str(path)


def _kind(error: Exception) -> str:
    """Name the class of Rucio's answer."""
    kind = type(error).__name__
    if kind != "CannotAuthenticate":
        return kind
    # The client raises this for any answer to a login; only Rucio's own names a class, a proxy's page does not.
    told = re.search(r"^Details: ([A-Z][A-Za-z]+)(: |$)", str(error), re.MULTILINE)
    return told[1] if told else "RucioException"


def _gist(error: Exception) -> str:
    """Give the last line of an error, where Rucio says what was wrong, without the full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).removeprefix("Details: ")[:300].rstrip(". ")


def parts(items: Iterable[T]) -> Iterator[list[T]]:
    """Split items so that Rucio takes each part in one call."""
    iterator = iter(items)
    while part := list(islice(iterator, _CHUNK)):
        yield part


def url_parts(names: Iterable[str]) -> Iterator[list[str]]:
    """Split names so that each part fits into a URL."""
    part: list[str] = []
    used = 0
    for name in names:
        needed = len(quote_plus(name)) + len("&lfn=")
        if part and used + needed > _URL_LENGTH:
            yield part
            part, used = [], 0
        part.append(name)
        used += needed
    if part:
        yield part
