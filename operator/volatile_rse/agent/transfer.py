"""Files to and from sites by https, with bearer tokens."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import pycurl

from volatile_rse.api.addresses import Place, host_of, is_below, place_of
from volatile_rse.api.agent import Manifest, SiteTokens
from volatile_rse.api.text import is_token

__all__ = [
    "Access",
    "Answer",
    "Request",
    "Transfer",
    "TransferError",
    "delete",
    "digest",
    "get",
    "head",
    "put",
]

_CONNECT = 15
_SILENCE = 60
"""Seconds that a site may send or take next to nothing."""
_NOTHING = 1000
"""Bytes in a second that are next to nothing."""
_SLOWEST = 20_000
"""Bytes in a second of a whole file: what arrives more slowly is asked for again from there, or elsewhere."""
_LONGEST = 2_000_000
"""Seconds: libcurl takes hardly more."""
_ANSWER = 1 << 20
"""Bytes that a site may say where no file is asked of it."""
_HEADER = 1 << 16
"""Bytes of an answer's header that are read."""
_HASHED_PER_SECOND = 20_000_000
"""Bytes that a slow site reads for a checksum before it answers."""
_PIECE = 256 * 1024
_CREATED = frozenset({200, 201, 204})
_READS = frozenset({"GET", "HEAD"})
_REMOVED = frozenset({200, 202, 204, 404})
_STATUS = re.compile(rb"HTTP/[0-9.]{1,8} ([0-9]{3})\b")
_AROUND = "\ufeff \t\r\n"
"""What editors and ``echo`` leave around a token."""
_REWRITE = "whoever keeps its Secret must write a token into it, letters, digits and signs of ASCII without a blank"
_WIDEN = "whoever keeps its Secret must add the folder there, or an administrator must mend the protocol of its RSE"
_READDRESS = "an administrator must mend the protocol of its RSE in Rucio"
_AS_IT_IS = "%:/?#[]@!$&'()*+,;=~"
"""What a URL may hold besides letters and digits; everything else is escaped, and escapes are not escaped again."""


class TransferError(RuntimeError):
    """A site did not give or take a file."""


@dataclass(frozen=True, slots=True)
class Access:
    """How sites are reached."""

    sites: Mapping[str, SiteTokens] = field(default_factory=dict)
    """Host name -> what opens it; no other host is asked."""
    trust: Path | None = None
    """File with the certificates of the sites' authorities; None: the system's."""

    @classmethod
    def of(cls, manifest: Manifest, folder: Path) -> Access:
        """Take it from a manifest; libcurl wants the certificates in a file, of this folder."""
        sites = {host_of(host): tokens for host, tokens in manifest.credentials.items()}
        if manifest.trust is None:
            return cls(sites)
        path = folder / f"{hashlib.sha256(manifest.trust.encode()).hexdigest()}.pem"
        path.write_text(manifest.trust)
        return cls(sites, path)

    def authorization(self, url: str, *, writes: bool) -> tuple[Place, list[str]]:
        """Give the place that a URL names, and the header that shows its host the token, if there is one.

        Raises
        ------
        TransferError
            It names no place that may be asked; or what was given is no token: in a header it could be more than one.
        """
        shown, place = url.partition("?")[0], place_of(url)
        if place is None:
            message = f"{shown} is no address: {_READDRESS}"
            raise TransferError(message)
        tokens = self.sites.get(place.host)
        if tokens is None:
            message = f"{shown} is not asked: {place.host} is none of the sites that the operator has named"
            raise TransferError(message)
        given = tokens.write if writes else tokens.read
        if given is None:
            return place, []
        if tokens.paths is not None and not is_below(place, tokens.paths):
            message = f"{shown} is not asked: it is in no folder that the token for {place.host} is for: {_WIDEN}"
            raise TransferError(message)
        token = given.get_secret_value().strip(_AROUND)
        if not is_token(token):
            message = f"what was given as the token for {place.host} is none: {_REWRITE}"
            raise TransferError(message)
        return place, [f"Authorization: Bearer {token}"]


@dataclass(slots=True)
class Answer:
    """What a site said."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    taken: int = 0
    """Bytes of the header."""

    def take(self, line: bytes) -> None:
        """Read a line of a header; a redirection's answer is replaced by the next."""
        self.taken += len(line)
        if self.taken > _HEADER:
            # libcurl has a bound of its own, and ends it there.
            return
        text = line.decode("iso-8859-1").strip()
        if (status := _STATUS.match(line)) is not None:
            self.status, self.headers = int(status[1]), {}
        elif ":" in text:
            name, _, value = text.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    def take_status(self, line: bytes) -> None:
        """Read a line of a header of which the status is enough."""
        if (status := _STATUS.match(line)) is not None:
            self.status = int(status[1])


