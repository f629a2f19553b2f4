"""A lease: it holds the session for work that runs where no pod of the session does."""

from __future__ import annotations

import os
import re
import socket
import threading
import warnings
from collections.abc import Callable
from types import TracebackType

from volatile_rse.session.errors import SessionError
from volatile_rse.session.webdav import WebDav

__all__ = ["Lease", "path_of", "usual_name"]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 7 * 86400
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SHARE = 3
"""A lease is renewed when so much of its time is over, as a part of it."""
_AGAIN = 30.0
"""Seconds until a renewal that failed is tried again, at most."""


class Lease:
    """One lease; in a ``with`` it is taken, renewed as long as that takes, and released.

    Parameters
    ----------
    webdav
        Gives a client that knows the address of now.
    path
        On the buffer.
    hold
        For how long it holds the session from its last renewal on.
    """

    def __init__(self, webdav: Callable[[], WebDav], path: str, hold: str) -> None:
        self._webdav = webdav
        self._path = path
        self._hold = hold
        self._seconds = _seconds_of(hold)
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """What it is called on the buffer."""
        return self._path.rpartition("/")[2]

    def renew(self) -> None:
        """Take it, or let it hold anew from now on.

        Raises
        ------
        SessionError
            The session is over, or the buffer does not answer.
        """
        self._webdav().put(self._path, self._hold.encode())

    def release(self) -> None:
        """Give it up; one that is not there is given up already.

        Raises
        ------
        SessionError
            As above; then it ends by its own time.
        """
        self._webdav().delete(self._path)

    def __enter__(self) -> Lease:  # noqa: PYI034 (Python 3.9 has no Self)
        self.renew()
        self._thread = threading.Thread(target=self._renewing, name=f"lease {self.name}", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self.release()
        except SessionError as trouble:
            # What was computed is not to be lost for that.
            warnings.warn(f"Lease {self.name} ends by its own time: {trouble}", RuntimeWarning, stacklevel=2)

    def _renewing(self) -> None:
        usual = self._seconds / _SHARE
        pause, before = usual, ""
        while not self._done.wait(pause):
            trouble = self._trouble()
            if trouble and trouble != before:
                warnings.warn(f"Lease {self.name} is not renewed: {trouble}", RuntimeWarning, stacklevel=1)
            pause, before = min(_AGAIN, usual) if trouble else usual, trouble

    def _trouble(self) -> str:
        """Renew it; say what keeps that from being done."""
        try:
            self.renew()
        except SessionError as trouble:
            return str(trouble)
        return ""


def usual_name() -> str:
    """Name a lease after this process: none of a job releases that of another one, or of the job's script."""
    job, host = os.environ.get("SLURM_JOB_ID"), socket.gethostname()
    found = f"slurm-{job}-{host[:30]}-{os.getpid()}" if job else f"{host}-{os.getpid()}"
    return re.sub(r"[^A-Za-z0-9._-]", "-", found)[-63:].lstrip("._-") or "job"


def path_of(folder: str, name: str) -> str:
    """Give the path of a lease.

    Raises
    ------
    SessionError
        It cannot be called so.
    """
    if _NAME.fullmatch(name) is None:
        message = f"{name!r} is no name of a lease: up to 63 letters, digits, '.', '_' and '-', as in job-42."
        raise SessionError(message)
    return f"{folder}/{name}"


def _seconds_of(hold: str) -> int:
    """Give the seconds of a duration.

    Raises
    ------
    SessionError
        It is none, or longer than a lease may hold.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,9})([smhd])", hold, re.ASCII)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST:
        message = f"{hold!r} is no time of a lease: a whole number and one of s, m, h, d, such as 90m, and at most 7d."
        raise SessionError(message)
    return seconds
