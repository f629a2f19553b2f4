"""Files to and from sites by https, with bearer tokens."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import pycurl

from volatile_rse.api.addresses import Place, host_of, is_below, place_of, plain_place_of
from volatile_rse.api.agent import Manifest, SiteTokens
from volatile_rse.api.text import is_token

__all__ = [
    "Access",
    "Answer",
    "InForce",
    "PlainError",
    "Request",
    "Transfer",
    "TransferError",
    "delete",
    "digest",
    "get",
    "head",
    "make_folder",
    "put",
    "read_again",
    "without_query",
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
_AGAIN_PER_SECOND = 100_000_000
"""Bytes of a large file that are read back, of one at a time for a host: other readers of the site come first."""
_PIECE = 256 * 1024
_HOPS = 5
"""Redirections of one request."""
_MOVED = frozenset({301, 302, 303, 307, 308})
_MOVED_TO_READ = 303
"""It sends whoever writes to something that is to be read."""
_CREATED = frozenset({200, 201, 204})
_READS = frozenset({"GET", "HEAD"})
_REMOVED = frozenset({200, 202, 204, 404})
_STATUS = re.compile(rb"HTTP/[0-9.]{1,8} ([0-9]{3})\b")
_AROUND = "\ufeff \t\r\n"
"""What editors and ``echo`` leave around a token."""
_REWRITE = "whoever keeps its Secret must write a token into it, letters, digits and signs of ASCII without a blank"
_WIDEN = "whoever keeps its Secret must add the folder there, or an administrator must mend the protocol of its RSE"
_READDRESS = "an administrator must mend the protocol of its RSE in Rucio"
_MEND_DOOR = "the site's operators must mend where it redirects to"
_AS_IT_IS = "%:/?#[]@!$&'()*+,;=~"
"""What a URL may hold besides letters and digits; everything else is escaped, and escapes are not escaped again."""


class TransferError(RuntimeError):
    """A site did not give or take a file.

    Parameters
    ----------
    status
        Of its answer; None: it gave none, or was not asked.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class PlainError(TransferError):
    """A site gives a file without TLS alone, and must not be read so."""


def without_query(url: str) -> str:
    """Give a URL as it may be told: its query may hold a secret."""
    return url.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Access:
    """How sites are reached, as one manifest has it."""

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

    @property
    def now(self) -> Access:
        """The same, whatever comes: see ``InForce``."""
        return self

    def with_own(self) -> Access:
        """Give what copies are made with: where there is no token to read, they are looked at with that to write."""
        sites = {
            host: tokens if tokens.read is not None else tokens.model_copy(update={"read": tokens.write})
            for host, tokens in self.sites.items()
        }
        return replace(self, sites=sites)

    def authorization(self, url: str, *, writes: bool) -> tuple[Place, list[str]]:
        """Give the place that a URL names, and the header that shows its host the token, if there is one.

        Raises
        ------
        TransferError
            It names no place that may be asked; or what was given is no token: in a header it could be more than one.
        """
        shown, place = without_query(url), place_of(url)
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

    def is_for(self, door: Place, place: Place) -> bool:
        """Tell whether the token for a place may be shown at another one, where that leads to."""
        paths = self.sites[door.host].paths
        return (place.host, place.port) == (door.host, door.port) and (paths is None or is_below(place, paths))

    def reads_plainly(self, door: Place) -> bool:
        """Tell whether what a site redirects to plain http is read there."""
        return self.sites[door.host].plain_redirects


@dataclass(slots=True)
class InForce:
    """The access of now, for work that takes longer than a token lasts: each of its requests shows the one of then."""

    now: Access


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


def _unchanged() -> None:
    return