def _nothing(_data: bytes, _begin: int) -> None:
    return


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What is wanted of a site.

    Raises
    ------
    TransferError
        It can be asked of no site: address or token are none.
    """

    method: str
    url: str
    access: Access
    options: Mapping[int, Any]
    """More options of libcurl."""
    headers: tuple[str, ...] = ()
    fine: frozenset[int] = frozenset()
    """Answers that are no error; none: every one."""
    patience: int = _SILENCE
    """Seconds that the site may send or take next to nothing."""
    size: int = 0
    """Bytes of the file that is sent or fetched: for so long it may take as a whole."""
    offset: int = 0
    receive: Callable[[bytes, int], None] = _nothing
    """Takes a piece, and where the answer as a whole begins: 0 if the site ignored the offset."""
    alone: bool = False
    """Not to be asked of this host together with another such request."""
    host: str = field(init=False)
    """The host that is asked first."""
    authorization: Sequence[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Here, where whoever makes the request hears of it: it comes from outside.
        place, authorization = self.access.authorization(self.url, writes=self.method not in _READS)
        object.__setattr__(self, "host", place.host)
        object.__setattr__(self, "authorization", authorization)

    @property
    def deadline(self) -> int:
        """Seconds until all of it is over, whatever the site sends meanwhile."""
        return min(_CONNECT + 2 * self.patience + self.size // _SLOWEST, _LONGEST)

    @property
    def shown(self) -> str:
        """The URL without its query, which may hold a secret."""
        return self.url.partition("?")[0]


def get(url: str, access: Access, size: int, receive: Callable[[bytes, int], None], offset: int = 0) -> Request:
    """Read a file of a size, from an offset."""
    options: dict[int, Any] = {pycurl.HTTPGET: 1, pycurl.FAILONERROR: 1}
    if offset:
        options[pycurl.RANGE] = f"{offset}-"
    return Request("GET", url, access, options, offset=offset, receive=receive, size=size)


def head(url: str, access: Access) -> Request:
    """Ask whether there is a file."""
    return Request("HEAD", url, access, {pycurl.NOBODY: 1})


def digest(url: str, access: Access, size: int) -> Request:
    """Ask for a file's size and checksum; ``size`` tells how long that may take."""
    # XRootD 5.8.1 crashes or hangs when it is asked for digests on several connections at once, and on kept ones.
    options = {pycurl.NOBODY: 1, pycurl.FRESH_CONNECT: 1, pycurl.FORBID_REUSE: 1}
    patience = _SILENCE + size // _HASHED_PER_SECOND
    return Request("HEAD", url, access, options, ("Want-Digest: adler32",), patience=patience, alone=True)


def put(url: str, access: Access, stream: BinaryIO, size: int) -> Request:
    """Write a file."""
    options = {
        pycurl.UPLOAD: 1,
        pycurl.INFILESIZE_LARGE: size,
        pycurl.UPLOAD_BUFFERSIZE: _PIECE,
        pycurl.READFUNCTION: stream.read,
        # After a redirection the file is sent from its begin.
        pycurl.SEEKFUNCTION: lambda offset, whence: min(stream.seek(offset, whence), 0),
    }
    return Request("PUT", url, access, options, fine=_CREATED, size=size)


def delete(url: str, access: Access) -> Request:
    """Remove a file; an absent one is fine."""
    return Request("DELETE", url, access, {pycurl.CUSTOMREQUEST: "DELETE"}, fine=_REMOVED)


class Transfer:
    """A request on a handle of libcurl.

    Parameters
    ----------
    curl
        New, or reset.
    """

    def __init__(self, curl: pycurl.Curl, request: Request) -> None:
        self.request = request
        self._curl = curl
        self._answer = Answer()
        self._error: Exception | None = None
        self._said = 0
        curl.setopt(pycurl.URL, quote("https" + request.url[request.url.index(":") :], safe=_AS_IT_IS))
        curl.setopt(pycurl.NOSIGNAL, 1)
        # Proxies of the environment are meant for others; a redirection never leaves https.
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        curl.setopt(pycurl.FOLLOWLOCATION, 1)
        curl.setopt(pycurl.MAXREDIRS, 5)
        curl.setopt(pycurl.CONNECTTIMEOUT, _CONNECT)
        curl.setopt(pycurl.LOW_SPEED_LIMIT, _NOTHING)
        curl.setopt(pycurl.LOW_SPEED_TIME, request.patience)
        curl.setopt(pycurl.TIMEOUT, request.deadline)
        curl.setopt(pycurl.BUFFERSIZE, _PIECE)
        if request.method == "HEAD":
            curl.setopt(pycurl.HEADERFUNCTION, self._answer.take)
        elif request.offset:
            curl.setopt(pycurl.HEADERFUNCTION, self._answer.take_status)
        # Else nobody needs a line of the header before the end, and each would have to wait for Python's lock.
        curl.setopt(pycurl.WRITEFUNCTION, self._write)
        if request.access.trust is not None:
            curl.setopt(pycurl.CAINFO, os.fspath(request.access.trust))
            # These and no others; GnuTLS would read all the system's certificates anew for each connection, in 40 ms.
            curl.unsetopt(pycurl.CAPATH)
        # libcurl does not repeat the token to another host that it is redirected to.
        curl.setopt(pycurl.HTTPHEADER, [*request.authorization, *request.headers])
        for option, value in request.options.items():
            curl.setopt(option, value)

    def outcome(self, error: str | None, status: int) -> Answer:
        """Give the answer.

        Parameters
        ----------
        error
            What libcurl said of a transfer that failed.
        status
            Of the last answer, as libcurl read it.

        Raises
        ------
        TransferError
            The site did not do what was wanted.
        """
        self._answer.status, fine = status, self.request.fine
        if error is not None or self._error is not None:
            message = f"{self.request.method} {self.request.shown}: {self._error or error}"
            raise TransferError(message) from self._error
        if fine and status not in fine:
            message = f"{self.request.method} {self.request.shown} gave {status}"
            raise TransferError(message)
        return self._answer

    def _write(self, data: bytes) -> int:
        if self.request.receive is _nothing:
            self._said += len(data)
            return len(data) if self._said <= _ANSWER else -1
        try:
            partial = self._answer.status == 206  # noqa: PLR2004 (partial content)
            self.request.receive(data, self.request.offset if partial else 0)
        except Exception as error:  # noqa: BLE001 (libcurl hears of none; the request gets it as its outcome)
            self._error = error
            return -1
        return len(data)
