"""The session that this program is part of."""

from __future__ import annotations

import base64
import binascii
import json
import os
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from volatile_rse.session.errors import SessionError
from volatile_rse.session.inputs import Input, InputFile, by_input, read_list
from volatile_rse.session.leases import Lease, path_of, usual_name
from volatile_rse.session.mounted import Mounted, mounted
from volatile_rse.session.paths import below
from volatile_rse.session.prepared import Prepared, announce, make_private, prepare, private_folder
from volatile_rse.session.table import Row, Table, duration, size
from volatile_rse.session.told import inputs_told, is_arriving, read_status, rest_told
from volatile_rse.session.webdav import WebDav, Written

__all__ = ["Session", "current"]

_EVERY = 5.0
"""Seconds between two looks at the mounted files."""
_LIST_KEPT = 60.0
"""Seconds for which a long list of inputs is not read again from the buffer."""
_PATIENCE = 3.0
"""Seconds that each line of the table may take to find out."""


class Session:
    """What a session has; ``current()`` gives it.

    Parameters
    ----------
    found
        The mounted objects.
    """

    def __init__(self, found: Mounted) -> None:
        self._mounted = found
        self._folder = private_folder(found)
        self._stamp: tuple[object, ...] = ()
        self._prepared = self._refreshed()
        self._list: tuple[str, float, list[InputFile]] | None = None
        self._pending: dict[tuple[str, str], deque[InputFile]] = {}

    @property
    def rse(self) -> str:
        """Name of the RSE in Rucio."""
        return self._mounted.value("VRSE_RSE")

    @property
    def inputs(self) -> Mapping[str, Input]:
        """The inputs by name, with their files, as they were resolved; a file may still have to arrive."""
        return by_input(self._files())

    @property
    def outputs(self) -> list[Written]:
        """The files that are in the outbox now."""
        return sorted(self._webdav().written(self._outbox))

    @property
    def token_file(self) -> Path:
        """A file with the token that clients of XRootD take; it is kept up to date."""
        return self._refreshed().token

    def files(self, name: str, *, https: bool = False, staged: bool = False) -> list[str]:
        """Give the URLs of the files of an input, for ROOT, or for what reads by https.

        Parameters
        ----------
        https
            ``https://``, of which ``https_options()`` says what a client needs; else ``root://``.
        staged
            Only those that have arrived: all have, but where ``minimumPercent`` of the input is less than 100.

        Raises
        ------
        SessionError
            There is no input of that name, or the buffer does not answer.
        """
        self._refreshed()
        known = self.inputs
        if name not in known:
            message = f"{self.rse} has no input {name!r}; it has {', '.join(known) or 'none'}."
            raise SessionError(message)
        files: Iterable[InputFile] = known[name].files
        if staged:
            there = self._webdav().there(file.path for file in known[name].files)
            files = [file for file, is_there in zip(known[name].files, there) if is_there]
        urls = [self._url(file.path, https=https) for file in files]
        if odd := [] if https else [url for url in urls if "#" in url]:
            message = f"ROOT opens no root:// URL with # in it, as {odd[0]} has: read such files by https=True."
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return urls

    def fileset(
        self, treename: str = "Events", *, https: bool = True, staged: bool = False
    ) -> dict[str, dict[str, dict[str, str]]]:
        """Give all inputs as coffea wants them: ``{name: {"files": {url: treename}}}``.

        By https, as uproot reads best, and beside ROOT in one process.
        """
        urls = {name: self.files(name, https=https, staged=staged) for name in self.inputs}
        return {name: {"files": dict.fromkeys(found, treename)} for name, found in urls.items()}

    def https_options(self) -> dict[str, object]:
        """Give what aiohttp, and so fsspec and uproot, need to read by https: the token of now, and whom to trust.

        Renewed tokens are not part of it: ask again for each file that is opened.
        """
        return {"headers": {"Authorization": f"Bearer {self._mounted.token()}"}, "ssl": self._webdav().context()}

    def path(self, relative: str, *, https: bool = False) -> str:
        """Give the URL of a file of the outbox, to be written or read.

        It is kept if an output of the VolatileRSE names its path.

        Raises
        ------
        SessionError
            The path leads out of the outbox, or cannot be part of a URL.
        """
        self._refreshed()
        path = below(self._outbox, relative)
        if "#" in path and not https:
            message = (
                f"{relative!r} has # in it, after which ROOT takes nothing of a root:// URL as a path: use another."
            )
            raise SessionError(message)
        return self._url(path, https=https)

    def upload(self, source: str | os.PathLike[str], relative: str) -> None:
        """Copy a file of this machine into the outbox, by https; one of that path is replaced.

        For what is written by a library that cannot write to the buffer itself.

        Raises
        ------
        SessionError
            The path is none of the outbox, the file cannot be read, or the buffer refuses or has no room.
        """
        path = below(self._outbox, relative)
        self._refreshed()
        self._webdav().upload(Path(source), path)

    def publish(self, relative: str) -> None:
        """Have a file of the outbox kept at once: it is renamed into the publish folder, and can no longer be changed.

        Raises
        ------
        SessionError
            It is not there, the session has no output with ``register: Continuous``, or the buffer refuses.
        """
        source, folder = below(self._outbox, relative), self._mounted.optional("VRSE_PUBLISH")
        if folder is None:
            message = (
                f"{self.rse} keeps nothing before the session ends: no output of the VolatileRSE has register: "
                f"Continuous. {source} is kept at the end, if an output names it."
            )
            raise SessionError(message)
        self._refreshed()
        self._webdav().rename(source, below(folder, relative))

    def lease(self, name: str | None = None, hold: str = "1h") -> Lease:
        """Hold the session from where no pod of it runs: in a batch job, or for the time in its queue.

        Parameters
        ----------
        name
            Whatever tells it from other leases of the session; None: this process, and its job of Slurm.
        hold
            For how long it holds the session from its last renewal on: a job that is lost ends it so much later.

        Returns
        -------
        Lease
            For a ``with``, in which it is taken, renewed and released; or for its ``renew()`` and ``release()``.

        Raises
        ------
        SessionError
            That is no name or no time, or the session knows no leases.
        """
        folder = self._mounted.optional("VRSE_LEASE")
        if folder is None:
            message = f"{self.rse} knows no leases: an earlier version of the operator has begun this session."
            raise SessionError(message)
        return Lease(self._webdav, path_of(folder, usual_name() if name is None else name), hold)

    def status(self) -> dict[str, Any]:
        """Give what the session's status file says: inputs staged, files written, what is safe, its end, warnings.

        It can be read after the session's end, too, by who has kept its token and authorities.

        Raises
        ------
        SessionError
            There is none, or the buffer does not answer.
        """
        return self._status()

    def _status(self, seconds: float = 30) -> dict[str, Any]:
        path = self._mounted.optional("VRSE_STATUS")
        if path is None:
            message = f"{self.rse} has no status file: its operator is of an earlier version. kubectl get vrse tells."
            raise SessionError(message)
        return read_status(self._webdav().read(path, seconds))

    def __repr__(self) -> str:
        return self._table().text

    def _repr_html_(self) -> str:
        return self._table().html

    @property
    def _outbox(self) -> str:
        return self._mounted.value("VRSE_OUTBOX")

    def _url(self, path: str, *, https: bool) -> str:
        if https:
            return self._mounted.value("VRSE_DAVS_URL") + quote(path)
        # The double slash is what root:// asks for.
        return f"{self._mounted.value('VRSE_ROOT_URL')}/{path}"

    def _webdav(self) -> WebDav:
        found = self._mounted
        return WebDav(found.value("VRSE_DAVS_URL"), found.authority_file, found.token, self.rse)

    def _refreshed(self) -> Prepared:
        """Prepare anew what has changed since the last time, or is there no longer."""
        with _LOCK:
            stamp = self._mounted.stamp()
            if stamp != self._stamp or not self._prepared.is_whole(self._mounted):
                make_private(self._folder)
                try:
                    self._prepared = prepare(self._mounted, self._folder)
                except OSError as error:
                    message = (
                        f"Token and authorities cannot be written to {self._folder} ({error.strerror}): make room "
                        "there, or set TMPDIR to another folder."
                    )
                    raise SessionError(message) from error
                self._stamp = stamp
            return self._prepared

    def _announce(self) -> None:
        announce(self._mounted, self._refreshed())

    def _files(self) -> list[InputFile]:
        text = self._mounted.optional("inputs.jsonl")
        if text is not None:
            return read_list(text)
        url = self._mounted.optional("VRSE_INPUTS_URL")
        if url is None:
            return []
        kept = self._list
        if kept is None or kept[0] != url or time.monotonic() - kept[1] > _LIST_KEPT:
            path = "/" + urlsplit(url).path.lstrip("/")
            self._list = kept = (url, time.monotonic(), read_list(self._webdav().read(path)))
        return kept[2]

    def _table(self) -> Table:
        try:
            status = self._status(_PATIENCE)
        except SessionError:
            status = None
        rows = [Row("RSE", _told(lambda: self.rse))]
        staged, arriving = self._found() if status is None else (inputs_told(status), is_arriving(status))
        rows += staged
        # What is there now: the status file is some seconds late.
        rows.append(Row("written", _told(lambda: self._written("VRSE_OUTBOX"))))
        if self._mounted.optional("VRSE_PUBLISH") is not None:
            rows.append(Row("to be published", _told(lambda: self._written("VRSE_PUBLISH"))))
        if status is None:
            rows.append(Row("time left", _told(self._time_left)))
        else:
            rows += rest_told(status, datetime.now(timezone.utc))
        return Table(tuple(rows), arriving)

    def _found(self) -> tuple[list[Row], bool | None]:
        """Look for the inputs, and tell whether files of them are still to come."""
        try:
            self._mounted.check()
            known = self.inputs
        except SessionError as error:
            return [Row("inputs", f"not known: {error}")], None
        staged = [self._staged(entry) for entry in known.values()]
        if not all(row.known for row in staged):
            return staged, None
        return staged, any(row.share is not None for row in staged)

    def _staged(self, entry: Input) -> Row:
        """Say how much of an input is there; what was once found to be is not looked for again."""
        # The files of an input never change while the session lives.
        pending = self._pending.setdefault((self._outbox, entry.name), deque(entry.files))
        until, asked, why = time.monotonic() + _PATIENCE, list(pending), ""
        unasked = len(asked)
        try:
            for file, is_there in zip(asked, self._webdav().there((file.path for file in asked), _PATIENCE)):
                pending.popleft()
                unasked -= 1
                if not is_there:
                    pending.append(file)
                if time.monotonic() > until:
                    break
        except SessionError as error:
            why = f"; of the others it is not known: {error}"
        there = entry.bytes - sum(file.bytes for file in pending)
        number = f"{len(entry.files) - len(pending)} of {len(entry.files)} files staged"
        amount = f"{size(there)} of {size(entry.bytes)}" if pending else f"{size(entry.bytes)} in all"
        share = None if not pending else there / entry.bytes if entry.bytes else 0.0
        value = f"{'at least ' if unasked else ''}{number}, {amount}{why}"
        return Row(f"input {entry.name}", value, share, known=not why)

    def _written(self, key: str) -> str:
        folder, until = self._mounted.value(key), time.monotonic() + _PATIENCE
        files = total = 0
        least = ""
        for file in self._webdav().written(folder, _PATIENCE):
            if time.monotonic() > until:
                least = "at least "
                break
            files, total = files + 1, total + file.bytes
        return f"{least}{files} files, {size(total)} in {folder}"

    def _time_left(self) -> str:
        end = _expiry(self._mounted.token())
        if end is None:
            return "not known: the token does not say when it ends"
        left = end - datetime.now(timezone.utc)
        if left <= timedelta(0):
            return "none: the token has ended"
        moment = f"{end:%Y-%m-%d %H:%M} UTC"
        return f"at most {duration(left)}: the token ends at {moment}, the session before it, at its status.expires"


