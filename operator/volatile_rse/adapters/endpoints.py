"""A buffer's doors, used as its session does."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import requests

from volatile_rse.adapters import https, xroot
from volatile_rse.api.conditions import Reason
from volatile_rse.ports import deadline
from volatile_rse.ports.buffer import Endpoints
from volatile_rse.ports.errors import UnreachableError

__all__ = ["XrootdEndpoints"]

_TIMEOUT = 10
"""Seconds that a door may be silent."""
_DEADLINE = 20
"""Seconds until all that is read of its answer is there."""
_MOST = 1 << 20
"""Bytes of an answer, header included: of files the first byte is enough."""
_WORDS = 200
_NO_ANSWER = (requests.RequestException, OSError, ValueError)
"""What cannot be sent fails as a ValueError: a token that no header takes, a trust that is no certificate."""
_LENGTH = re.compile(r"[0-9]{1,18}")
_REFUSALS = {401, 403}
_OK, _REDIRECTED = range(200, 300), range(300, 400)
_GONE = 404
_NO_HEAD = {400, 405, 501}
"""What a site says that knows no HEAD."""
_BROKEN = 500
_PACKED = 200
_PARTIAL = 206
_FIRST_BYTE = {"Range": "bytes=0-0"}
_WHOLE = re.compile(r"bytes [0-9*][-0-9]{0,40}/([0-9]{1,18})")
"""What a part is a part of."""
_EMPTY = 416
"""An empty file has no first byte."""


@dataclass(frozen=True, slots=True)
class _Answer:
    call: str
    status: int
    words: str

    @property
    def ok(self) -> bool:
        return self.status in _OK

    def __str__(self) -> str:
        return f"{self.call} gave {self.status} {self.words}".rstrip()


def _told_size(
    session: requests.Session, method: str, where: str, headers: Mapping[str, str]
) -> tuple[int, int | None]:
    """Give the status of an answer, and the size of the file that it tells."""
    try:
        with session.request(
            method, where, headers=headers, timeout=_TIMEOUT, allow_redirects=False, stream=True
        ) as answer:
            status, told = answer.status_code, answer.headers
    except requests.exceptions.ContentDecodingError:
        # The length of what is packed is not the file's.
        return _PACKED, None
    if status in {_PARTIAL, _EMPTY}:
        whole = _WHOLE.fullmatch(told.get("Content-Range", ""))
        # XRootD says no more of a file that has no first byte.
        return status, int(whole[1]) if whole is not None else 0 if status == _EMPTY else None
    length = _LENGTH.fullmatch(told.get("Content-Length", ""))
    if status not in _OK or length is None or (method == "HEAD" and int(length[0]) == 0):
        return status, None
    return status, int(length[0])


def _where(url: str) -> str:
    return "https://" + quote(url.partition("://")[2], safe="/:[]%", errors="surrogatepass")


class XrootdEndpoints(Endpoints):
    """XRootD over HTTPS and the root protocol.

    Parameters
    ----------
    bundle
        Certificates of the authority that signed the buffers', PEM.
    """

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle

    def size(self, url: str, token: str, trust: str | None) -> int | None:
        """Ask a site for a file's size; a refusal or a redirection tells nothing."""
        where, status = _where(url), 0
        try:
            with https.bounded(_DEADLINE, _MOST), https.session(trust) as session:
                # A HEAD has no body, and some give the length of that, or none: then the first byte is asked for.
                for method, headers in (("HEAD", {}), ("GET", _FIRST_BYTE)):
                    status, size = _told_size(session, method, where, https.bearer(token) | headers)
                    if status == _GONE:
                        return None
                    if size is not None:
                        return size
                    if status not in _OK and status not in _NO_HEAD:
                        break
        except _NO_ANSWER as error:
            message = f"HEAD {url} got no answer: {https.told(error, token)}"
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, message) from error
        message = f"{method} {url} gave {status} and no size"
        raise UnreachableError(Reason.BUFFER_UNREACHABLE, message)

    def is_taken(self, url: str, token: str, trust: str | None) -> bool:
        """Tell whether a site takes a token; a redirection is as good as an answer, and is not followed."""
        where = _where(url)
        try:
            with https.bounded(_DEADLINE, _MOST), https.session(trust) as session:
                # Some know no HEAD: then the first byte is asked for.
                for method, headers in (("HEAD", {}), ("GET", _FIRST_BYTE)):
                    status, _ = _told_size(session, method, where, https.bearer(token) | headers)
                    if status not in _NO_HEAD:
                        break
        except _NO_ANSWER as error:
            message = f"HEAD {url} got no answer: {https.told(error, token)}"
            raise UnreachableError(Reason.SITE_UNREACHABLE, message) from error
        if status not in {*_OK, *_REDIRECTED, *_REFUSALS, _GONE, _EMPTY}:
            message = f"{method} {url} gave {status}"
            raise UnreachableError(Reason.SITE_UNREACHABLE, message)
        return status not in _REFUSALS

    def is_taken_to_write(self, folder: str, token: str, trust: str | None) -> bool:
        """Make a folder that is there: who may write is told so (405), who may not is refused before."""
        where = _where(folder)
        try:
            with https.bounded(_DEADLINE, _MOST), https.session(trust) as session:
                status, _ = _told_size(session, "MKCOL", where, https.bearer(token))
        except _NO_ANSWER as error:
            message = f"MKCOL {folder} got no answer: {https.told(error, token)}"
            raise UnreachableError(Reason.SITE_UNREACHABLE, message) from error
        if status >= _BROKEN and status not in _NO_HEAD:
            message = f"MKCOL {folder} gave {status}"
            raise UnreachableError(Reason.SITE_UNREACHABLE, message)
        return status not in _REFUSALS

    def can_read(self, host: str, port: int, path: str, token: str) -> str | None:
        """Read the first byte of a file, or look at a directory (a path that ends with ``/``)."""
        try:
            answer = self._look(host, port, path, token)
        except UnreachableError as error:
            if deadline.is_over(error):
                # That tells nothing of the file.
                raise
            return error.what
        return None if answer.ok or answer.status == _EMPTY else str(answer)

    def can_read_by_root(self, host: str, port: int, paths: Sequence[str], token: str) -> str | None:
        """Do the same for several by the root protocol, over one connection."""
        return xroot.unreadable((host, port), paths, token, self._bundle)

    def is_refused(self, host: str, port: int, path: str, token: str) -> bool:
        """Do the same, and tell a refusal from everything else.

        Raises
        ------
        UnreachableError
            No answer that tells.
        """
        answer = self._look(host, port, path, token)
        if answer.status in _REFUSALS:
            return True
        if not answer.ok and answer.status not in {_EMPTY, _GONE}:
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, str(answer))
        return False

    def can_write(self, host: str, port: int, path: str, token: str) -> bool:
        """Write an empty file into a directory and remove it, or empty a file.

        Raises
        ------
        UnreachableError
            No answer that tells, or the file could not be removed.
        """
        probe = f"{https.netloc(host, port)}{quote(path, errors='surrogatepass')}"
        if path.endswith("/"):
            probe = f"{probe}.vrse-probe-{secrets.token_hex(8)}"
        written = self._call("PUT", probe, token)
        if written.status in _REFUSALS:
            return False
        if not written.ok:
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, str(written))
        if not path.endswith("/"):
            return True
        # What the session has is not to grow by a probe, also if the time of the visit ends here.
        with deadline.at_least(_TIMEOUT):
            removed = self._call("DELETE", probe, token)
        if not removed.ok and removed.status != _GONE:
            message = f"{removed}, so that the probe stays there: remove it by hand"
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, message)
        return True

    def _look(self, host: str, port: int, path: str, token: str) -> _Answer:
        method, headers = ("PROPFIND", {"Depth": "0"}) if path.endswith("/") else ("GET", _FIRST_BYTE)
        return self._call(method, https.netloc(host, port) + quote(path, errors="surrogatepass"), token, headers)

    def _call(self, method: str, where: str, token: str, headers: dict[str, str] | None = None) -> _Answer:
        call = f"{method} https://{where}"
        headers = https.bearer(token) | (headers or {})
        try:
            # A new connection each time: XRootD lets a connection keep what it was once allowed, and drops it after
            # a refused PUT. Streamed: a server that ignores the range must not send us the whole file.
            with (
                https.bounded(_DEADLINE, _MOST),
                https.session(self._bundle) as session,
                session.request(
                    method, f"https://{where}", headers=headers, timeout=_TIMEOUT, allow_redirects=False, stream=True
                ) as answer,
            ):
                start = next(answer.iter_content(_WORDS), b"")
                return _Answer(call, answer.status_code, https.told(start.decode(errors="replace").strip(), token))
        except _NO_ANSWER as error:
            message = f"{call} got no answer: {https.told(error, token)}"
            raise UnreachableError(Reason.BUFFER_UNREACHABLE, message) from error