def _asked(url: str, *, plain: bool = False) -> str:
    """Give a URL as libcurl takes it."""
    return quote(f"http{'' if plain else 's'}{url[url.index(':') :]}", safe=_AS_IT_IS, errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a request is sent."""

    url: str
    place: Place
    authorization: Sequence[str] = field(repr=False)
    is_plain: bool = False
    hops: int = 0
    """Redirections that led there."""


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
    access: Access | InForce
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
    """Not to be asked of this host together with another such request: it may wait for long."""
    begin: Callable[[], object] = _unchanged
    """Called whenever it is sent."""
    door: Place = field(init=False)
    """The place that is asked first."""
    address: _Address = field(init=False)
    opening: Access = field(init=False, repr=False)
    """What was in force when it was made."""

    def __post_init__(self) -> None:
        # Here, where whoever makes the request hears of it: it comes from outside.
        opening = self.access.now
        place, authorization = opening.authorization(self.url, writes=self._writes)
        object.__setattr__(self, "opening", opening)
        object.__setattr__(self, "door", place)
        object.__setattr__(self, "address", _Address(_asked(self.url), place, authorization))

    @property
    def host(self) -> str:
        """The host that is asked first."""
        return self.door.host

    @property
    def authorization(self) -> Sequence[str]:
        """The header that shows the token, where it is sent now."""
        return self.address.authorization

    def renewed(self) -> Request:
        """Give the same, with the token of now.

        Raises
        ------
        TransferError
            It may not be asked any more.
        """
        return replace(self)

    def onward(self, status: int, location: str) -> Request:
        """Give the request that an answer redirects to.

        The token is shown to the same host and port alone, below the folders that it is for, and never again once it
        was not: else one site could make us write or read at another. Nothing is written without TLS.

        Raises
        ------
        TransferError
            It is not followed there.
        """
        url = location.partition("#")[0]
        plain = plain_place_of(url)
        place = plain or place_of(url)
        if self.address.hops == _HOPS:
            message = f"{self} has more than {_HOPS} redirects: {_MEND_DOOR}"
            raise TransferError(message)
        if place is None or (status == _MOVED_TO_READ and self._writes):
            message = f"{self} gave {status}, which leads to no place where that can be done: {_MEND_DOOR}"
            raise TransferError(message)
        if plain is not None:
            self._judge_plain(plain)
        shown = self.authorization if plain is None and self.opening.is_for(self.door, place) else ()
        address = _Address(_asked(url, plain=plain is not None), place, shown, plain is not None, self.address.hops + 1)
        made = copy(self)
        object.__setattr__(made, "address", address)
        return made

    def _judge_plain(self, place: Place) -> None:
        where = f"is redirected to plain http at {place.host}:{place.port}"
        if self._writes:
            message = f"{self} {where}, where nothing is written: the site's operators must give its servers TLS"
            raise TransferError(message)
        if not self.opening.reads_plainly(self.door):
            message = (
                f"{self} {where}: the site's operators must give its servers TLS, or an administrator allows such "
                f"reads by plainRedirects for {self.host} in spec.sites of the VolatileRSEClass"
            )
            raise PlainError(message)

    @property
    def _writes(self) -> bool:
        return self.method not in _READS

    def __str__(self) -> str:
        """Say what is asked, of whom: of a redirection the host alone, as all else of its URL may be a secret."""
        place, first = self.address.place, f"{self.method} {self.shown}"
        return f"{first}, at {place.host}:{place.port}" if self.address.hops else first

    @property
    def deadline(self) -> int:
        """Seconds until all of it is over, whatever the site sends meanwhile."""
        return min(_CONNECT + 2 * self.patience + self.size // _SLOWEST, _LONGEST)

    @property
    def shown(self) -> str:
        """The URL without its query, which may hold a secret."""
        return without_query(self.url)


def get(
    url: str, access: Access | InForce, size: int, receive: Callable[[bytes, int], None], offset: int = 0
) -> Request:
    """Read a file of a size, from an offset."""
    options: dict[int, Any] = {pycurl.HTTPGET: 1, pycurl.FAILONERROR: 1}
    if offset:
        options[pycurl.RANGE] = f"{offset}-"
    return Request("GET", url, access, options, offset=offset, receive=receive, size=size)


def read_again(url: str, access: Access | InForce, size: int, receive: Callable[[bytes, int], None]) -> Request:
    """Read a large file that was sent there: slowly, and no other of this host at the same time."""
    return replace(
        get(url, access, size, receive), alone=True,
        options={pycurl.HTTPGET: 1, pycurl.FAILONERROR: 1, pycurl.MAX_RECV_SPEED_LARGE: _AGAIN_PER_SECOND},
    )  # fmt: skip


def head(url: str, access: Access | InForce) -> Request:
    """Ask whether there is a file."""
    return Request("HEAD", url, access, {pycurl.NOBODY: 1})


def digest(url: str, access: Access | InForce, size: int) -> Request:
    """Ask for a file's size and checksum; ``size`` tells how long that may take."""
    # XRootD before 5.8.4 crashes or hangs when it is asked for digests on several connections at once, and on kept
    # ones. Any later one has who asks beside three others wait 30 s, unless its site has said ``xrootd.chksum max``.
    options = {pycurl.NOBODY: 1, pycurl.FRESH_CONNECT: 1, pycurl.FORBID_REUSE: 1}
    patience = _SILENCE + size // _HASHED_PER_SECOND
    return Request("HEAD", url, access, options, ("Want-Digest: adler32",), patience=patience, alone=True)


def put(url: str, access: Access | InForce, stream: BinaryIO, size: int) -> Request:
    """Write a file."""
    options = {
        pycurl.UPLOAD: 1,
        pycurl.INFILESIZE_LARGE: size,
        pycurl.UPLOAD_BUFFERSIZE: _PIECE,
        pycurl.READFUNCTION: stream.read,
        # On a kept connection that has just been closed it is sent once more.
        pycurl.SEEKFUNCTION: lambda offset, whence: min(stream.seek(offset, whence), 0),
    }
    # After a redirection the file is sent from its begin.
    return Request("PUT", url, access, options, fine=_CREATED, size=size, begin=lambda: stream.seek(0))


def make_folder(url: str, access: Access | InForce) -> Request:
    """Make a directory, whose URL ends with a slash."""
    return Request("MKCOL", url, access, {pycurl.CUSTOMREQUEST: "MKCOL"})


def delete(url: str, access: Access | InForce) -> Request:
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
        request.begin()
        curl.setopt(pycurl.URL, request.address.url)
        curl.setopt(pycurl.NOSIGNAL, 1)
        # Proxies of the environment are meant for others.
        curl.setopt(pycurl.PROXY, "")
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP if request.address.is_plain else pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        # Where it goes on is ours to judge. So libcurl follows nowhere, and keeps the redirection's words from us.
        curl.setopt(pycurl.FOLLOWLOCATION, 1)
        curl.setopt(pycurl.MAXREDIRS, 0)
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
        if request.opening.trust is not None:
            curl.setopt(pycurl.CAINFO, os.fspath(request.opening.trust))
            # These and no others; GnuTLS would read all the system's certificates anew for each connection, in 40 ms.
            curl.unsetopt(pycurl.CAPATH)
        curl.setopt(pycurl.HTTPHEADER, [*request.authorization, *request.headers])
        for option, value in request.options.items():
            curl.setopt(option, value)

    def outcome(self, error: str | None, status: int) -> Answer:
        """Give the answer, where it is no redirection.

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
            message = f"{self.request}: {self._error or error}"
            raise TransferError(message, status) from self._error
        if status in _MOVED or (fine and status not in fine):
            message = f"{self.request} gave {status}"
            raise TransferError(message, status)
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