def current() -> Session:
    """Give the session that this program is part of, with token, authorities and variables ready for its clients.

    Raises
    ------
    SessionError
        There is none; the words say what to do.
    """
    found = mounted()
    with _LOCK:
        session = _KNOWN.get(found)
        if session is None:
            session = _KNOWN[found] = Session(found)
        if session not in _FOLLOWED:
            _FOLLOWED.add(session)
            threading.Thread(target=_follow, args=(session,), name="volatile-rse-session", daemon=True).start()
    session._announce()  # noqa: SLF001 - no method for others
    return session


_LOCK = threading.RLock()
_KNOWN: dict[Mounted, Session] = {}
_FOLLOWED: weakref.WeakSet[Session] = weakref.WeakSet()
"""Those whose copies a thread of this process keeps up to date."""


def _forked() -> None:
    """Begin anew: a child has none of its parent's threads, neither one that follows nor one that holds the lock."""
    global _LOCK, _FOLLOWED
    _LOCK, _FOLLOWED = threading.RLock(), weakref.WeakSet()


os.register_at_fork(after_in_child=_forked)


def _follow(session: Session) -> None:
    """Keep the copies up to date, as long as the process lives."""
    while True:
        time.sleep(_EVERY)
        try:
            session._refreshed()  # noqa: SLF001 - as above
        except (SessionError, OSError):
            # The session is over, or its files are just being replaced: what was copied stays.
            continue


def _told(look: Callable[[], str]) -> str:
    try:
        return look()
    except SessionError as error:
        return f"not known: {error}"


def _expiry(token: str) -> datetime | None:
    """Read when a token ends; whether it is a good one is the buffer's to judge."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(float(claims["exp"]), timezone.utc)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError, binascii.Error):
        return None
