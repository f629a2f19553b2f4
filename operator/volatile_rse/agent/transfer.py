"""Files to and from sites by https, with bearer tokens."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import pycurl

from volatile_rse.api.agent import Manifest

__all__ = ["Access", "Answer", "Line", "TransferError", "host_of"]

_CONNECT = 15
_SILENCE = 60
"""Seconds that a site may send or take nothing."""
_HASHED_PER_SECOND = 20_000_000
"""Bytes that a slow site reads for a checksum before it answers."""
_CREATED = {200, 201, 204}
_REMOVED = {200, 202, 204, 404}
_one_at_a_time: dict[str, threading.Lock] = {}


class TransferError(RuntimeError):
    """A site did not give or take a file."""


@dataclass(frozen=True, slots=True)
class Access:
    """How sites are reached."""

    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Host name -> bearer token."""
    trust: Path | None = None
    """File with the certificates of the sites' authorities; None: the system's."""

    @classmethod
    def of(cls, manifest: Manifest, folder: Path) -> Access:
        """Take it from a manifest; libcurl wants the certificates in a file, of this folder."""
        tokens = {host.lower(): secret.get_secret_value() for host, secret in manifest.credentials.items()}
        if manifest.trust is None:
            return cls(tokens)
        path = folder / f"{hashlib.sha256(manifest.trust.encode()).hexdigest()}.pem"
        path.write_text(manifest.trust)
        return cls(tokens, path)


@dataclass(slots=True)
class Answer:
    """What a site said."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def take(self, line: bytes) -> None:
        """Read a line of a header; a redirection's answer is replaced by the next."""
        text = line.decode("iso-8859-1").strip()
        if text.startswith("HTTP/"):
            self.status, self.headers = int(text.split()[1]), {}
        elif ":" in text:
            name, _, value = text.partition(":")
            self.headers[name.strip().lower()] = value.strip()


def host_of(url: str) -> str:
    """Give the host that a token is chosen by."""
    return (urlsplit(url).hostname or "").lower()


class Line:
    """Connections to the sites, for one thread.

    Parameters
    ----------
    cancelled
        Breaks off what is under way when it becomes true.
    """

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self._cancelled = cancelled
        self._curl = pycurl.Curl()

    def close(self) -> None:
        """Close the connections."""
        self._curl.close()

    def get(
        self,
        url: str,
        access: Access,
        offset: int,
        receive: Callable[[bytes, int], None],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Read a file from an offset.

        Parameters
        ----------
        receive
            Takes a piece, and where the answer as a whole begins: 0 if the site ignored the offset.

        Raises
        ------
        TransferError
            The site did not give all of it.
        """
        answer = Answer()
        errors: list[Exception] = []

        def write(data: bytes) -> int:
            try:
                receive(data, offset if answer.status == 206 else 0)  # noqa: PLR2004 (partial content)
            except (OSError, TransferError) as error:
                errors.append(error)
                return -1
            return len(data)

        self._prepare(url, access, answer, cancelled)
        self._curl.setopt(pycurl.WRITEFUNCTION, write)
        self._curl.setopt(pycurl.FAILONERROR, 1)
        if offset:
            self._curl.setopt(pycurl.RANGE, f"{offset}-")
        self._perform("GET", url, errors)

    def head(self, url: str, access: Access, size: int) -> Answer:
        """Ask for a file's size and checksum; ``size`` tells how long that may take."""
        answer = Answer()
        self._prepare(url, access, answer, patience=_SILENCE + size // _HASHED_PER_SECOND)
        self._curl.setopt(pycurl.NOBODY, 1)
        # XRootD 5.8.1 crashes or hangs when it is asked for digests on several connections at once, and on kept ones.
        self._curl.setopt(pycurl.FRESH_CONNECT, 1)
        self._curl.setopt(pycurl.FORBID_REUSE, 1)
        self._headers(url, access, "Want-Digest: adler32")
        with _asking(host_of(url)):
            self._perform("HEAD", url, [])
        return answer

    def put(self, url: str, access: Access, stream: BinaryIO, size: int) -> None:
        """Write a file.

        Raises
        ------
        TransferError
            The site did not take it.
        """
        answer = Answer()
        self._prepare(url, access, answer)
        self._curl.setopt(pycurl.UPLOAD, 1)
        self._curl.setopt(pycurl.INFILESIZE_LARGE, size)
        self._curl.setopt(pycurl.READFUNCTION, stream.read)
        # After a redirection the file is sent from its begin.
        self._curl.setopt(pycurl.SEEKFUNCTION, lambda offset, whence: min(stream.seek(offset, whence), 0))
        self._curl.setopt(pycurl.WRITEFUNCTION, len)
        self._perform("PUT", url, [])
        if answer.status not in _CREATED:
            message = f"PUT {_shown(url)} gave {answer.status}"
            raise TransferError(message)

    def delete(self, url: str, access: Access) -> None:
        """Remove a file; an absent one is fine.

        Raises
        ------
        TransferError
            The site did not remove it.
        """
        answer = Answer()
        self._prepare(url, access, answer)
        self._curl.setopt(pycurl.CUSTOMREQUEST, "DELETE")
        self._curl.setopt(pycurl.WRITEFUNCTION, len)
        self._perform("DELETE", url, [])
        if answer.status not in _REMOVED:
            message = f"DELETE {_shown(url)} gave {answer.status}"
            raise TransferError(message)

    def _prepare(
        self,
        url: str,
        access: Access,
        answer: Answer,
        cancelled: Callable[[], bool] = lambda: False,
        patience: int = _SILENCE,
    ) -> None:
        curl = self._curl
        curl.reset()  # keeps connections
        curl.setopt(pycurl.URL, "https" + url[url.index(":") :])
        curl.setopt(pycurl.NOSIGNAL, 1)
        # Proxies of the environment are meant for others; a redirection never leaves https.
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.FOLLOWLOCATION, 1)
        curl.setopt(pycurl.MAXREDIRS, 5)
        curl.setopt(pycurl.CONNECTTIMEOUT, _CONNECT)
        curl.setopt(pycurl.LOW_SPEED_LIMIT, 1)
        curl.setopt(pycurl.LOW_SPEED_TIME, patience)
        curl.setopt(pycurl.BUFFERSIZE, 256 * 1024)
        curl.setopt(pycurl.HEADERFUNCTION, answer.take)
        curl.setopt(pycurl.NOPROGRESS, 0)
        curl.setopt(pycurl.XFERINFOFUNCTION, lambda *_: int(self._cancelled() or cancelled()))
        if access.trust is not None:
            curl.setopt(pycurl.CAINFO, os.fspath(access.trust))
        self._headers(url, access)

    def _headers(self, url: str, access: Access, *more: str) -> None:
        token = access.tokens.get(host_of(url))
        bearer = [f"Authorization: Bearer {token}"] if token else []
        # libcurl does not repeat the token to another host that it is redirected to.
        self._curl.setopt(pycurl.HTTPHEADER, [*bearer, *more])

    def _perform(self, method: str, url: str, errors: list[Exception]) -> None:
        try:
            self._curl.perform()
        except pycurl.error as error:
            said = str(errors[0] if errors else self._curl.errstr() or error)
            message = f"{method} {_shown(url)}: {said}"
            raise TransferError(message) from error


def _asking(host: str) -> threading.Lock:
    """Give the lock of a host: one question for a digest at a time."""
    return _one_at_a_time.setdefault(host, threading.Lock())


def _shown(url: str) -> str:
    """Leave out the query, which may hold a secret."""
    return url.partition("?")[0]
