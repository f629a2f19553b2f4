"""What the buffer is asked by https: what is there, and to rename, write or remove a file."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from volatile_rse.session.errors import SessionError

__all__ = ["WebDav", "Written"]

_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_TOLD = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT, HTTPStatus.MULTI_STATUS, HTTPStatus.NOT_FOUND)
"""Whatever else is answered tells nothing of a file."""
_WRITTEN = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT)
_WORDS = 300
"""Bytes of an answer that are told."""
_WRITING = 600
"""Seconds within which some bytes of a file are taken, or its end confirmed."""
_DAV = "{DAV:}"


class Written(NamedTuple):
    """A file that the session wrote."""

    path: str
    """Below its folder."""
    bytes: int


class _Answer(NamedTuple):
    status: int
    body: bytes


class WebDav:
    """A client of the buffer's https.

    Parameters
    ----------
    url
        ``https://host:port``.
    authority
        File of the certificates that are trusted, and no others.
    token
        Gives the token of now.
    rse
        Name of the buffer, for what is told.
    """

    def __init__(self, url: str, authority: Path, token: Callable[[], str], rse: str) -> None:
        self._url = url
        self._authority = authority
        self._token = token
        self._rse = rse

    def context(self) -> ssl.SSLContext:
        """Give what trusts the buffer's authority and nobody else.

        Raises
        ------
        SessionError
            Its certificates cannot be read.
        """
        try:
            return ssl.create_default_context(cafile=str(self._authority))
        except OSError as error:
            message = f"{self._authority} cannot be read ({error.strerror}): the session is over, or try again later."
            raise SessionError(message) from error

    def there(self, paths: Iterable[str], seconds: float = 30) -> Iterator[bool]:
        """Say of each file whether it is there; a staged one is whole as soon as it is.

        Raises
        ------
        SessionError
            The buffer does not answer, or refuses to tell.
        """
        with self._opened(seconds) as connection:
            for path in paths:
                yield self._ask(connection, "HEAD", path, {}).status == HTTPStatus.OK

    def written(self, folder: str, seconds: float = 30) -> Iterator[Written]:
        """Find the files below a folder; there are none where it is not there.

        Raises
        ------
        SessionError
            The buffer does not answer, or refuses to tell.
        """
        pending = [folder]
        with self._opened(seconds) as connection:
            while pending:
                for path, size in self._entries(connection, pending.pop()):
                    if size is None:
                        pending.append(path)
                    else:
                        yield Written(path[len(folder) + 1 :], size)

    def read(self, path: str, seconds: float = 30) -> str:
        """Read a file of text.

        Raises
        ------
        SessionError
            It is not there, or the buffer does not answer or refuses.
        """
        with self._opened(seconds) as connection:
            answer = self._ask(connection, "GET", path, {})
        if answer.status == HTTPStatus.NOT_FOUND:
            message = f"{path} is not on {self._rse}: the buffer is still being prepared; ask again in a minute."
            raise SessionError(message)
        return answer.body.decode()

    def upload(self, source: Path, target: str) -> None:
        """Write a file; one of that name is replaced.

        Raises
        ------
        SessionError
            It cannot be read, or the buffer does not answer, refuses or has no room.
        """
        try:
            file = source.open("rb")
        except OSError as error:
            message = f"{source} cannot be read ({error.strerror}): write and close it first."
            raise SessionError(message) from error
        with file, self._opened(_WRITING) as connection:
            size = {"Content-Length": str(source.stat().st_size)}
            status = self._ask(connection, "PUT", target, size, file).status
        if status not in _WRITTEN:
            message = f"{self._rse} has not taken {target} ({status}): try again; if it stays so, tell your admin."
            raise SessionError(message)

    def rename(self, source: str, target: str) -> None:
        """Rename a file.

        Raises
        ------
        SessionError
            It is not there, or the buffer does not answer or refuses.
        """
        # XRootD takes the destination as it stands, and decodes nothing of it.
        destination = f"{self._url}{target}".encode(errors="surrogateescape")
        with self._opened(30) as connection:
            status = self._ask(connection, "MOVE", source, {"Destination": destination}).status
        if status == HTTPStatus.NOT_FOUND:
            message = f"{source} is not on {self._rse}: write and close it first."
            raise SessionError(message)

    def put(self, path: str, content: bytes) -> None:
        """Write a small file.

        Raises
        ------
        SessionError
            The buffer does not answer, or refuses.
        """
        with self._opened(30) as connection:
            status = self._ask(connection, "PUT", path, {"Content-Length": str(len(content))}, content).status
        if status not in _WRITTEN:
            message = f"{self._rse} has not taken {path} ({status}): the session is over, or ask again in a minute."
            raise SessionError(message)

    def delete(self, path: str) -> None:
        """Remove a file; one that is not there is removed already.

        Raises
        ------
        SessionError
            The buffer does not answer, or refuses.
        """
        with self._opened(30) as connection:
            self._ask(connection, "DELETE", path, {})

    def _entries(self, connection: http.client.HTTPSConnection, folder: str) -> Iterator[tuple[str, int | None]]:
        answer = self._ask(connection, "PROPFIND", folder + "/", {"Depth": "1"})
        if answer.status == HTTPStatus.NOT_FOUND:
            return
        try:
            tree = ET.fromstring(answer.body.decode(errors="replace"))  # noqa: S314 - of the session's own buffer
        except ET.ParseError as error:
            message = f"{self._rse} lists {folder} in a way that cannot be read ({error}): a name there is odd."
            raise SessionError(message) from error
        for response in tree.iter(f"{_DAV}response"):
            # XRootD tells paths as they are, not quoted.
            path = (response.findtext(f"{_DAV}href") or "").rstrip("/")
            if not path.startswith(f"{folder}/"):
                continue
            is_folder = response.find(f".//{_DAV}collection") is not None
            yield path, None if is_folder else int(response.findtext(f".//{_DAV}getcontentlength") or 0)

    @contextmanager
    def _opened(self, seconds: float) -> Iterator[http.client.HTTPSConnection]:
        where = urlsplit(self._url)
        connection = http.client.HTTPSConnection(
            where.hostname or "", where.port or 443, timeout=seconds, context=self.context()
        )
        try:
            yield connection
        except (OSError, http.client.HTTPException) as error:
            what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            message = (
                f"{self._rse} does not answer at {self._url} ({type(error).__name__}: {what}). If the session is over, "
                "create another VolatileRSE; if not, ask again in a minute: kubectl get vrse says how it is."
            )
            raise SessionError(message) from error
        finally:
            connection.close()

    def _ask(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        headers: Mapping[str, str | bytes],
        body: BinaryIO | bytes | None = None,
    ) -> _Answer:
        sent: dict[str, str | bytes] = {"Authorization": f"Bearer {self._token()}", **headers}
        if method not in ("GET", "HEAD"):
            sent.setdefault("Content-Length", "0")
        connection.request(method, quote(path, errors="surrogateescape"), body=body, headers=sent)
        answer = connection.getresponse()
        words = answer.read()
        if answer.status in _REFUSALS:
            message = (
                f"{self._rse} refuses {method} {path} ({answer.status}): the session is over (create another "
                "VolatileRSE), or that is not this session's."
            )
            raise SessionError(message)
        if answer.status not in _TOLD:
            said = words[:_WORDS].decode(errors="replace").strip()
            message = f"{self._rse} cannot {method} {path} ({answer.status}): {said or 'it says no more'}."
            raise SessionError(message)
        return _Answer(answer.status, words)
